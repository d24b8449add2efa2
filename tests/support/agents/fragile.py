# SPDX-License-Identifier: Apache-2.0
"""A counter whose stored state can make it fail: for tests of recovery."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Mapping

from agentpool_agent import Answer, Context, Event, Request


class Fragile:
    """Counts like Counter; its state says how it is to be restored.

    Inputs: "add" answers the new count, "get" the count; "poison" leaves a state on which `restore` crashes;
    "crash" and "hang" fail at once; {"memory": n} asks for n bytes. With `refuse` in its config `restore`
    raises, with `block` it blocks, when there is a state; with `slow` (seconds) setup waits.
    """

    def __init__(self) -> None:
        self.count = 0
        self.poison = b""
        self._config: Mapping[str, object] = {}

    async def setup(self, context: Context) -> None:
        """See the class."""
        self._config = context.config
        time.sleep(float(str(context.config.get("slow", 0))))  # noqa: ASYNC251 - it blocks on purpose

    async def handle(self, request: Request, context: Context) -> AsyncIterator[Event]:
        """See the class."""
        match request.input:
            case "get":
                context.unchanged()
            case "poison":
                self.poison = b"yes"
            case "crash":
                os.abort()
            case "hang":
                time.sleep(3600)  # noqa: ASYNC251 - a hanging agent is what this is
            case {"memory": int() as size}:
                bytearray(size)
            case _:
                self.count += 1
        yield Answer(self.count)

    def snapshot(self) -> Mapping[str, bytes]:
        """The count, and what poisons it."""
        return {"count": str(self.count).encode(), "poison": self.poison}

    def restore(self, parts: Mapping[str, bytes]) -> None:
        """See the class."""
        if parts and self._config.get("refuse"):
            raise ValueError("a format of another version")
        if parts and self._config.get("block"):
            time.sleep(3600)
        if parts.get("poison"):
            os.abort()
        self.count = int(parts.get("count", b"0"))
        self.poison = parts.get("poison", b"")
