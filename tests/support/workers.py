# SPDX-License-Identifier: Apache-2.0
"""The host's side of zygote and workers, as small as it can be: for tests of what is on the other side."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from agentpool_agent.wire import frames
from agentpool_agent.wire import nursery as wire
from agentpool_agent.wire.assembly import FrameBuffer
from support.staging import Staging

TESTS = Path(__file__).parents[1]
SOURCES = (TESTS.parent / "core", TESTS.parent / "agent_container", TESTS)
ANSWER_SECONDS = 10.0
MEBIBYTE = 1024 * 1024
Frame = TypeVar("Frame", bound=msgspec.Struct)


def limits(**changed: Any) -> frames.Limits:
    """Limits of a small worker, with changes."""
    return msgspec.structs.replace(frames.Limits(memory_bytes=64 * MEBIBYTE, setup_seconds=5.0), **changed)


def assign(
    parts: Mapping[str, bytes] | None = None, *, config: object = None, durable: bool = True, **changed: Any
) -> frames.Assign:
    """An Assign of one instance, with changed limits."""
    return frames.Assign(
        "default", "pool", "tenant", "project", "inst-1", 1, msgspec.json.encode(config or {}),
        limits(**changed), durable, dict(parts or {}),
    )  # fmt: skip


@dataclass
class Outcome:
    """How one request ended: the answer, or the failure."""

    output: Any = None
    failure: frames.Failed | None = None
    chunks: list[Any] = field(default_factory=list)


class WorkerLine(asyncio.Protocol):
    """The host's end of one worker's socket. It acknowledges every commit unless told otherwise."""

    def __init__(self, worker: int, pid: int) -> None:
        self.worker = worker
        self.pid = pid
        self.received: deque[frames.ToHost] = deque()
        self.commits: list[frames.Commit] = []
        self.state: dict[str, bytes] = {}
        self.logs: list[str] = []
        self.stages: list[str] = []
        self.failures: list[frames.Failed] = []
        self.acknowledge = True
        self.closed = asyncio.Event()
        self._buffer = FrameBuffer()
        self._arrived = asyncio.Event()
        self._outcomes: dict[int, asyncio.Future[Outcome]] = {}
        self._chunks: dict[int, list[Any]] = {}
        self._ids = itertools.count(1)
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set()
        self._arrived.set()
        for waiting in self._outcomes.values():
            if not waiting.done():
                waiting.set_exception(ConnectionResetError("the worker ended"))

    def data_received(self, data: bytes) -> None:
        for body in self._buffer.feed(data):
            self._take(frames.to_host_decoder.decode(body))
        self._arrived.set()

    def _take(self, frame: frames.ToHost) -> None:
        match frame:
            case frames.Commit():
                self._commit(frame)
            case frames.Failed():
                self.failures.append(frame)
                self._resolve(frame.id, Outcome(failure=frame))
            case frames.Part():
                self._chunks.setdefault(frame.id, []).append(msgspec.json.decode(frame.data))
            case frames.Making():
                self.stages.append(frame.stage)
            case frames.Log():
                self.logs.append(frame.message)
            case _:
                self.received.append(frame)

    def _commit(self, commit: frames.Commit) -> None:
        self.commits.append(commit)
        changed = bool(commit.parts or commit.removed)
        if changed and self.acknowledge:
            self.state.update(commit.parts)
            for name in commit.removed:
                del self.state[name]
            self.send(frames.Committed(commit.seq, True))
        for finished in commit.finished:
            self._resolve(finished.id, Outcome(output=msgspec.json.decode(finished.output)))

    def _resolve(self, request: int, outcome: Outcome) -> None:
        outcome.chunks = self._chunks.pop(request, [])
        waiting = self._outcomes.get(request)
        if waiting is not None and not waiting.done():
            waiting.set_result(outcome)

    def send(self, frame: frames.ToWorker) -> None:
        """Send a frame."""
        assert self._transport is not None
        self._transport.write(frames.pack(frame))

    def close(self) -> None:
        """Close the host's end."""
        if self._transport is not None:
            self._transport.abort()

    async def expect(self, kind: type[Frame], seconds: float = ANSWER_SECONDS) -> Frame:
        """The next frame, which has to be of this kind."""
        async with asyncio.timeout(seconds):
            while not self.received:
                if self.closed.is_set():
                    raise ConnectionResetError("the worker ended")
                self._arrived.clear()
                await self._arrived.wait()
        frame = self.received.popleft()
        assert isinstance(frame, kind), frame
        return frame

    def begin(
        self, body: object, deadline_seconds: float = ANSWER_SECONDS
    ) -> tuple[int, asyncio.Future[Outcome]]:
        """Send a request; its id and its end."""
        request = next(self._ids)
        end = self._outcomes[request] = asyncio.get_running_loop().create_future()
        # A test that does not care how the request ends is not told so again at its own end.
        end.add_done_callback(lambda done: done.cancelled() or done.exception())
        self.send(frames.Handle(request, msgspec.json.encode(body), deadline_seconds))
        return request, self._outcomes[request]

    async def ask(self, body: object, deadline_seconds: float = ANSWER_SECONDS) -> Outcome:
        """Send a request and wait for its end."""
        _, end = self.begin(body, deadline_seconds)
        async with asyncio.timeout(deadline_seconds + 6):
            return await end

    async def until(self, holds: Callable[[], object], seconds: float = ANSWER_SECONDS) -> None:
        """Wait until `holds()` is true, looked at after each arrival."""
        async with asyncio.timeout(seconds):
            while not holds():
                self._arrived.clear()
                await self._arrived.wait()

    async def become(self, wanted: frames.Assign | None = None) -> frames.Ready:
        """Assign an instance and wait until it is ready."""
        self.send(wanted or assign())
        return await self.expect(frames.Ready)


class Nursery:
    """The host's end of the zygote's socket."""

    def __init__(self, sock: socket.socket, process: asyncio.subprocess.Process, run_dir: Path) -> None:
        self.process = process
        self.run_dir = run_dir
        self.lines: dict[int, WorkerLine] = {}
        self.exits: dict[int, wire.Exited] = {}
        self.usage: dict[int, wire.Sample] = {}
        self.first: wire.Hello | wire.ImportFailed | None = None
        self._sock = sock
        self._changed = asyncio.Condition()
        self._reader: asyncio.Task[None] | None = None
        self._closed = False

    def start(self) -> None:
        self._reader = asyncio.get_running_loop().create_task(self._read())

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            readable = loop.create_future()
            loop.add_reader(self._sock, _resolve, readable)
            await readable
            loop.remove_reader(self._sock)
            packet, descriptors, _, _ = socket.recv_fds(self._sock, wire.MAX_PACKET_BYTES, 1)
            if not packet:
                return
            await self._take(wire.to_host_decoder.decode(packet), descriptors)
            async with self._changed:
                self._changed.notify_all()

    async def _take(self, message: wire.ToHost, descriptors: list[int]) -> None:
        match message:
            case wire.Hello() | wire.ImportFailed():
                self.first = message
            case wire.Spawned():
                line = WorkerLine(message.worker, message.pid)
                sock = socket.socket(fileno=descriptors[0])
                await asyncio.get_running_loop().create_connection(lambda: line, sock=sock)
                self.lines[message.worker] = line
            case wire.Exited():
                self.exits[message.worker] = message
            case wire.Usage():
                self.usage.update({sample.worker: sample for sample in message.samples})

    def send(self, message: wire.ToZygote) -> None:
        """Send a packet to the zygote."""
        self._sock.send(wire.encoder.encode(message))

    async def until(self, holds: Callable[[], bool], seconds: float = ANSWER_SECONDS) -> None:
        """Wait until `holds()` is true, looked at after each packet."""
        async with asyncio.timeout(seconds), self._changed:
            await self._changed.wait_for(holds)

    async def spawn(self, count: int = 1, seconds: float = ANSWER_SECONDS) -> list[WorkerLine]:
        """Fork workers and wait for them."""
        before = set(self.lines)
        self.send(wire.Spawn(count))
        await self.until(lambda: len(self.lines) >= len(before) + count, seconds)
        return [line for worker, line in self.lines.items() if worker not in before]

    async def exited(self, line: WorkerLine, seconds: float = ANSWER_SECONDS) -> wire.Exited:
        """Wait for a worker's end."""
        await self.until(lambda: line.worker in self.exits, seconds)
        return self.exits[line.worker]

    def memory_of(self, line: WorkerLine) -> int:
        """What the zygote reported last of a worker, 0 before it did."""
        sample = self.usage.get(line.worker)
        return sample.memory_bytes if sample else 0

    async def close(self) -> int:
        """End host and zygote; the zygote's exit status."""
        if self._closed:
            return await self.process.wait()
        self._closed = True
        if self._reader is not None:
            self._reader.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            if self._reader is not None:
                await self._reader
        asyncio.get_running_loop().remove_reader(self._sock)
        self._sock.close()
        for line in self.lines.values():
            line.close()
        async with asyncio.timeout(ANSWER_SECONDS):
            return await self.process.wait()


async def eventually(holds: Callable[[], bool], seconds: float = ANSWER_SECONDS) -> None:
    """Wait for something that sends no event, such as a file that another process removes."""
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


@contextlib.asynccontextmanager
async def nursery_of(
    agent: str, *, off: tuple[str, ...] = (), uid: int | None = None, app_dirs: tuple[Path, ...] = ()
) -> AsyncIterator[Nursery]:
    """A zygote for an agent (`module:Class`), started as `uid` when given, with guards left out by name."""
    with tempfile.TemporaryDirectory(prefix="agentpool-test-", ignore_cleanup_errors=True) as name:
        run_dir = Path(name)
        with _listener(run_dir, uid) as listener:
            process = await _start(agent, run_dir, off, uid, app_dirs)
            try:
                nursery = Nursery(await _accept(listener, process), process, run_dir)
                nursery.start()
                await nursery.until(lambda: nursery.first is not None)
                try:
                    yield nursery
                finally:
                    await nursery.close()
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()


@contextlib.contextmanager
def _listener(run_dir: Path, uid: int | None) -> Iterator[socket.socket]:
    run_dir.chmod(0o755)
    work = run_dir / "work"
    work.mkdir(mode=0o700)
    if uid is not None:
        os.chown(work, uid, uid)
    path = run_dir / "nursery.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(os.fspath(path))
        path.chmod(0o777)
        listener.listen(1)
        listener.setblocking(False)
        yield listener


async def _start(
    agent: str, run_dir: Path, off: tuple[str, ...], uid: int | None, app_dirs: tuple[Path, ...]
) -> asyncio.subprocess.Process:
    staging = Staging(uid, run_dir / "checkout")
    staging.place.mkdir()
    sources = [str(staging.path(directory)) for directory in (*SOURCES, *app_dirs)]
    command = ["--socket", f"{run_dir}/nursery.sock", "--entrypoint", agent, "--work-dir", f"{run_dir}/work"]
    for directory in sources:
        command += ["--app-dir", directory]
    module = "support.unguarded_zygote" if off else "agentpool_agent.zygote"
    for guard in off:
        command += ["--off", guard]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sources)}
    return await asyncio.create_subprocess_exec(
        *staging.command(["-P", "-m", module, *command]), env=environment
    )


async def _accept(listener: socket.socket, process: asyncio.subprocess.Process) -> socket.socket:
    loop = asyncio.get_running_loop()
    accepting = loop.create_task(loop.sock_accept(listener))
    ending = loop.create_task(process.wait())
    await asyncio.wait({accepting, ending}, timeout=ANSWER_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    ending.cancel()
    if not accepting.done():
        accepting.cancel()
        raise AssertionError(f"the zygote did not connect; its status is {process.returncode}")
    accepted, _ = accepting.result()
    accepted.setblocking(False)
    return accepted
