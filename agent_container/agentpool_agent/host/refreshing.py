# SPDX-License-Identifier: Apache-2.0
"""Residents follow the pool's configuration. A worker keeps what it was given at its start (the agent's own
`config`, limits, isolation, durability), so that each gets a new one when the pool says something else.

One after another, each behind its gate: checkpointed, released, activated again in the same place.
"""

from __future__ import annotations

import structlog

from agentpool_agent.host.activation import Activations, Wanted
from agentpool_agent.host.eviction import Evictions
from agentpool_agent.host.gate import Gate
from agentpool_agent.host.instance import Resident
from agentpool_agent.host.state import Host
from agentpool_agent.host.terms import terms
from agentpool_core.errors import AgentPoolError
from agentpool_core.lifecycle import PauseReason, State

log = structlog.get_logger(__name__)


class Refreshes:
    """Gives residents with outdated terms new workers."""

    def __init__(self, host: Host, activations: Activations, evictions: Evictions) -> None:
        self._host = host
        self._activations = activations
        self._evictions = evictions
        self._gate = Gate(host)
        self._running = False

    def look(self) -> None:
        """Begin when there is something to do; called every second, so that a busy one is tried again."""
        if self._running or self._host.draining or self._host.store_silent or not self._outdated():
            return
        self._running = True
        self._host.spawn(self._run(), "refresh")

    def _outdated(self) -> list[Resident]:
        return [resident for resident in self._host.residents.values() if self._is_outdated(resident)]

    def _is_outdated(self, resident: Resident) -> bool:
        config, entry = self._host.config, resident.entry
        here = self._host.residents.get(entry.instance_id) is resident and not self._host.draining
        # Whatever else was wished of it comes first, and makes a new worker needless.
        undisturbed = entry.wish is None and entry.move_to is None and not resident.dead
        return here and undisturbed and config is not None and resident.terms != terms(config, entry.tier)

    async def _run(self) -> None:
        renewed = 0
        try:
            for resident in self._outdated():
                try:
                    renewed += await self._renew(resident)
                except AgentPoolError as exc:
                    instance = resident.entry.instance_id
                    log.warning(
                        "instance_not_refreshed", instance=instance, code=exc.code, reason=exc.message
                    )
        finally:
            self._running = False
        if renewed:
            log.info("instances_refreshed", count=renewed)

    async def _renew(self, resident: Resident) -> bool:
        entry = resident.entry
        if entry.state not in (State.READY, State.BUSY) or entry.leaving or entry.gated:
            return False
        if not await self._gate.idle_behind(resident, lambda: self._is_outdated(resident)):
            return False
        try:
            left = await self._evictions.leave(resident, PauseReason.EVICTED)
        finally:
            self._gate.open(resident)
        if left and entry.instance_id not in self._host.residents:
            await self._activations.activate(Wanted(entry.key, entry.tier))
        return left
