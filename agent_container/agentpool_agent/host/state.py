# SPDX-License-Identifier: Apache-2.0
"""What the parts of one host share: its identity, configuration, store, table and residents."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import structlog

from agentpool_agent.host.awaiting import Awaiting
from agentpool_agent.host.counts import HostCounts
from agentpool_agent.host.crowding import Crowding
from agentpool_agent.host.exchange import Exchange
from agentpool_agent.host.instance import Resident
from agentpool_agent.host.load import LoadMeter
from agentpool_agent.host.nursery import Nursery
from agentpool_agent.host.quota import RateBucket, carried
from agentpool_agent.host.settings import Settings
from agentpool_agent.host.table import Entry, Table
from agentpool_agent.store import KeptFlags, Ownership, Store
from agentpool_core.config import Durability, EffectivePool, FlagSet
from agentpool_core.errors import (
    AgentPoolError,
    Draining,
    InstanceCrashed,
    NotConfigured,
    OwnershipLost,
)
from agentpool_core.lifecycle import PauseReason, State, Tier
from agentpool_core.names import Incarnation, InstanceKey
from agentpool_core.recovery import Cause, Strategy
from agentpool_core.resilience import BreakerPolicy

GIVE_BACK_SECONDS = 5.0
"""Longest release after a failure."""

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Counters:
    """Totals since the host started (B37, B43); a hit is a request that found its instance resident."""

    created: int = 0
    destroyed: int = 0
    operations: int = 0
    operation_seconds: float = 0.0
    hits: int = 0
    misses: int = 0
    evictions: int = 0
    crashes: int = 0
    succeeded: int = 0
    failed: int = 0
    failures: Counter[tuple[Cause, Strategy]] = field(default_factory=Counter)
    """What failed, and what was decided about it."""

    def ended(self, seconds: float, success: bool | None) -> None:
        """An operation ended, answered or not; None: through its caller."""
        self.operations += 1
        self.operation_seconds += seconds
        self.succeeded += success is True
        self.failed += success is False


@dataclass(slots=True)
class Host:
    """The state of one host process; everything runs on its one event loop."""

    settings: Settings
    incarnation: Incarnation
    nursery: Nursery
    clock: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    table: Table = field(default_factory=Table)
    residents: dict[str, Resident] = field(default_factory=dict)
    counters: Counters = field(default_factory=Counters)
    counts: HostCounts = field(default_factory=HostCounts)
    config: EffectivePool | None = None
    breakers: BreakerPolicy = BreakerPolicy()
    """Of all instances, by the configuration."""
    store: Store | None = None
    store_reached: bool = False
    store_silent: bool = False
    store_answered_at: float = 0.0
    problems: tuple[str, ...] = ()
    draining: bool = False
    retired: bool = False
    flags: KeptFlags = KeptFlags()
    """Feature flags that were set through a gateway, the latest that this host knows."""
    flags_read: bool = False
    gates: FlagSet = field(default_factory=FlagSet)
    """All flags of the pool; asked for requests that no gateway has looked at."""
    awaiting: Awaiting = field(default_factory=Awaiting)
    waiting: Counter[str] = field(default_factory=Counter)
    """Requests that have come and cannot begin yet, by instance."""
    taken_by: str = ""
    """On a generic host: the one instance whose tenant's code ran here."""
    migrate: Callable[[Entry, Tier], Awaitable[bool]] | None = None
    """Gives an instance in ERROR, which this host has released, another tier; whether that was done."""
    relocate: Callable[[Entry, Tier], Awaitable[object]] | None = None
    """Moves a resident instance to another tier once it is not busy."""
    sent_away: dict[str, float] = field(default_factory=dict)
    """Instances that are to go on elsewhere, and until when this host does not take them back."""
    meter: LoadMeter = field(init=False)
    crowding: Crowding = field(init=False)
    returning: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    """Releases under way, by instance."""
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.meter = LoadMeter(self.clock())
        self.crowding = Crowding(self.clock, self._busy, self.nursery.look)

    def send_away(self, instance_id: str, seconds: float) -> None:
        """Do not activate an instance for so long."""
        now = self.clock()
        self.sent_away = {one: until for one, until in self.sent_away.items() if until > now}
        self.sent_away[instance_id] = now + seconds

    def check_sent_away(self, instance_id: str) -> None:
        """Raise Draining, which has the caller go elsewhere, for an instance that was just sent away."""
        if self.sent_away and self.clock() < self.sent_away.get(instance_id, 0.0):
            raise Draining("The instance goes on at another host.", retry_after_seconds=0.1)

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Run background work; it bounds itself, and an error of it is a bug that is logged."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self.tasks.add(task)
        task.add_done_callback(self._ended)

    def count_end(self, entry: Entry, exchange: Exchange) -> None:
        """A request of an instance ended: its one event for all figures (X17)."""
        now = self.clock()
        seconds = now - exchange.began
        self.table.release(entry, now, seconds, exchange.success)
        self.crowding.give(entry.key.tenant_id, entry.active)
        if exchange.operation:
            self.counters.ended(seconds, exchange.success)

    def _busy(self) -> Iterator[tuple[int, int]]:
        for resident in self.residents.values():
            if resident.entry.active:
                yield resident.worker.number, resident.entry.active

    @contextmanager
    def queued(self, instance_id: str) -> Iterator[None]:
        """A request of the instance waits."""
        self.waiting[instance_id] += 1
        if instance_id in self.table.entries:
            self.table.changed(instance_id, False)
        try:
            yield
        finally:
            self.waiting[instance_id] -= 1
            if not self.waiting[instance_id]:
                del self.waiting[instance_id]

    def renew(self, resident: Resident) -> None:
        """Drop an idle resident whose stored state is not known for sure; the next request activates it from
        what the store holds."""
        entry = resident.entry
        self.residents.pop(entry.instance_id, None)
        resident.abort(InstanceCrashed("The instance is read from the store again."))
        entry.epoch = 0
        self.table.move(entry, State.PAUSED, PauseReason.EVICTED)
        self.give_back(resident.ownership, resident.bucket.pack(), entry)

    def store_answered(self) -> None:
        """The store has given an answer, of whatever kind."""
        self.store_answered_at = self.clock()
        self.store_reached, self.store_silent = True, False

    async def note(self, entry: Entry, ownership: Ownership, bucket: RateBucket | None = None) -> None:
        """Have the store keep the failure history as it is now, unless it has it already; with `bucket` also
        a breaker that has changed."""
        async with entry.noting:
            packed = entry.history.pack()
            rate = carried(bucket, entry) if bucket is not None and entry.breaker_due else b""
            if self.store is None or (packed == entry.noted and not rate):
                return
            # Before the write: what turns meanwhile is due again.
            due, entry.breaker_due = entry.breaker_due, entry.breaker_due and not rate
            try:
                await self.store.note(ownership, packed, rate)
            except AgentPoolError:
                entry.breaker_due = due or entry.breaker_due
                raise
            entry.noted = packed

    def give_back(self, ownership: Ownership, rate: bytes = b"", entry: Entry | None = None) -> None:
        """Release ownership in the background, after a failure, with the history noted before; `given_back`
        waits for it, because a claim must not overtake it."""
        instance_id = ownership.key.instance_id
        entry = entry or self.table.get(instance_id)
        if entry is not None:
            entry.history = entry.history.resting()
        work = self._give_back(ownership, rate, entry)
        task = asyncio.get_running_loop().create_task(work, name="give-back")
        self.returning[instance_id] = task
        self.tasks.add(task)
        task.add_done_callback(self._ended)
        task.add_done_callback(lambda _: self._returned(instance_id, task))

    def _returned(self, instance_id: str, task: asyncio.Task[None]) -> None:
        if self.returning.get(instance_id) is task:
            del self.returning[instance_id]

    async def given_back(self, instance_id: str) -> None:
        """Wait until no release of the instance is under way; bounded by the release's own deadline."""
        task = self.returning.get(instance_id)
        if task is not None:
            await asyncio.wait([task])

    async def _give_back(self, ownership: Ownership, rate: bytes, entry: Entry | None) -> None:
        if self.store is None:
            return
        try:
            async with asyncio.timeout(GIVE_BACK_SECONDS):
                if entry is not None:
                    await self.note(entry, ownership)
                if rate and entry is not None:
                    # As it is by now: the requests that ended with the worker count, too.
                    rate += entry.breaker.pack()
                await self.store.release(ownership, PauseReason.EVICTED, rate=rate, clear_wish=False)
        except OwnershipLost:
            return
        except (AgentPoolError, TimeoutError) as exc:
            # Ownership stays with this host then, and its next claim has it again.
            log.warning("release_failed", instance=ownership.key.instance_id, reason=str(exc))

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("background_work_failed", work=task.get_name(), exc_info=task.exception())

    @property
    def ready(self) -> bool:
        """Whether it takes requests: configured, a zygote there, the store reached once, not leaving."""
        return (
            self.config is not None
            and self.nursery.hello is not None
            and self.store_reached
            and not self.draining
            and not self.retired
        )

    @property
    def stale(self) -> bool:
        """Whether answers rest on state that cannot be checked now."""
        return self.store_silent and self.store is not None and self.store.shared

    @property
    def capacity(self) -> int:
        """How many instances it holds at once."""
        if self.settings.role == "Generic":
            return 1
        return self.config.instances_per_host if self.config is not None else 0

    @property
    def keeps_keys(self) -> bool:
        """Whether an Idempotency-Key can be honoured."""
        return (
            self.config is not None
            and self.store is not None
            and self.store.shared
            and self.config.checkpoint.durability is Durability.RESPONSE
        )

    def configured(self) -> tuple[EffectivePool, Store]:
        """Configuration and store; raises NotConfigured."""
        if self.config is None or self.store is None:
            raise NotConfigured("The host has no configuration yet.", retry_after_seconds=1.0)
        return self.config, self.store

    def admit(self) -> tuple[EffectivePool, Store]:
        """`configured`, when new work is taken; raises Draining otherwise."""
        if self.draining or self.retired:
            raise Draining("The host takes no new work.", retry_after_seconds=0.1)
        return self.configured()

    def key(self, tenant_id: str, project_id: str) -> InstanceKey:
        """The key of an instance of this host's pool."""
        config, _ = self.configured()
        return InstanceKey(config.namespace, config.name, tenant_id, project_id)
