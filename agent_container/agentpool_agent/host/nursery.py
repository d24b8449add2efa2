# SPDX-License-Identifier: Apache-2.0
"""The host's end of the zygote's socket: workers forked ahead, their ends, and what they use.

The host listens on a SOCK_SEQPACKET socket and has one zygote at a time. When that one ends, its workers
are gone; the host listens on.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import structlog

from agentpool_agent.host.worker import Budget, WorkerChannel
from agentpool_agent.wire import nursery as wire
from agentpool_core.errors import AgentCreationFailed, AgentPoolError, NoWorkers
from agentpool_core.recovery import Cause

log = structlog.get_logger(__name__)

SOCKET_NAME = "zygote.sock"
REFILL_DELAY_SECONDS = 0.02
"""A refill waits this long, so that forking does not compete with the request that took the spare."""
HELLO_SECONDS = 10.0
RECEIVE_BYTES = wire.MAX_PACKET_BYTES


class Nursery:
    """Spare workers, and the link to the process that forks them.

    Args:
        path: where to listen; the directory is readable by host and zygote alone.
        clock: monotonic seconds.
        on_change: called when the zygote came or went.
        on_usage: called with each sample of a worker that is still there.
        on_sample: called with every sample, that of the zygote itself included.
        on_efforts: called with the answer to `look`.
    """

    def __init__(
        self,
        path: Path,
        clock: Callable[[], float],
        *,
        budget: Budget | None = None,
        on_change: Callable[[], None] = lambda: None,
        on_usage: Callable[[WorkerChannel, wire.Sample], None] = lambda _worker, _sample: None,
        on_sample: Callable[[wire.Sample], None] = lambda _sample: None,
        on_efforts: Callable[[Sequence[wire.Effort], float], None] = lambda _efforts, _at: None,
    ) -> None:
        self.hello: wire.Hello | None = None
        self.problem = "No zygote has connected yet."
        self._path = path
        self._clock = clock
        self._budget = budget or Budget()
        self._on_change = on_change
        self._on_usage = on_usage
        self._on_sample = on_sample
        self._on_efforts = on_efforts
        self._listener: socket.socket | None = None
        self._link: socket.socket | None = None
        self._workers: dict[int, WorkerChannel] = {}
        self._spares: deque[WorkerChannel] = deque()
        self._waiting: deque[asyncio.Future[WorkerChannel]] = deque()
        self._asked = 0
        self._wanted = 0
        self._refill: asyncio.TimerHandle | None = None
        self._adopting: set[asyncio.Task[None]] = set()

    @property
    def spares(self) -> int:
        """Workers that wait."""
        return len(self._spares)

    def listen(self) -> None:
        """Bind the socket and accept a zygote whenever there is none."""
        self._path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.setblocking(False)
        listener.bind(str(self._path))
        # Host and zygote are different users of one group; the directory keeps out everybody else.
        os.chmod(self._path, 0o660)
        listener.listen(1)
        self._listener = listener
        asyncio.get_running_loop().add_reader(listener.fileno(), self._accept)

    def keep(self, spares: int) -> None:
        """How many workers are to wait from now on; 0: fork on demand."""
        self._wanted = spares
        self._ask()

    async def take(self, *, forked_now: bool = False) -> WorkerChannel:
        """A worker, from the spares or forked now, or in any case now; the caller bounds the wait.

        Raises NoWorkers when there is no zygote, AgentCreationFailed when it cannot import the agent.
        """
        while self._spares and not forked_now:
            worker = self._spares.popleft()
            if not worker.lost:
                self._refill_soon()
                return worker
        if self._link is None or self.hello is None:
            raise _refusal(self.problem)
        future: asyncio.Future[WorkerChannel] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        self._ask()
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                self._spares.append(future.result())
            raise
        finally:
            with contextlib.suppress(ValueError):
                self._waiting.remove(future)

    def watch(self, worker: WorkerChannel, memory_bytes: int, threads: int, cpu_millis: int = 0) -> None:
        """Have the zygote enforce limits by measurement; `cpu_millis` 0: none."""
        self._send(wire.Watch(worker.number, memory_bytes, threads, cpu_millis))

    def look(self, workers: Sequence[int]) -> None:
        """Have the zygote say how workers came to a core."""
        self._send(wire.Look(list(workers)))

    def kill(self, number: int) -> None:
        """End a worker."""
        self._send(wire.Kill(number))

    def close(self) -> None:
        """Let the zygote go, and with it every worker."""
        loop = asyncio.get_running_loop()
        if self._refill is not None:
            self._refill.cancel()
        if self._listener is not None:
            loop.remove_reader(self._listener.fileno())
            self._listener.close()
            self._listener = None
            self._path.unlink(missing_ok=True)
        self._drop("The host is ending.")

    def _accept(self) -> None:
        if self._listener is None:
            return
        try:
            link, _ = self._listener.accept()
        except OSError:
            return
        link.setblocking(False)
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._listener.fileno())
        self._link = link
        loop.add_reader(link.fileno(), self._receive)
        loop.call_later(HELLO_SECONDS, self._expect_hello, link)

    def _expect_hello(self, link: socket.socket) -> None:
        if self._link is link and self.hello is None:
            self._drop("A zygote connected and said nothing.")

    def _receive(self) -> None:
        link = self._link
        if link is None:
            return
        # Bounded, so that a flood of packets cannot starve the loop; the reader fires again.
        for _ in range(64):
            try:
                data, descriptors, _flags, _address = socket.recv_fds(link, RECEIVE_BYTES, 4)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as exc:
                self._drop(f"The zygote's socket failed: {exc.strerror}.")
                return
            if not data:
                self._drop("The zygote ended.")
                return
            try:
                self._handle(wire.to_host_decoder.decode(data), descriptors)
            except msgspec.DecodeError:
                self._drop("The zygote sent what is no message.")
            if self._link is not link:
                return

    def _handle(self, message: wire.ToHost, descriptors: list[int]) -> None:
        if isinstance(message, wire.Spawned) and len(descriptors) == 1:
            task = asyncio.get_running_loop().create_task(self._adopt(message.worker, descriptors[0]))
            self._adopting.add(task)
            task.add_done_callback(self._adopting.discard)
            return
        for descriptor in descriptors:
            os.close(descriptor)
        if isinstance(message, wire.Hello):
            self._greet(message)
        elif isinstance(message, wire.ImportFailed):
            self._drop(f"The agent cannot be imported: {message.message}")
        elif isinstance(message, wire.CannotFork):
            self._say(f"The zygote cannot fork a worker: {message.message}")
        elif isinstance(message, wire.Exited):
            worker = self._workers.pop(message.worker, None)
            if worker is not None:
                self._forget(worker)
                worker.exited(message.status, message.reason)
        elif isinstance(message, wire.Usage):
            for sample in message.samples:
                self._on_sample(sample)
                worker = self._workers.get(sample.worker)
                if worker is not None:
                    self._on_usage(worker, sample)

        elif isinstance(message, wire.Efforts):
            self._on_efforts(message.efforts, message.at)

    def _say(self, problem: str) -> None:
        if problem != self.problem:
            self.problem = problem
            if problem:
                log.warning("workers_not_made", problem=problem)
            self._on_change()

    def _greet(self, hello: wire.Hello) -> None:
        if hello.protocol != wire.PROTOCOL:
            self._drop(f"The zygote speaks protocol {hello.protocol}, this host {wire.PROTOCOL}.")
            return
        self.hello = hello
        self.problem = ""
        log.info("zygote_connected", entrypoint=hello.entrypoint, missing=sorted(hello.missing))
        self._ask()
        self._on_change()

    async def _adopt(self, number: int, descriptor: int) -> None:
        sock = socket.socket(fileno=descriptor)
        sock.setblocking(False)
        worker = WorkerChannel(number, self.kill, self._clock, self._budget)
        self._workers[number] = worker
        self._asked = max(0, self._asked - 1)
        self._say("")
        # A socket that is connected already: no await that could hang.
        await asyncio.get_running_loop().create_unix_connection(lambda: worker, sock=sock)
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(worker)
                return
        self._spares.append(worker)

    def _forget(self, worker: WorkerChannel) -> None:
        with contextlib.suppress(ValueError):
            self._spares.remove(worker)
            self._refill_soon()

    def _refill_soon(self) -> None:
        if self._refill is None and self._wanted > 0:
            loop = asyncio.get_running_loop()
            self._refill = loop.call_later(REFILL_DELAY_SECONDS, self._refilled)

    def _refilled(self) -> None:
        self._refill = None
        self._ask()

    def _ask(self) -> None:
        if self.hello is None:
            return
        # Who waits takes no worker that waited, so that one too many of these is no help.
        missing = max(self._wanted - len(self._spares), 0) + len(self._waiting) - self._asked
        if missing > 0:
            self._asked += missing
            self._send(wire.Spawn(missing))

    def _send(self, message: wire.ToZygote) -> None:
        if self._link is None:
            return
        try:
            self._link.send(wire.encoder.encode(message))
        except OSError as exc:
            # A zygote that does not read its small messages is as good as gone.
            self._drop(f"The zygote does not answer: {exc.strerror}.")

    def _drop(self, problem: str) -> None:
        self.problem = problem
        self.hello = None
        if self._link is None:
            return
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._link.fileno())
        self._link.close()
        self._link = None
        log.warning("zygote_lost", problem=problem)
        self._asked = 0
        self._spares.clear()
        workers, self._workers = list(self._workers.values()), {}
        for worker in workers:
            worker.end("the zygote ended", Cause.HOST_LOST)
        error = _refusal(problem)
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_exception(error)
        if self._listener is not None:
            loop.add_reader(self._listener.fileno(), self._accept)
        self._on_change()


def _refusal(problem: str) -> AgentPoolError:
    if "import" in problem:
        return AgentCreationFailed(problem)
    return NoWorkers(problem, retry_after_seconds=1.0)
