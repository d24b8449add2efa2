# SPDX-License-Identifier: Apache-2.0
"""A counter, which fails on demand: for tests of state, commits and rollbacks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

from agentpool_agent import Answer, Chunk, Context, Event, Rejected, Request


class Counter:
    """Counts its requests.

    Inputs: "add" answers the new count; "get" answers it unchanged; "config" answers the configuration;
    "slow" counts before it waits until cancelled; "exclusive" counts in two steps around an await; "reject"
    and "raise" count and then fail; "stream" answers in chunks; {"blob": n} keeps n bytes; {"sleep": s}
    waits.
    """

    def __init__(self) -> None:
        self.count = 0
        self.blob = b""

    async def setup(self, context: Context) -> None:
        """Nothing to make ready."""

    async def handle(self, request: Request, context: Context) -> AsyncIterator[Event]:
        """See the class."""
        match request.input:
            case "get":
                context.unchanged()
            case "config":
                context.unchanged()
                yield Answer(dict(context.config))
                return
            case "slow":
                self.count += 1
                await asyncio.sleep(3600)
            case "exclusive":
                async with context.exclusive():
                    self.count += 1
                    await asyncio.sleep(0.02)
                    self.count += 1
            case "reject":
                self.count += 1
                raise Rejected("no")
            case "raise":
                self.count += 1
                raise ValueError("boom")
            case "stream":
                for number in range(3):
                    yield Chunk(number)
                self.count += 1
            case {"blob": size}:
                self.blob = bytes(size)
            case {"answer": size}:
                yield Answer("x" * size)
                return
            case {"sleep": seconds}:
                context.unchanged()
                await asyncio.sleep(seconds)
            case _:
                self.count += 1
        yield Answer(self.count)

    def snapshot(self) -> Mapping[str, bytes]:
        """The count, and the blob."""
        return {"count": str(self.count).encode(), "blob": self.blob}

    def restore(self, parts: Mapping[str, bytes]) -> None:
        """Both back."""
        self.count = int(parts.get("count", b"0"))
        self.blob = parts.get("blob", b"")
