# SPDX-License-Identifier: Apache-2.0
"""Making an instance resident: slot, ownership, state, worker, in that order and once per instance.

    reserve a slot -> claim -> load -> worker -> Assign -> Ready
Every failure gives back what was taken before it. No tenant's code runs before ownership is won.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import msgspec
import structlog

from agentpool_agent.host.eviction import Evictions
from agentpool_agent.host.instance import Resident, Surroundings
from agentpool_agent.host.quota import RateBucket
from agentpool_agent.host.settings import Role
from agentpool_agent.host.state import Host
from agentpool_agent.host.table import Entry, backoff_seconds
from agentpool_agent.host.worker import WorkerChannel
from agentpool_agent.store import Caps, Claim, Ownership, Store
from agentpool_agent.wire import frames
from agentpool_core.config import Durability, EffectivePool, Network
from agentpool_core.errors import (
    AgentCreationFailed,
    AgentCreationTimeout,
    AgentFailure,
    AgentPoolError,
    InstanceCrashed,
    InstanceFailed,
    NoHost,
    NotOwner,
    PodTaken,
    StoreUnavailable,
)
from agentpool_core.lifecycle import Origin, State, Tier
from agentpool_core.names import Incarnation, InstanceKey

log = structlog.get_logger(__name__)

MAX_STARTING = 8
"""Activations that run tenants' code at once: a wake storm after a move must not starve the residents."""
MAX_THREADS = 32


@dataclass(frozen=True, slots=True)
class Wanted:
    """An instance that is to become resident here."""

    key: InstanceKey
    tier: Tier | None = None
    ended: frozenset[Incarnation] = frozenset()
    resume: bool = False
    declared_uid: str = ""


class Activations:
    """Activates instances, each at most once at a time."""

    def __init__(self, host: Host, evictions: Evictions, around: Surroundings) -> None:
        self._host = host
        self._evictions = evictions
        self._around = around
        self._running: dict[str, asyncio.Task[Resident]] = {}
        self._starting = asyncio.Semaphore(MAX_STARTING)

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

    def _ended(self, instance_id: str, task: asyncio.Task[Resident]) -> None:
        del self._running[instance_id]
        if not task.cancelled():
            # Every caller may have gone; asyncio would complain about an error nobody looked at.
            task.exception()

    async def _activate(self, wanted: Wanted) -> Resident:
        config, store = self._host.admit()
        instance_id = wanted.key.instance_id
        await self._host.given_back(instance_id)
        before = self._host.table.get(instance_id)
        if before is not None and before.state is State.ERROR and self._host.clock() < before.retry_at:
            raise InstanceFailed(
                f"The instance is in ERROR: {before.reason}",
                retry_after_seconds=before.retry_at - self._host.clock(),
            )
        tier = await self._tier(wanted, config, store)
        entry = await self._reserve(wanted.key, tier, before)
        limit = config.limits.creation_timeout_seconds
        try:
            async with asyncio.timeout(limit):
                ownership = await self._claim(wanted, tier, config, store)
        except TimeoutError:
            self._unreserve(entry, before)
            raise StoreUnavailable("The store does not answer.", retry_after_seconds=1.0) from None
        except BaseException:
            self._unreserve(entry, before)
            raise
        return await self._start(entry, ownership, config, store)

    async def _tier(self, wanted: Wanted, config: EffectivePool, store: Store) -> Tier:
        served = self._host.settings.tiers
        tier = wanted.tier or config.default_tier
        if not wanted.declared_uid:
            # What exists keeps its tier, whoever asks and wherever it wakes.
            record = await store.get(wanted.key.instance_id)
            if record is not None:
                tier = record.tier
            elif wanted.tier is None and tier not in served:
                tier = served[0]
        if tier not in served:
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
        entry = Entry(key, instance_id, tier, created_at=now, last_used=now)
        if before is not None and before.state is State.ERROR:
            entry.state, entry.failures = State.ERROR, before.failures
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

    async def _start(
        self, entry: Entry, ownership: Ownership, config: EffectivePool, store: Store
    ) -> Resident:
        host = self._host
        if entry.state is State.CREATED:
            host.table.move(entry, State.INITIALIZING)
        entry.epoch, entry.origin = ownership.epoch, ownership.origin
        seconds = config.limits.creation_timeout_seconds
        resident: Resident | None = None
        worker: WorkerChannel | None = None
        try:
            async with asyncio.timeout(seconds), self._starting:
                checkpoint = await store.load(ownership)
                worker = await host.nursery.take()
                quota = config.tiers[entry.tier].quota
                bucket = RateBucket.unpack(checkpoint.rate, quota.requests_per_minute, host.wall())
                resident = Resident(self._around, entry, ownership, worker, bucket)
                resident.durable = config.checkpoint.durability is Durability.RESPONSE
                self._take(entry)
                host.nursery.watch(worker, quota.memory_bytes, MAX_THREADS)
                worker.send(_assign(entry, config, checkpoint.parts, ownership.epoch))
                ready = await resident.setup
                _check_isolation(config, ready)
        except BaseException as exc:
            self._fail(entry, ownership, _told(exc, seconds), resident, worker)
            if isinstance(exc, TimeoutError):
                raise _told(exc, seconds) from None
            raise
        entry.isolation = tuple(ready.guards)
        entry.failures, entry.last_used = 0, host.clock()
        host.residents[entry.instance_id] = resident
        host.table.move(entry, State.READY)
        host.counters.created += 1
        if not ownership.fresh and store.shared:
            host.spawn(self._recall_wish(entry, store), "recall-wish")
        log.info("instance_activated", instance=entry.instance_id, tier=entry.tier, epoch=entry.epoch)
        return resident

    def _take(self, entry: Entry) -> None:
        host = self._host
        host.taken_by = entry.instance_id
        if host.settings.role is Role.GENERIC:
            # Nobody else will come.
            host.nursery.keep(0)

    async def _recall_wish(self, entry: Entry, store: Store) -> None:
        """A wish that the last owner did not live to fulfil."""
        try:
            record = await store.get(entry.instance_id)
        except AgentPoolError as exc:
            log.warning("wish_not_read", instance=entry.instance_id, reason=exc.message)
            return
        if record is not None and record.wish is not None and entry.wish is None:
            entry.wish, entry.wished_at = record.wish, self._host.clock()
            self._host.table.changed(entry.instance_id, True)

    def _fail(
        self,
        entry: Entry,
        ownership: Ownership,
        error: AgentPoolError,
        resident: Resident | None,
        worker: WorkerChannel | None,
    ) -> None:
        host = self._host
        if resident is not None:
            resident.abort(error)
        elif worker is not None:
            worker.end("not needed")
        if isinstance(error, AgentFailure | InstanceCrashed):
            entry.failures += 1
            entry.retry_at = host.clock() + backoff_seconds(entry.failures)
            host.table.move(entry, State.ERROR, error.message)
        else:
            host.table.remove(entry)
        log.warning("activation_failed", instance=entry.instance_id, code=error.code, reason=error.message)
        host.give_back(ownership)


def _told(exc: BaseException, seconds: float) -> AgentPoolError:
    if isinstance(exc, AgentPoolError):
        return exc
    if isinstance(exc, TimeoutError):
        return AgentCreationTimeout(f"The instance was not ready within {seconds:g} s.")
    return InstanceCrashed("The host gave up the activation.")


def _check_isolation(config: EffectivePool, ready: frames.Ready) -> None:
    absent = [name for name in config.isolation.required if name not in ready.guards]
    if absent:
        why = ", ".join(f"{name} ({ready.missing.get(name, 'unknown here')})" for name in absent)
        raise AgentCreationFailed(
            f"Required isolation is not in force: {why}.",
            remedy="Run the pool on nodes that have it, or take it out of isolation.required.",
        )


def _assign(entry: Entry, config: EffectivePool, parts: object, epoch: int) -> frames.Assign:
    quota = config.tiers[entry.tier].quota
    limits = config.limits
    return frames.Assign(
        namespace=config.namespace,
        pool=config.name,
        tenant_id=entry.key.tenant_id,
        project_id=entry.key.project_id,
        instance_id=entry.instance_id,
        epoch=epoch,
        config=msgspec.json.encode(config.agent.config),
        limits=frames.Limits(
            memory_bytes=quota.memory_bytes,
            threads=MAX_THREADS,
            state_bytes=limits.state_bytes,
            answer_bytes=limits.answer_bytes,
            setup_seconds=limits.creation_timeout_seconds,
            network=config.isolation.network is Network.OUTBOUND,
            subprocesses=config.isolation.subprocesses,
        ),
        respond_durably=config.checkpoint.durability is Durability.RESPONSE,
        parts=msgspec.convert(parts, dict[str, bytes]),
    )
