# SPDX-License-Identifier: Apache-2.0
"""An agent that keeps a list of numbers, so that a change which was lost or made twice can be told."""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import AsyncIterator, Mapping

from agentpool_agent import Answer, Context, Event, Rejected, Request

PER_PART = 512


class Ledger:
    """Inputs: {"add": n, "seconds": s} writes n down after some seconds; {"work": s} uses so much CPU;
    "count" tells how many there are; "all" lists them in their order."""

    def __init__(self) -> None:
        self._sealed: list[bytes] = []
        self._open = array("q")

    async def setup(self, context: Context) -> None:
        """Nothing to make ready."""

    async def handle(self, request: Request, context: Context) -> AsyncIterator[Event]:
        """See the class."""
        match request.input:
            case {"add": int(number), "seconds": seconds}:
                await asyncio.sleep(seconds)
                self._add(number)
                yield Answer(self._count)
            case {"work": float(seconds)}:
                context.unchanged()
                ends = time.process_time() + seconds
                while time.process_time() < ends:
                    pass
                yield Answer(self._count)
            case "count":
                context.unchanged()
                yield Answer(self._count)
            case "all":
                context.unchanged()
                yield Answer([*array("q", b"".join(self._sealed)), *self._open])
            case _:
                raise Rejected('Send {"add": n, "seconds": s}, "count" or "all".')

    @property
    def _count(self) -> int:
        return len(self._sealed) * PER_PART + len(self._open)

    def _add(self, number: int) -> None:
        self._open.append(number)
        if len(self._open) == PER_PART:
            self._sealed.append(self._open.tobytes())
            self._open = array("q")

    def snapshot(self) -> Mapping[str, bytes]:
        """Full parts stay the same objects, so that only the last one is written."""
        return {f"{number:06}": part for number, part in enumerate([*self._sealed, self._open.tobytes()])}

    def restore(self, parts: Mapping[str, bytes]) -> None:
        """Take the list on."""
        blocks = [parts[name] for name in sorted(parts)]
        self._sealed, self._open = blocks[:-1], array("q", blocks[-1] if blocks else b"")
