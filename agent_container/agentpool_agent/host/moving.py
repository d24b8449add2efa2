# SPDX-License-Identifier: Apache-2.0
"""Giving an instance another tier, with its state and without a failed request.

    gate -> active requests end -> checkpoint, release in the new tier -> activation there
New requests wait at the gate, are refused before anything of them was accepted, and follow the instance. An
instance whose requests do not end in time opens its gate again: it is tried anew until it was idle once.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

import structlog

from agentpool_agent.host.activation import Activations, Wanted
from agentpool_agent.host.eviction import LEAVE_SECONDS, Evictions
from agentpool_agent.host.gate import GATE_SECONDS, Gate
from agentpool_agent.host.instance import Resident
from agentpool_agent.host.operations import Operations
from agentpool_agent.host.state import Host
from agentpool_agent.host.table import Entry
from agentpool_agent.host.views import entry_view, record_view
from agentpool_agent.store import Claim, Record
from agentpool_core.errors import AgentPoolError, Conflict, OwnershipLost, StoreUnavailable
from agentpool_core.lifecycle import PauseReason, State, Tier
from agentpool_core.names import Incarnation
from agentpool_proto.v1.types_pb2 import Instance

log = structlog.get_logger(__name__)

OPEN_SECONDS = 20.0
"""How long the gate then stays open, unless the instance is idle before."""
AWAY_SECONDS = 5.0
"""How long an instance that was sent away is not taken back: until its next host has it, or another gateway
knows that it is free."""
MOVE_SECONDS = 600.0
"""After so long without an idle moment the move is given up."""


@dataclass(frozen=True, slots=True)
class Change:
    """What is to change about an instance.

    Attributes:
        tier: None: as it is.
        declared_uid: AgentInstance that declares it from now on; empty: as before.
        pinned: whether its tier is kept whatever the traffic is; None: as before.
        elsewhere: it goes on at another host, in its tier.
    """

    tier: Tier | None = None
    declared_uid: str = ""
    pinned: bool | None = None
    elsewhere: bool = False


class Moves:
    """Moves instances between tiers."""

    def __init__(
        self, host: Host, activations: Activations, evictions: Evictions, operations: Operations
    ) -> None:
        self._host = host
        self._activations = activations
        self._evictions = evictions
        self._operations = operations
        self._gate = Gate(host)
        self._running: dict[str, asyncio.Task[None]] = {}

    async def move(self, instance_id: str, change: Change, ended: frozenset[Incarnation]) -> Instance:
        """Make the change; safe to repeat. A BUSY instance that does not end its requests soon is answered
        as it is, with `wish` Move, and moves later.

        Raises NotOwner, InstanceNotFound, PoolExhausted (the tier is full; nothing changed),
        StoreUnavailable, and what an activation in the new tier on this host raises.
        """
        self._check_reachable(change.tier)
        await self._activations.finished(instance_id)
        resident = await self._operations.settled(instance_id)
        if change.declared_uid or change.pinned is not None:
            await self._mark(instance_id, resident, change)
        if change.elsewhere and change.tier is None:
            return await self._send_away(instance_id, resident)
        if resident is None:
            return await self._place(instance_id, change.tier, ended)
        entry = resident.entry
        if change.tier in (None, entry.tier):
            entry.move_to = None
            return entry_view(self._host, entry)
        entry.move_to = change.tier
        await self._follow(resident)
        return entry_view(self._host, self._host.table.get(instance_id) or entry)

    async def _send_away(self, instance_id: str, resident: Resident | None) -> Instance:
        """Let an instance go on at another host. Raises Conflict when it does not get idle, or is wished
        something else; it then stays."""
        host = self._host
        _, store = host.configured()
        if not store.shared:
            raise Conflict(
                "The pool keeps state in the memory of this host.",
                remedy="Set checkpoint.storage to Redis to move instances between pods.",
            )
        if resident is None:
            return record_view(host, await self._operations.record(instance_id))
        entry = resident.entry

        def wanted() -> bool:
            here = host.residents.get(instance_id) is resident and not host.draining
            return here and entry.wish is None and entry.move_to is None

        if not await self._gate.idle_behind(resident, wanted):
            raise Conflict("The instance does not get idle.", remedy="Try again later.")
        # Before it has left: whoever waits at the gate goes elsewhere then.
        host.send_away(instance_id, AWAY_SECONDS)
        left = False
        try:
            left = await self._evictions.leave(resident, PauseReason.EVICTED)
        finally:
            if not left:
                host.sent_away.pop(instance_id, None)
            self._gate.open(resident)
        if not left:
            raise StoreUnavailable("The instance could not be checkpointed.", retry_after_seconds=1.0)
        log.info("instance_sent_away", instance=instance_id)
        return entry_view(host, host.table.get(instance_id) or entry)

    async def migrate(self, entry: Entry, tier: Tier) -> bool:
        """Give an instance in ERROR, which this host has released, another tier; whether that was done."""
        await self._host.given_back(entry.instance_id)
        if entry.pinned:
            # Whoever chose the tier by hand is told, and decides.
            return False
        try:
            self._check_reachable(tier)
            await self._place(entry.instance_id, tier, frozenset())
        except AgentPoolError as exc:
            log.warning("instance_not_migrated", instance=entry.instance_id, tier=tier, reason=exc.message)
            return False
        return True

    def _check_reachable(self, tier: Tier | None) -> None:
        """State in a host's memory cannot follow an instance to another one."""
        _, store = self._host.configured()
        if tier is not None and not store.shared and tier not in self._host.settings.tiers:
            raise Conflict(
                f"The pool keeps state in the memory of this host, which takes no {tier} instances.",
                remedy="Set checkpoint.storage to Redis to move instances between pods.",
            )

    async def _mark(self, instance_id: str, resident: Resident | None, change: Change) -> None:
        _, store = self._host.configured()
        record = await store.mark(instance_id, declared_uid=change.declared_uid, pinned=change.pinned)
        entry = self._host.table.get(instance_id)
        if entry is not None:
            entry.origin, entry.pinned = record.origin, record.pinned
            self._host.table.changed(instance_id, True)
        if resident is not None:
            resident.ownership = replace(
                resident.ownership, origin=record.origin, declared_uid=record.declared_uid
            )

    async def _follow(self, resident: Resident) -> None:
        """Wait for the move as long as most take; it goes on when that was too short, or nobody waits."""
        instance_id = resident.entry.instance_id
        task = self._running.get(instance_id)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._carry_out(resident), name="move")
            self._running[instance_id] = task
            task.add_done_callback(lambda done: self._ended(instance_id, done))
        done, _ = await asyncio.wait([task], timeout=GATE_SECONDS + LEAVE_SECONDS)
        if done:
            task.result()

    def _ended(self, instance_id: str, task: asyncio.Task[None]) -> None:
        del self._running[instance_id]
        error = None if task.cancelled() else task.exception()
        if isinstance(error, AgentPoolError):
            log.warning("instance_not_moved", instance=instance_id, code=error.code, reason=error.message)
        elif error is not None:
            log.error("background_work_failed", work="move", exc_info=error)

    async def _carry_out(self, resident: Resident) -> None:
        host, entry = self._host, resident.entry
        deadline = host.clock() + MOVE_SECONDS
        try:
            while self._wanted(resident) and host.clock() < deadline:
                if await self._gate.idle_behind(resident, lambda: self._wanted(resident)):
                    await self._leave(resident)
                    return
                host.table.changed(entry.instance_id, True)
                await self._gate.until(lambda: entry.active == 0 or not self._wanted(resident), OPEN_SECONDS)
        finally:
            if entry.wish is None:
                # Otherwise the pause that was wished meanwhile takes the tier along.
                entry.move_to = None

    def _wanted(self, resident: Resident) -> bool:
        entry = resident.entry
        here = self._host.residents.get(entry.instance_id) is resident and not self._host.draining
        # A pause or an end that was wished comes first.
        return here and entry.wish is None and entry.move_to not in (None, entry.tier)

    async def _leave(self, resident: Resident) -> None:
        entry, tier = resident.entry, resident.entry.move_to
        config, _ = self._host.configured()
        if tier is None:
            self._gate.open(resident)
            return
        before = entry.tier
        try:
            left = await self._evictions.leave(
                resident, PauseReason.EVICTED, tier=tier, cap=config.tiers[tier].max_instances
            )
        finally:
            self._gate.open(resident)
        if not left:
            raise StoreUnavailable("The instance could not be checkpointed.", retry_after_seconds=1.0)
        if entry.tier is not tier:
            raise OwnershipLost("Another host holds the instance.", retry_after_seconds=0.1)
        log.info("instance_moved", instance=entry.instance_id, before=before, tier=tier)
        if tier in self._host.settings.tiers:
            await self._activations.activate(Wanted(entry.key, tier))

    async def _place(self, instance_id: str, tier: Tier | None, ended: frozenset[Incarnation]) -> Instance:
        host = self._host
        _, store = host.configured()
        record = await self._operations.record(instance_id)
        if tier is None or (tier is record.tier and record.owner is None):
            return record_view(host, record)
        if record.owner is not None and record.owner in {host.incarnation, *ended}:
            await self._take_and_release(record, tier, ended)
            record = await self._operations.record(instance_id)
        else:
            record = await store.place(instance_id, tier)
        entry = host.table.get(instance_id)
        if entry is not None and entry.state in (State.PAUSED, State.ERROR):
            entry.tier = tier
            host.table.changed(instance_id, True)
        log.info("instance_placed", instance=instance_id, tier=tier)
        return record_view(host, record)

    async def _take_and_release(self, record: Record, tier: Tier, ended: frozenset[Incarnation]) -> None:
        """Left over from a failed release or a dead host: own it to release it."""
        _, store = self._host.configured()
        ownership = await store.claim(Claim(record.key, self._host.incarnation, record.tier, ended=ended))
        await store.release(ownership, PauseReason.EVICTED, clear_wish=False, tier=tier)
