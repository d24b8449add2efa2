# SPDX-License-Identifier: Apache-2.0
"""Agents that are made to be measured."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Mapping

from agentpool_agent import Answer, Chunk, Context, Event, Request


class Ballast:
    """Echoes its input; `{"change": n}` replaces n bytes of its state first."""

    def __init__(self) -> None:
        self._ballast = b""
        self._changes = 0

    async def setup(self, context: Context) -> None:
        """Nothing to prepare."""

    async def handle(self, request: Request, context: Context) -> AsyncIterator[Event]:
        """Change what is asked for, and answer how often that happened."""
        wanted = request.input
        size = wanted.get("change", 0) if isinstance(wanted, dict) else 0
        if size:
            self._changes += 1
            self._ballast = self._changes.to_bytes(8, "big") * (size // 8)
        yield Answer({"changes": self._changes, "echo": wanted})

    def snapshot(self) -> Mapping[str, bytes]:
        """Counter and ballast."""
        return {"changes": str(self._changes).encode(), "ballast": self._ballast}

    def restore(self, parts: Mapping[str, bytes]) -> None:
        """Take both on."""
        self._changes = int(parts.get("changes", b"0"))
        self._ballast = parts.get("ballast", b"")


class Labour:
    """Does what its input asks for, and keeps nothing.

    `{"burn_ms": n}` computes for n milliseconds of its own CPU time; `{"sleep_ms": n}` waits;
    `{"chunks": n, "pause_ms": m}` sends n parts m milliseconds apart; `{"fail": "raise"}` raises;
    `{"fail": "exit"}` ends the process. They may be combined.
    """

    async def setup(self, context: Context) -> None:
        """Nothing to prepare."""

    async def handle(self, request: Request, context: Context) -> AsyncIterator[Event]:
        """Do it, and answer."""
        context.unchanged()
        wanted = request.input
        if wanted.get("fail") == "exit":
            os._exit(3)
        if wanted.get("fail") == "raise":
            raise RuntimeError("this agent was asked to fail")
        burn(wanted.get("burn_ms", 0) / 1000)
        await asyncio.sleep(wanted.get("sleep_ms", 0) / 1000)
        for number in range(wanted.get("chunks", 0)):
            yield Chunk(number)
            await asyncio.sleep(wanted.get("pause_ms", 0) / 1000)
        yield Answer("done")

    def snapshot(self) -> Mapping[str, bytes]:
        """No state."""
        return {}

    def restore(self, parts: Mapping[str, bytes]) -> None:
        """No state."""


def burn(seconds: float) -> None:
    """Compute for so much CPU time of this process: on a busy machine it takes longer, as real work does."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
