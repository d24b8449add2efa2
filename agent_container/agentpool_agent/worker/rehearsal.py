# SPDX-License-Identifier: Apache-2.0
"""A worker's life played through once in the zygote, with an agent of its own, before any worker is forked.

Whatever happens for the first time writes: to the interpreter's caches of attributes and specialised code, to
lists of free objects, to modules that are imported late. In a worker each such write copies a page that it
shares with all others until then, and takes its time while a request waits. Here it happens once.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from agentpool_agent.authoring import Answer, Context, Event, Isolation, Request
from agentpool_agent.wire.assembly import FrameBuffer
from agentpool_agent.wire.frames import (
    Assign,
    Commit,
    Committed,
    Handle,
    Limits,
    Ready,
    ToHost,
    ToWorker,
    pack,
    to_host_decoder,
)
from agentpool_agent.worker.channel import StreamChannel
from agentpool_agent.worker.runtime import Surroundings, Worker

ANSWERS = 10
"""Python specialises code that has run eight times."""

SECONDS = 30.0
"""Bound of the whole, which takes a few milliseconds."""

RECEIVE_BYTES = 65_536


def rehearse(directory: Path) -> bool:
    """Play it; False: the agent brought an event loop of another kind, which may not survive a fork.

    Leaves neither descriptors nor threads, and touches neither environment nor working directory. Raises
    TimeoutError when the worker does not play its part.
    """
    if type(asyncio.get_event_loop_policy()) is not asyncio.DefaultEventLoopPolicy:
        return False
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(_play(directory))
    finally:
        loop.close()
    return True


async def _play(directory: Path) -> None:
    host_end, worker_end = socket.socketpair()
    with host_end:
        host_end.setblocking(False)
        worker_end.setblocking(False)
        worker = Worker(Surroundings(_Understudy, directory, lambda _: Isolation((), {}), _no_exit))
        loop = asyncio.get_running_loop()
        _, channel = await loop.create_connection(lambda: StreamChannel(worker.on_frame), sock=worker_end)
        worker.attach(channel)
        async with asyncio.timeout(SECONDS):
            await _Host(host_end).ask()
            host_end.shutdown(socket.SHUT_RDWR)
            await channel.lost


def _no_exit(status: int) -> None:
    raise RuntimeError(f"the rehearsed worker wanted to end with status {status}")


class _Host:
    """The host's part."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._frames = FrameBuffer()
        self._read: list[bytes] = []

    async def ask(self) -> None:
        limits = Limits(memory_bytes=1)
        parts = {"answers": b"0"}
        await self._send(
            Assign("namespace", "pool", "tenant", "project", "id", 1, b"{}", limits, True, parts)
        )
        while not isinstance(await self._next(), Ready):
            continue
        for number in range(1, ANSWERS + 1):
            await self._send(Handle(number, b'{"question":"?"}', SECONDS))
            while not isinstance(commit := await self._next(), Commit):
                continue
            await self._send(Committed(commit.seq, ok=True))

    async def _send(self, frame: ToWorker) -> None:
        await asyncio.get_running_loop().sock_sendall(self._sock, pack(frame))

    async def _next(self) -> ToHost:
        while not self._read:
            data = await asyncio.get_running_loop().sock_recv(self._sock, RECEIVE_BYTES)
            self._read += self._frames.feed(data)
        return to_host_decoder.decode(self._read.pop(0))


class _Understudy:
    """Stands in for the agent, whose own code must not run before it is somebody's."""

    def __init__(self) -> None:
        self._answers = 0

    async def setup(self, context: Context) -> None:
        """Nothing to prepare."""

    async def handle(self, request: Request, context: Context) -> AsyncIterator[Event]:
        """Change something, and answer."""
        self._answers += 1
        yield Answer({"answers": self._answers, "echo": request.input})

    def snapshot(self) -> Mapping[str, bytes]:
        """The number of answers."""
        return {"answers": str(self._answers).encode()}

    def restore(self, parts: Mapping[str, bytes]) -> None:
        """Take it on."""
        self._answers = int(parts.get("answers", b"0"))
