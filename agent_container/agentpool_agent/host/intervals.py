# SPDX-License-Identifier: Apache-2.0
"""Checkpoints by the clock (`durability: Interval`): changed instances alone, each at its own time in the
interval, so that a thousand of them make a trickle and no burst. A change is saved within one interval.
"""

from __future__ import annotations

import asyncio
import zlib

import structlog

from agentpool_agent.host.instance import Resident
from agentpool_agent.host.state import Host
from agentpool_agent.host.table import RESIDENT
from agentpool_core.config import Durability
from agentpool_core.errors import AgentPoolError

log = structlog.get_logger(__name__)

PARALLEL = 8
"""Snapshots at once: more would only wait for the store."""


def phase(instance_id: str, interval: float) -> float:
    """When in each interval an instance is due; instances spread evenly."""
    return zlib.crc32(instance_id.encode()) / 2**32 * interval


def due(instance_id: str, interval: float, last: float, now: float) -> bool:
    """Whether the instance's time lies after `last` and not after `now`, seconds of one clock."""
    shift = phase(instance_id, interval)
    return (now - shift) // interval > (last - shift) // interval


class Checkpoints:
    """Saves what changed, a few at once."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._looked_at = host.clock()
        self._running = False

    def look(self, now: float) -> None:
        """Begin to save what is due since the last look; while that goes on, nothing more is begun."""
        config = self._host.config
        if config is None or config.checkpoint.durability is not Durability.INTERVAL or self._running:
            return
        interval, last = config.checkpoint.interval_seconds, self._looked_at
        self._looked_at = now
        changed = [
            resident
            for resident in self._host.residents.values()
            if resident.touched
            and not resident.durable
            and resident.entry.state in RESIDENT
            and due(resident.entry.instance_id, interval, last, now)
        ]
        if changed:
            self._running = True
            self._host.spawn(self._save_all(changed), "checkpoints")

    async def _save_all(self, residents: list[Resident]) -> None:
        gate = asyncio.Semaphore(PARALLEL)

        async def save(resident: Resident) -> None:
            async with gate:
                if resident.touched and not resident.dead:
                    await _save(resident)

        try:
            # Bounded: each snapshot has a deadline of its own.
            await asyncio.gather(*(save(resident) for resident in residents))
        finally:
            self._running = False


async def _save(resident: Resident) -> None:
    try:
        await resident.checkpoint()
    except AgentPoolError as exc:
        # It stays marked as changed, and is due again in an interval.
        log.warning("checkpoint_failed", instance=resident.entry.instance_id, reason=exc.message)
