# SPDX-License-Identifier: Apache-2.0
"""Making an instance leave: checkpointed, ownership given back, worker ended; or it stays as it was.

While one leaves, its requests wait (`Resident.settled`); a refused checkpoint means that it stays.
"""

from __future__ import annotations

import asyncio

import structlog

from agentpool_agent.host.instance import Resident
from agentpool_agent.host.quota import carried
from agentpool_agent.host.settings import Role
from agentpool_agent.host.state import Host
from agentpool_agent.host.table import Entry, idle_entries
from agentpool_core.errors import AgentPoolError, OwnershipLost, PoolExhausted
from agentpool_core.lifecycle import PauseReason, State, Tier, Wish

log = structlog.get_logger(__name__)

LEAVE_SECONDS = 15.0
"""Snapshot and release together; each has a shorter limit of its own."""
FULL_RETRY_SECONDS = 1.0


class Evictions:
    """Evicts instances when room is needed or when they are idle."""

    def __init__(self, host: Host) -> None:
        self._host = host

    async def make_room(self, newcomer: Entry) -> None:
        """Have a free slot for an entry that is in the table already; raises PoolExhausted at once when
        every other instance is in use."""
        host = self._host
        while host.table.taken_slots > host.capacity:
            victim = host.table.victim()
            resident = host.residents.get(victim.instance_id) if victim is not None else None
            if victim is None or resident is None:
                raise PoolExhausted(
                    f"All {host.capacity} instances of this host are in use.",
                    retry_after_seconds=FULL_RETRY_SECONDS,
                )
            if not await self.leave(resident, PauseReason.EVICTED):
                raise PoolExhausted(
                    "An idle instance could not be checkpointed to make room.",
                    retry_after_seconds=FULL_RETRY_SECONDS,
                )
            log.info("instance_evicted", instance=victim.instance_id, room_for=newcomer.instance_id)

    async def leave(
        self, resident: Resident, reason: PauseReason, *, tier: Tier | None = None, cap: int | None = None
    ) -> bool:
        """Checkpoint, release and end a READY instance; False: the store refused, and it stays.

        Args:
            tier: of its next activation; None: the one that it is to have, else the one that it has.
            cap: most instances of that tier; raises PoolExhausted, and it stays.
        """
        entry, host = resident.entry, self._host
        (_, store), tier = host.configured(), tier or entry.move_to
        entry.leaving = True
        resident.settled.clear()
        left = False
        try:
            async with asyncio.timeout(LEAVE_SECONDS):
                if not resident.durable and resident.touched:
                    await resident.checkpoint()
                entry.history = entry.history.calm()
                await host.note(entry, resident.ownership)
                async with resident.saving:
                    await store.release(
                        resident.ownership,
                        reason,
                        rate=carried(resident.bucket, entry),
                        # A termination that was wished outlives a drain.
                        clear_wish=entry.wish is not Wish.TERMINATE,
                        tier=tier,
                        cap=cap,
                    )
            left = True
        except OwnershipLost:
            # Another host has it, in whatever tier.
            left, tier = True, None
        except PoolExhausted:
            raise
        except (AgentPoolError, TimeoutError) as exc:
            # The release may have arrived all the same: what is owned is known after the next claim.
            resident.uncertain_since = host.clock()
            log.warning("checkpoint_refused", instance=entry.instance_id, reason=str(exc))
        finally:
            entry.leaving = False
            resident.settled.set()
            if left:
                self._left(resident, reason, tier)
        return left

    def _left(self, resident: Resident, reason: PauseReason, tier: Tier | None) -> None:
        entry, host = resident.entry, self._host
        if host.residents.get(entry.instance_id) is not resident:
            return
        del host.residents[entry.instance_id]
        resident.stop()
        entry.epoch, entry.wish, entry.last_used = 0, None, host.clock()
        entry.tier, entry.move_to = tier or entry.tier, None
        host.table.move(entry, State.PAUSED, reason)
        host.counters.destroyed += 1
        if reason is PauseReason.EVICTED and not resident.one_shot:
            host.counters.evictions += 1

    async def sweep(self) -> int:
        """Evict what has been idle for too long; returns how many."""
        host = self._host
        config = host.config
        if config is None:
            return 0

        def limit(tier: Tier) -> float | None:
            found = config.tiers.get(tier)
            return None if found is None else found.idle_seconds

        shared = host.settings.role is Role.SHARED
        floors = {Tier.WARM: config.limits.min_instances} if shared else {}
        gone = 0
        for entry in idle_entries(host.table, host.clock(), limit, floors):
            resident = host.residents.get(entry.instance_id)
            if resident is not None and entry.evictable:
                gone += await self.leave(resident, PauseReason.EVICTED)
        return gone
