# SPDX-License-Identifier: Apache-2.0
"""An instance's gate: closed, new requests wait for the active ones to end, and follow what comes then."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from agentpool_agent.host.instance import Resident
from agentpool_agent.host.state import Host

GATE_SECONDS = 5.0
"""Longest time that new requests wait for the active ones to end; no longer than most callers wait."""
POLL_SECONDS = 0.02


class Gate:
    """Closes and opens the gates of one host's instances."""

    def __init__(self, host: Host) -> None:
        self._host = host

    async def idle_behind(self, resident: Resident, wanted: Callable[[], bool]) -> bool:
        """Whether the active requests ended while it is still `wanted`; then the gate is still closed."""
        entry = resident.entry
        resident.settled.clear()
        entry.gated = True
        resident.line.interrupt()
        idle = False
        try:
            await self.until(lambda: entry.active == 0 or not wanted(), GATE_SECONDS)
            idle = entry.active == 0 and not entry.leaving and wanted()
        finally:
            if not idle:
                self.open(resident)
        return idle

    def open(self, resident: Resident) -> None:
        """Let requests through, once it is not leaving."""
        resident.entry.gated = False
        if not resident.entry.leaving:
            resident.settled.set()

    async def until(self, condition: Callable[[], bool], seconds: float) -> None:
        """Return when the condition holds, or after that time."""
        end = self._host.clock() + seconds
        while not condition() and self._host.clock() < end:  # noqa: ASYNC110  # many things can end it
            await asyncio.sleep(POLL_SECONDS)
