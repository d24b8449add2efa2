# SPDX-License-Identifier: Apache-2.0
"""The parts of one run together: pods, the gateway before them, and a line to each host."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from agentpool_cli.dev.hosts import HostLink
from agentpool_cli.dev.keeper import Keeper
from agentpool_cli.dev.ports import LOOPBACK

POLL_SECONDS = 0.05
READY_REQUEST = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Parts:
    """What runs."""

    pods: Sequence[Keeper]
    gateway: Keeper
    links: Sequence[HostLink]

    @property
    def keepers(self) -> Sequence[Keeper]:
        """All child processes' keepers."""
        return (*self.pods, self.gateway)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """All parts run within the block; at its end the gateway is ended first, then the pods."""
        async with asyncio.TaskGroup() as tasks:
            for keeper in self.keepers:
                tasks.create_task(keeper.run())
            watches = [tasks.create_task(link.run()) for link in self.links]
            try:
                yield
            finally:
                await self.gateway.stop()
                # A watch that is open keeps its host from ending at once.
                await cancelled(watches)
                await asyncio.gather(*(pod.stop() for pod in self.pods))

    def kill(self) -> None:
        """End everything now, without waiting for requests."""
        for keeper in self.keepers:
            keeper.kill()

    def restart_agents(self) -> None:
        """Let every pod start its agents anew, from the code as it is now; state is kept."""
        for pod in self.pods:
            pod.signal(signal.SIGHUP)

    async def wait_ready(self, rest_port: int) -> None:
        """Return once every host takes requests and the gateway is ready; the caller sets the deadline."""
        await asyncio.gather(*(link.wait_ready() for link in self.links))
        while not await is_ready(rest_port):  # noqa: ASYNC110  # another process: nothing to wait on
            await asyncio.sleep(POLL_SECONDS)

    def problems(self) -> list[str]:
        """What hosts report to be wrong."""
        return [
            f"{link.pod.name}: {text}" for link in self.links if link.status for text in link.status.problems
        ]


async def is_ready(port: int) -> bool:
    """Whether the gateway at the loopback port says that it takes requests."""
    try:
        reader, writer = await asyncio.open_connection(LOOPBACK, port)
    except OSError:
        return False
    try:
        writer.write(READY_REQUEST)
        return b" 200 " in await reader.readline()
    except OSError:
        return False
    finally:
        writer.close()


@contextlib.contextmanager
def stop_signals(again: Callable[[], None]) -> Iterator[asyncio.Event]:
    """An event that SIGINT, SIGTERM or SIGHUP sets; a second signal calls `again`."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def handle() -> None:
        if stop.is_set():
            again()
        stop.set()

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for number in numbers:
        loop.add_signal_handler(number, handle)
    try:
        yield stop
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


async def cancelled(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel tasks and wait for their ends."""
    waiting = list(tasks)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
