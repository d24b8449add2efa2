# SPDX-License-Identifier: Apache-2.0
"""The worker's end of its socket to the host."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from agentpool_agent.wire.assembly import FrameBuffer
from agentpool_agent.wire.frames import ToHost, ToWorker, pack, to_worker_decoder

WRITE_BUFFER_BYTES = 1024 * 1024
"""A handler that streams faster than the host reads waits above this."""


class Channel(Protocol):
    """Where frames to the host go."""

    def send(self, frame: ToHost) -> None:
        """Send a frame; never blocks. Raises ValueError for one that is too long."""

    async def drained(self) -> None:
        """Wait until the host has read enough that more may be sent."""

    @property
    def congested(self) -> bool:
        """Whether `drained` would wait."""


class StreamChannel(asyncio.Protocol):
    """Frames over a stream socket; `on_frame` is called on the loop for each one that arrives."""

    def __init__(self, on_frame: Callable[[ToWorker], None]) -> None:
        self._on_frame = on_frame
        self._frames = FrameBuffer()
        self._transport: asyncio.WriteTransport | None = None
        self._resumed = asyncio.Event()
        self._resumed.set()
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the host closed its end, with the error when that was the reason."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Part of asyncio.Protocol."""
        if not isinstance(transport, asyncio.WriteTransport):
            raise TypeError("a worker's channel needs a transport that can be written")
        transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Part of asyncio.Protocol."""
        for body in self._frames.feed(data):
            self._on_frame(to_worker_decoder.decode(body))

    def connection_lost(self, exc: Exception | None) -> None:
        """Part of asyncio.Protocol."""
        self._resumed.set()
        if not self.lost.done():
            self.lost.set_result(None)

    def pause_writing(self) -> None:
        """Part of asyncio.Protocol."""
        self._resumed.clear()

    def resume_writing(self) -> None:
        """Part of asyncio.Protocol."""
        self._resumed.set()

    def send(self, frame: ToHost) -> None:
        """See Channel."""
        if self._transport is not None:
            self._transport.write(pack(frame))

    async def drained(self) -> None:
        """See Channel."""
        # The wait ends with the request's own deadline: every caller is inside one.
        if not self._resumed.is_set():
            await self._resumed.wait()

    @property
    def congested(self) -> bool:
        """See Channel."""
        return not self._resumed.is_set()
