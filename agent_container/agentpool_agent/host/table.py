# SPDX-License-Identifier: Apache-2.0
"""The instances that this host knows, and the pure rules about them: room, victims, idleness.

Times are seconds of one monotonic clock, given by the caller.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from agentpool_agent.host.laps import Laps
from agentpool_core.balance import LoadMetrics
from agentpool_core.lifecycle import Origin, State, Tier, Wish, transition
from agentpool_core.names import InstanceKey
from agentpool_core.recovery import History
from agentpool_core.resilience import CircuitBreaker

RESIDENT = frozenset({State.CREATED, State.INITIALIZING, State.READY, State.BUSY})
"""States in which an instance takes up a slot of the host."""

REMEMBERED = 10_000
"""Entries without a slot (PAUSED, ERROR) that a host keeps; the oldest are forgotten first."""


@dataclass(slots=True)
class Entry:
    """One instance (B15).

    `last_used` is raised at acquire and at release, so a busy instance never looks idle (B18).
    """

    key: InstanceKey
    instance_id: str
    tier: Tier
    created_at: float
    last_used: float
    state: State = State.CREATED
    reason: str = ""
    epoch: int = 0
    origin: Origin = Origin.OBSERVED
    load: LoadMetrics = field(init=False)
    """Since it was activated; times on the host's clock."""
    total: int = 0
    wish: Wish | None = None
    wished_at: float = 0.0
    leaving: bool = False
    """It is being evicted or paused; requests wait until that has ended."""
    move_to: Tier | None = None
    """The tier that it is to have once it is not busy."""
    gated: bool = False
    """New requests wait: it moves when the active ones have ended."""
    pinned: bool = False
    """Its tier was chosen by hand."""
    history: History = History()
    """Its failures; see `noted`."""
    noted: bytes = b""
    """The history as the store has it."""
    noting: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)
    """One note at a time, so that the last one stays."""
    laps: Laps = field(default_factory=lambda: Laps(0.0))
    """How it became resident, step by step."""
    ready_at: float = 0.0
    busy_since: float = 0.0
    revive: bool = False
    """It lost its worker through no fault of its own; see `recovery.Revivals`."""
    memory_bytes: int = 0
    cpu_seconds: float = 0.0
    cpu_percent: float = 0.0
    measured_at: float = 0.0
    isolation: tuple[str, ...] = ()
    breaker: CircuitBreaker = field(default_factory=CircuitBreaker)
    """Its times are those of the wall clock: it moves between machines."""
    breaker_due: bool = False
    """It has opened or closed, and the store does not know that yet."""

    def __post_init__(self) -> None:
        self.load = LoadMetrics(self.created_at)

    @property
    def active(self) -> int:
        """Requests it works on."""
        return self.load.active_commands

    def acquire(self, now: float) -> None:
        """A request begins."""
        if self.active == 0:
            self.state = transition(self.state, State.BUSY)
            self.busy_since = now
        self.load.acquire()
        self.last_used = now

    def release(self, now: float, seconds: float = 0.0, success: bool | None = None) -> None:
        """A request ended after so long; never below zero (B17). `success`: see `LoadMetrics.release`."""
        self.load.release(now, seconds * 1000, success)
        self.total += 1
        self.last_used = now
        if self.active == 0 and self.state is State.BUSY:
            self.state = transition(self.state, State.READY)

    def idle(self, now: float, limit_seconds: float) -> bool:
        """B16: unused for strictly longer than the limit, and nothing active."""
        return self.active == 0 and now - self.last_used > limit_seconds

    @property
    def evictable(self) -> bool:
        """Whether it could leave now: idle, not already leaving, and nobody wished anything else."""
        asked = self.wish is not None or self.move_to is not None
        return self.state is State.READY and self.active == 0 and not self.leaving and not asked


@dataclass(slots=True)
class Table:
    """All entries, in the order of their last use (the least recently used first)."""

    changed: Callable[[str, bool], None] = lambda _instance_id, _urgent: None
    """Called with an id and whether more than its load changed."""
    entries: dict[str, Entry] = field(default_factory=dict)
    remembered: int = REMEMBERED

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries.values())

    def get(self, instance_id: str) -> Entry | None:
        """The entry, if the host knows the instance."""
        return self.entries.get(instance_id)

    def put(self, entry: Entry) -> None:
        """Know an instance from now on."""
        self.entries.pop(entry.instance_id, None)
        self.entries[entry.instance_id] = entry
        self._forget()
        self.changed(entry.instance_id, True)

    def remove(self, entry: Entry) -> None:
        """Know it no longer."""
        if self.entries.get(entry.instance_id) is entry:
            del self.entries[entry.instance_id]
            self.changed(entry.instance_id, True)

    def move(self, entry: Entry, state: State, reason: str = "") -> None:
        """Change an entry's state; raises IllegalTransition when the lifecycle forbids it."""
        entry.state = transition(entry.state, state)
        entry.reason = reason
        self.changed(entry.instance_id, True)

    def acquire(self, entry: Entry, now: float) -> None:
        """A request begins: the entry is now the most recently used one."""
        entry.acquire(now)
        if self.entries.pop(entry.instance_id, None) is not None:
            self.entries[entry.instance_id] = entry
        self.changed(entry.instance_id, False)

    def release(self, entry: Entry, now: float, seconds: float = 0.0, success: bool | None = None) -> None:
        """A request ended; see `Entry.release`."""
        entry.release(now, seconds, success)
        self.changed(entry.instance_id, False)

    @property
    def residents(self) -> int:
        """Entries that take up a slot."""
        return sum(1 for entry in self if entry.state in RESIDENT)

    @property
    def taken_slots(self) -> int:
        """Slots that are neither free nor about to be freed by an eviction under way."""
        return sum(1 for entry in self if entry.state in RESIDENT and not entry.leaving)

    def victim(self) -> Entry | None:
        """The least recently used instance that may be evicted, or None when every one is in use."""
        return next((entry for entry in self if entry.evictable), None)

    def counts(self) -> Counter[tuple[Tier, State]]:
        """How many entries there are, by tier and state."""
        return Counter((entry.tier, entry.state) for entry in self)

    def _forget(self) -> None:
        if len(self.entries) <= self.remembered:
            return
        old = next((e for e in self if e.state not in RESIDENT), None)
        if old is not None:
            self.remove(old)


def idle_entries(
    table: Table, now: float, idle_seconds: Callable[[Tier], float | None], floors: dict[Tier, int]
) -> list[Entry]:
    """Which instances idle clean-up takes: longest idle first, never under a tier's floor (B35, B36).

    Args:
        idle_seconds: a tier's limit; None: never idle.
        floors: fewest residents of a tier that stay; a tier that is not named has none.
    """
    left = Counter(entry.tier for entry in table if entry.state in RESIDENT and not entry.leaving)
    found: list[Entry] = []
    for entry in sorted(table, key=lambda one: one.last_used):
        limit = idle_seconds(entry.tier)
        if limit is None or not entry.evictable or not entry.idle(now, limit):
            continue
        if left[entry.tier] <= floors.get(entry.tier, 0):
            continue
        left[entry.tier] -= 1
        found.append(entry)
    return found
