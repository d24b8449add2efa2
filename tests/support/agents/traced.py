# SPDX-License-Identifier: Apache-2.0
"""An agent that says in its traces and its log what it does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

from agentpool_agent import Answer, Context, Event, Request


class Traced:
    """Counts its requests in spans of its own. Input "fail" raises in one; {"many": n} opens n of them."""

    def __init__(self) -> None:
        self.count = 0

    async def setup(self, context: Context) -> None:
        """A span that nobody wants, because there is no request yet."""
        with context.span("setup"):
            self.count = 0
        context.log.info("set up")

    async def handle(self, request: Request, context: Context) -> AsyncIterator[Event]:
        """See the class."""
        async with context.span("think", depth=2) as span:
            with context.span("search"):
                await asyncio.sleep(0.01)
            span.set(found=3)
            match request.input:
                case "fail":
                    raise ValueError("boom")
                case {"many": number}:
                    for one in range(number):
                        with context.span(f"one {one}"):
                            pass
        self.count += 1
        await asyncio.to_thread(context.log.info, "counted")
        yield Answer(self.count)

    def snapshot(self) -> Mapping[str, bytes]:
        """The count."""
        return {"count": str(self.count).encode()}

    def restore(self, parts: Mapping[str, bytes]) -> None:
        """The count."""
        self.count = int(parts.get("count", b"0"))
