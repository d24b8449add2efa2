# SPDX-License-Identifier: Apache-2.0
"""Agents that are made to be measured."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

from agentpool_agent import Answer, Context, Event, Request


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
