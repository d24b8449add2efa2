# SPDX-License-Identifier: Apache-2.0
"""Starting an instance that this host has won: its state, a worker, the agent in it, READY.

    turn -> load -> worker -> Assign -> constructor, setup, restore -> READY
Tenants take turns. Until the agent has begun a failure is the host's or the store's, and the instance's from
there on; either way what was taken is given back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

import structlog

from agentpool_agent.host.instance import GRACE_SECONDS, Resident
from agentpool_agent.host.laps import Stage
from agentpool_agent.host.quota import BUCKET_BYTES, RateBucket
from agentpool_agent.host.recovery import Recoveries
from agentpool_agent.host.settings import Role
from agentpool_agent.host.state import Host
from agentpool_agent.host.surroundings import Surroundings
from agentpool_agent.host.table import Entry
from agentpool_agent.host.terms import Terms, terms
from agentpool_agent.host.turns import Turns
from agentpool_agent.host.worker import WorkerChannel
from agentpool_agent.store import Checkpoint, Ownership, Store, Write
from agentpool_agent.wire import frames
from agentpool_core.config import EffectivePool
from agentpool_core.errors import (
    AgentCreationFailed,
    AgentCreationTimeout,
    AgentFailure,
    AgentPoolError,
    InstanceCrashed,
    MemoryExceeded,
    RestoreFailed,
    StateCorrupt,
    Unavailable,
)
from agentpool_core.lifecycle import State
from agentpool_core.recovery import Cause, Decision, Strategy

log = structlog.get_logger(__name__)

MAX_STARTING = 8
"""Activations that run tenants' code at once: a wake storm after a move must not starve the residents."""
MAX_WAITING = 1024
"""Activations that wait for their turn."""
MAX_THREADS = 32


@dataclass(slots=True)
class _Start:
    """One start under way. `doing`: what is being waited for."""

    entry: Entry
    ownership: Ownership
    doing: str = "its turn"
    worker: WorkerChannel | None = None
    resident: Resident | None = None
    previous: bool = False
    one_shot: bool = False


class Starts:
    """Starts instances, few at once."""

    def __init__(self, host: Host, around: Surroundings, recoveries: Recoveries) -> None:
        self._host = host
        self._around = around
        self._recoveries = recoveries
        self._turns = Turns(MAX_STARTING, MAX_WAITING)

    @property
    def waiting(self) -> int:
        """Starts that wait for their turn."""
        return self._turns.waiting

    async def start(
        self,
        entry: Entry,
        ownership: Ownership,
        config: EffectivePool,
        store: Store,
        *,
        one_shot: bool = False,
    ) -> Resident:
        """The instance, READY; raises what kept it from being so, and has given everything back then.

        `one_shot`: in a process forked now, for a request that does not go through the pool.
        """
        if entry.state is State.CREATED:
            self._host.table.move(entry, State.INITIALIZING)
        entry.epoch, entry.origin = ownership.epoch, ownership.origin
        start = _Start(entry, ownership, one_shot=one_shot)
        seconds = config.limits.creation_timeout_seconds
        try:
            async with asyncio.timeout(seconds) as limit, self._turns.turn(entry.key.tenant_id):
                entry.laps.mark(Stage.TURN, self._host.clock())
                checkpoint = await self._load(start, store)
                entry.laps.mark(Stage.LOAD, self._host.clock())
                start.doing = "a worker"
                start.worker = await self._host.nursery.take(forked_now=one_shot)
                entry.laps.mark(Stage.WORKER, self._host.clock())
                resident = self._assign(start, start.worker, checkpoint, config)
                # The agent has all of its time, however long it waited; its worker keeps the time, too.
                limit.reschedule(asyncio.get_running_loop().time() + seconds + GRACE_SECONDS)
                ready = await resident.setup
                _check_isolation(config, ready)
                if start.previous:
                    await store.save(ownership, _unchanged(checkpoint))
                if resident.dead:
                    raise InstanceCrashed("The instance's worker ended as soon as it was ready.")
        except BaseException as exc:
            error = _told(exc, start, seconds)
            self._fail(start, error)
            if isinstance(exc, TimeoutError):
                raise error from None
            raise
        self._begin(resident, ready)
        return resident

    async def _load(self, start: _Start, store: Store) -> Checkpoint:
        entry, ownership = start.entry, start.ownership
        start.doing = "its state"
        decision = self._recoveries.decision(entry)
        if store.shared:
            entry.history = entry.history.working(ownership.epoch, self._host.wall())
        # Noted before tenant code runs: an instance that takes its host down is found out by the next one.
        noted = asyncio.get_running_loop().create_task(self._host.note(entry, ownership), name="note")
        try:
            return await self._read(start, decision, store)
        finally:
            await noted

    async def _read(self, start: _Start, decision: Decision | None, store: Store) -> Checkpoint:
        entry, ownership = start.entry, start.ownership
        if decision is not None and decision.strategy is Strategy.RECOVER:
            try:
                checkpoint = await store.load(ownership, previous=True)
            except StateCorrupt as exc:
                log.warning("no_earlier_state", instance=entry.instance_id, reason=exc.message)
            else:
                return self._recovered(start, checkpoint)
        try:
            return await store.load(ownership)
        except StateCorrupt as exc:
            failure = self._recoveries.failure(entry, Cause.CORRUPT_STATE, exc.message, starting=True)
            if self._recoveries.would(entry, failure) is not Strategy.RECOVER:
                raise
            self._recoveries.observe(entry, failure)
            return self._recovered(start, await store.load(ownership, previous=True))

    def _recovered(self, start: _Start, checkpoint: Checkpoint) -> Checkpoint:
        log.error("earlier_state_used", instance=start.entry.instance_id, parts=len(checkpoint.parts))
        start.previous = True
        return checkpoint

    def _assign(
        self, start: _Start, worker: WorkerChannel, checkpoint: Checkpoint, config: EffectivePool
    ) -> Resident:
        host, entry = self._host, start.entry
        quota = config.tiers[entry.tier].quota
        bucket = RateBucket.unpack(checkpoint.rate, quota.requests_per_minute, host.wall())
        entry.breaker.take_over(checkpoint.rate[BUCKET_BYTES:], host.breakers, host.wall())
        resident = Resident(self._around, entry, start.ownership, worker, bucket)
        resident.terms = given = terms(config, entry.tier)
        resident.durable = given.durable
        start.resident, resident.forked_now = resident, start.one_shot
        host.taken_by = entry.instance_id
        if host.settings.role is Role.GENERIC:
            # Nobody else will come.
            host.nursery.keep(0)
        # A pod of its own has a limit of CPU by itself.
        shared = host.settings.role is Role.SHARED
        host.nursery.watch(worker, quota.memory_bytes, MAX_THREADS, quota.cpu_millis if shared else 0)
        worker.send(_assignment(entry, config, given, checkpoint.parts, start.ownership.epoch))
        return resident

    def _begin(self, resident: Resident, ready: frames.Ready) -> None:
        host, entry = self._host, resident.entry
        entry.isolation = tuple(ready.guards)
        entry.last_used = entry.ready_at = host.clock()
        entry.revive, entry.history = False, entry.history.ready()
        host.residents[entry.instance_id] = resident
        host.table.move(entry, State.READY)
        host.counters.created += 1
        entry.laps.mark(Stage.RESTORE, entry.ready_at)
        host.counts.activated(entry.laps, restored=not resident.ownership.fresh)
        log.info("instance_activated", instance=entry.instance_id, tier=entry.tier, epoch=entry.epoch)

    def _fail(self, start: _Start, error: AgentPoolError) -> None:
        host, entry = self._host, start.entry
        cause = _cause(start, error)
        if start.resident is not None:
            start.resident.abort(error)
        elif start.worker is not None:
            start.worker.end("not needed")
        log.warning("activation_failed", instance=entry.instance_id, code=error.code, reason=error.message)
        if cause is not None:
            failure = self._recoveries.failure(entry, cause, error.message, starting=True)
            self._recoveries.failed(entry, start.ownership, failure)
            return
        host.table.remove(entry)
        host.give_back(start.ownership, entry=entry)


def _cause(start: _Start, error: AgentPoolError) -> Cause | None:
    """Why the instance failed; None: it is not the instance's doing."""
    resident = start.resident
    if isinstance(error, StateCorrupt):
        return Cause.CORRUPT_STATE
    if resident is None:
        return None
    if resident.cause is not None:
        return resident.cause
    refused = isinstance(error, RestoreFailed)
    if refused or (isinstance(error, AgentCreationTimeout) and resident.restoring):
        return Cause.RESTORE_FAILED
    if isinstance(error, MemoryExceeded):
        return Cause.MEMORY_EXCEEDED
    return Cause.SETUP_FAILED if isinstance(error, AgentFailure) else None


def _told(exc: BaseException, start: _Start, seconds: float) -> AgentPoolError:
    if isinstance(exc, AgentPoolError):
        return exc
    if not isinstance(exc, TimeoutError):
        return InstanceCrashed("The host gave up the activation.")
    if start.resident is None:
        return Unavailable(
            f"The instance was not started within {seconds:g} s: it waited for {start.doing}.",
            retry_after_seconds=1.0,
        )
    return AgentCreationTimeout(
        f"The instance was not ready within {seconds:g} s: {start.resident.stage} ran."
    )


def _unchanged(checkpoint: Checkpoint) -> Write:
    """A write that changes nothing of a state, so that it becomes the present one."""
    if not checkpoint.parts:
        return Write(removed=frozenset({"none"}))
    name = min(checkpoint.parts, key=lambda one: len(checkpoint.parts[one]))
    return Write({name: checkpoint.parts[name]})


def _check_isolation(config: EffectivePool, ready: frames.Ready) -> None:
    absent = [name for name in config.isolation.required if name not in ready.guards]
    if absent:
        why = ", ".join(f"{name} ({ready.missing.get(name, 'unknown here')})" for name in absent)
        raise AgentCreationFailed(
            f"Required isolation is not in force: {why}.",
            remedy="Run the pool on nodes that have it, or take it out of isolation.required.",
        )


def _assignment(
    entry: Entry, config: EffectivePool, given: Terms, parts: Mapping[str, bytes], epoch: int
) -> frames.Assign:
    return frames.Assign(
        namespace=config.namespace,
        pool=config.name,
        tenant_id=entry.key.tenant_id,
        project_id=entry.key.project_id,
        instance_id=entry.instance_id,
        epoch=epoch,
        config=given.config,
        limits=frames.Limits(
            memory_bytes=given.memory_bytes,
            threads=MAX_THREADS,
            state_bytes=given.state_bytes,
            answer_bytes=given.answer_bytes,
            setup_seconds=config.limits.creation_timeout_seconds,
            network=given.network,
            subprocesses=given.subprocesses,
        ),
        respond_durably=given.durable,
        parts=dict(parts),
    )
