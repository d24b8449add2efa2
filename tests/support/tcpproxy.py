# SPDX-License-Identifier: Apache-2.0
"""A TCP proxy that delays and swallows answers, and breaks connections in the middle of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

CHUNK_BYTES = 65536


class TcpProxy:
    """The proxy.

    Attributes:
        only: delay and swallow answers to what has these bytes in it; empty: all.
        delay_seconds: how long each piece of an answer waits.
        swallow: how many more pieces of answers are lost, while the connection stays.
        swallowed: how many were lost.
        cut_after: after how many more pieces of answers the connection of the last one breaks, with only half
            of that piece sent; None: never.
        cuts: how many connections were broken.
        refuse: break new connections at once, and leave those that there are.
    """

    def __init__(self, host: str, port: int) -> None:
        self._upstream = (host, port)
        self.port = 0
        self.only = b""
        self.delay_seconds = 0.0
        self.swallow = 0
        self.swallowed = 0
        self.cut_after: int | None = None
        self.cuts = 0
        self.refuse = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        if self.refuse:
            writer.transport.abort()
            return
        try:
            up_reader, up_writer = await asyncio.open_connection(*self._upstream)
        except OSError:
            writer.transport.abort()
            return
        meant = asyncio.Event()
        there = asyncio.create_task(self._forth(reader, up_writer, meant))
        try:
            # When one end breaks, so does the other.
            with suppress(OSError):
                await self._back(up_reader, writer, meant)
        finally:
            there.cancel()
            await asyncio.gather(there, return_exceptions=True)
            for one in (writer, up_writer):
                one.transport.abort()

    async def _forth(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, meant: asyncio.Event
    ) -> None:
        while piece := await reader.read(CHUNK_BYTES):
            if self.only in piece:
                meant.set()
            else:
                meant.clear()
            writer.write(piece)
            await writer.drain()
        writer.transport.abort()

    async def _back(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, meant: asyncio.Event
    ) -> None:
        while piece := await reader.read(CHUNK_BYTES):
            if meant.is_set() and self.swallow > 0:
                self.swallow, self.swallowed = self.swallow - 1, self.swallowed + 1
                continue
            if meant.is_set() and self.delay_seconds:
                await asyncio.sleep(self.delay_seconds)
            if self.cut_after is not None:
                self.cut_after -= 1
                if self.cut_after <= 0:
                    self.cut_after, self.cuts = None, self.cuts + 1
                    writer.write(piece[: len(piece) // 2])
                    await writer.drain()
                    return
            writer.write(piece)
            await writer.drain()


@asynccontextmanager
async def open_tcp_proxy(host: str, port: int) -> AsyncIterator[TcpProxy]:
    """A proxy on a free loopback port; it ends with the block."""
    proxy = TcpProxy(host, port)
    connections: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(proxy.serve(reader, writer))
        connections.add(task)
        task.add_done_callback(connections.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        for task in list(connections):
            task.cancel()
        with suppress(TimeoutError):
            async with asyncio.timeout(5):
                await asyncio.gather(*connections, return_exceptions=True)
