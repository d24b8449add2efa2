# SPDX-License-Identifier: Apache-2.0
"""Making an instance resident: slot, ownership, state, worker, in that order and once per instance.

    reserve a slot -> claim -> start (see `starting`)
Every failure gives back what was taken before it. No tenant's code runs before ownership is won.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import structlog

from agentpool_agent.host.breaking import breaker_of
from agentpool_agent.host.eviction import Evictions
from agentpool_agent.host.instance import Resident
from agentpool_agent.host.laps import Laps, Stage
from agentpool_agent.host.recovery import Recoveries
from agentpool_agent.host.settings import Role
from agentpool_agent.host.starting import Starts
from agentpool_agent.host.state import Host
from agentpool_agent.host.table import Entry
from agentpool_agent.store import Caps, Claim, Ownership, Record, Store
from agentpool_core.config import EffectivePool
from agentpool_core.errors import AgentPoolError, NoHost, NotOwner, PodTaken, StoreUnavailable
from agentpool_core.lifecycle import Origin, State, Tier
from agentpool_core.names import Incarnation, InstanceKey

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Wanted:
    """An instance that is to become resident here."""

    key: InstanceKey
    tier: Tier | None = None
    ended: frozenset[Incarnation] = frozenset()
    resume: bool = False
    declared_uid: str = ""
    one_shot: bool = False


class Activations:
    """Activates instances, each at most once at a time."""

    def __init__(self, host: Host, evictions: Evictions, starts: Starts, recoveries: Recoveries) -> None:
        self._host = host
        self._evictions = evictions
        self._starts = starts
        self._recoveries = recoveries
        self._running: dict[str, asyncio.Task[Resident]] = {}

    async def activate(self, wanted: Wanted) -> Resident:
        """The resident instance, activated now or by an activation under way; the caller bounds the wait.

        An activation goes on when its caller goes away: others may wait for it, and the next one will.
        """
        instance_id = wanted.key.instance_id
        joined = self._running.get(instance_id)
        if joined is not None:
            try:
                return await asyncio.shield(joined)
            except NotOwner as exc:
                # The one that began it had no proof; this caller may have.
                if exc.details["owner"] not in {str(one) for one in wanted.ended}:
                    raise
        task = self._running.get(instance_id)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._activate(wanted), name="activate")
            self._running[instance_id] = task
            task.add_done_callback(lambda done: self._ended(instance_id, done))
        return await asyncio.shield(task)

    @property
    def running(self) -> int:
        """Activations under way."""
        return len(self._running)

    def under_way(self, instance_id: str) -> bool:
        """Whether the instance is being activated."""
        return instance_id in self._running

    async def finished(self, instance_id: str) -> None:
        """Wait until no activation of the instance is under way; bounded by the activation's own deadline."""
        task = self._running.get(instance_id)
        if task is not None:
            await asyncio.wait([task])

    def _ended(self, instance_id: str, task: asyncio.Task[Resident]) -> None:
        del self._running[instance_id]
        if not task.cancelled():
            # Every caller may have gone; asyncio would complain about an error nobody looked at.
            task.exception()

    async def _activate(self, wanted: Wanted) -> Resident:
        config, store = self._host.admit()
        instance_id, laps = wanted.key.instance_id, Laps(self._host.clock())
        if not wanted.resume:
            self._host.check_sent_away(instance_id)
        await self._host.given_back(instance_id)
        before = self._host.table.get(instance_id)
        record = await store.get(instance_id)
        if not wanted.resume:
            self._recoveries.check(before, record, wanted.ended)
        tier = self._tier(wanted, config, record)
        entry = await self._reserve(wanted.key, tier, before)
        entry.laps = laps
        limit = config.limits.creation_timeout_seconds
        try:
            async with asyncio.timeout(limit):
                ownership = await self._claim(wanted, tier, config, store)
                # Sooner than the next pulse: what is answered from here on can be checked.
                self._host.store_answered()
                laps.mark(Stage.CLAIM, self._host.clock())
        except TimeoutError:
            self._unreserve(entry, before)
            raise StoreUnavailable("The store does not answer.", retry_after_seconds=1.0) from None
        except BaseException:
            self._unreserve(entry, before)
            raise
        self._recoveries.found(entry, before, ownership, resumed=wanted.resume)
        try:
            resident = await self._starts.start(entry, ownership, config, store, one_shot=wanted.one_shot)
        except BaseException:
            if before is not None and self._host.table.get(instance_id) is None:
                # It was not the instance's doing: it is as it was before.
                self._host.table.put(before)
            raise
        if not ownership.fresh and store.shared:
            self._host.spawn(self._recall_wish(entry, store), "recall-wish")
        return resident

    def _tier(self, wanted: Wanted, config: EffectivePool, record: Record | None) -> Tier:
        served = self._host.settings.tiers
        tier = wanted.tier or config.default_tier
        if not wanted.declared_uid:
            # What exists keeps its tier, whoever asks and wherever it wakes.
            if record is not None:
                tier = record.tier
            elif wanted.tier is None and tier not in served:
                tier = served[0]
        if tier not in served:
            if record is None and tier is Tier.HOT and self._host.settings.role is Role.SHARED:
                self._host.awaiting.note(wanted.key, self._host.wall())
                self._host.table.changed(wanted.key.instance_id, True)
            raise NoHost(
                f"This host takes {', '.join(served)} instances, not {tier}.",
                retry_after_seconds=1.0,
                details={"tier": tier.value},
            )
        return tier

    async def _reserve(self, key: InstanceKey, tier: Tier, before: Entry | None) -> Entry:
        host = self._host
        instance_id = key.instance_id
        if host.settings.role is Role.GENERIC:
            others = [entry for entry in host.table if entry.instance_id != instance_id]
            if host.taken_by not in ("", instance_id) or any(e.state is not State.TERMINATED for e in others):
                raise PodTaken("This pod already is another instance's own.", retry_after_seconds=0.1)
        now = host.clock()
        breaker = breaker_of(instance_id, before)
        entry = Entry(key, instance_id, tier, created_at=now, last_used=now, breaker=breaker)
        if before is not None and before.state is State.ERROR:
            entry.state = State.ERROR
            host.table.put(entry)
            host.table.move(entry, State.INITIALIZING)
        else:
            host.table.put(entry)
        try:
            await self._evictions.make_room(entry)
        except BaseException:
            self._unreserve(entry, before)
            raise
        return entry

    def _unreserve(self, entry: Entry, before: Entry | None) -> None:
        self._host.table.remove(entry)
        if before is not None:
            self._host.table.put(before)

    async def _claim(self, wanted: Wanted, tier: Tier, config: EffectivePool, store: Store) -> Ownership:
        limits = config.limits
        tier_cap = config.tiers[tier].max_instances if tier in config.tiers else None
        return await store.claim(
            Claim(
                key=wanted.key,
                owner=self._host.incarnation,
                tier=tier,
                caps=Caps(limits.max_instances, tier_cap, limits.max_instances_per_tenant),
                ended=wanted.ended,
                resume=wanted.resume,
                origin=Origin.DECLARED if wanted.declared_uid else Origin.OBSERVED,
                declared_uid=wanted.declared_uid,
            )
        )

    async def _recall_wish(self, entry: Entry, store: Store) -> None:
        """A wish that the last owner did not live to fulfil."""
        try:
            record = await store.get(entry.instance_id)
        except AgentPoolError as exc:
            log.warning("wish_not_read", instance=entry.instance_id, reason=exc.message)
            return
        if record is None:
            return
        if record.wish is not None and entry.wish is None:
            entry.wish, entry.wished_at = record.wish, self._host.clock()
        entry.pinned = record.pinned
        self._host.table.changed(entry.instance_id, True)
