# SPDX-License-Identifier: Apache-2.0
"""Feature flags (A64-A73): for which tenants and projects something is on, and how a rollout changes that.

A flag is on or off for a project, the same for each of its requests: a project's place is a stable hash of
flag, tenant and project, and a percentage takes the places below it. So whoever is on stays on while the
percentage grows, and two flags choose independently of each other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple

POOL_FLAG = "agent_pool_enabled"
"""Off for a project: a one-shot instance serves each of its requests."""
HOT_FLAG = "agent_pool_hot_tier"
"""Off for a project: nothing but an AgentInstance makes its instance HOT."""

MAX_FLAGS = 50
"""Flags that a pool declares, and as many that are set through the gateway."""
MAX_LISTED = 500
"""Tenants, and as many projects, that one flag lists: each host and each gateway keeps them in memory."""
MAX_STEPS = 32
MAX_NAME = 63

_PLACES = 1 << 64


class Strategy(StrEnum):
    """For whom an enabled flag is on."""

    ALL = "ALL"
    """Everybody."""
    NONE = "NONE"
    """Nobody."""
    PERCENTAGE = "PERCENTAGE"
    """This share of all projects, and the listed tenants and projects."""
    ALLOWLIST = "ALLOWLIST"
    """The listed tenants and projects."""
    DENYLIST = "DENYLIST"
    """Everybody but the listed tenants and projects."""
    GRADUAL = "GRADUAL"
    """As PERCENTAGE, with the share that the schedule has reached."""


class Reason(StrEnum):
    """Why a flag is on or off, in the words of OpenFeature."""

    STATIC = "STATIC"
    """The same for everybody."""
    TARGETING_MATCH = "TARGETING_MATCH"
    """The tenant or the project is listed."""
    SPLIT = "SPLIT"
    """By the place of the project in the percentage."""
    DEFAULT = "DEFAULT"
    """Nothing of the flag speaks of this project."""
    DISABLED = "DISABLED"
    """The flag is switched off as a whole."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """A percentage that grows by itself: a pure function of time.

    Attributes:
        start: seconds since 1970.
        points: (seconds after the start, percentage), by time and never falling; at least one.
        ramp: between two points the percentage grows evenly; False: it stays until the next point.
    """

    start: float
    points: tuple[tuple[float, float], ...]
    ramp: bool

    def percentage(self, now: float) -> float:
        """The percentage at `now`, seconds since 1970. Before its first point: that of a ramp's first point,
        and 0 of steps. After the last point: that of the last one."""
        passed = now - self.start
        before: tuple[float, float] | None = None
        for after in self.points:
            if passed < after[0]:
                return self._between(before, after, passed)
            before = after
        return before[1] if before is not None else 0.0

    def _between(
        self, before: tuple[float, float] | None, after: tuple[float, float], passed: float
    ) -> float:
        if before is None:
            return after[1] if self.ramp else 0.0
        if not self.ramp:
            return before[1]
        share = (passed - before[0]) / (after[0] - before[0])
        return before[1] + (after[1] - before[1]) * share


class Fault(NamedTuple):
    """What is wrong with a flag: the field in snake_case, what was found, what to do."""

    field: str
    message: str
    remedy: str


class Plan(NamedTuple):
    """A schedule as it is written: a ramp over `duration_seconds`, or steps of (seconds, percentage)."""

    from_percentage: int | None
    to_percentage: int | None
    duration_seconds: float | None
    steps: tuple[tuple[int, int], ...]

    def schedule(self, start: float) -> Schedule:
        """The schedule that is meant; a ramp goes from 0 to 100 where nothing else is said."""
        if self.duration_seconds is None:
            return Schedule(
                start, tuple(sorted((float(at), float(share)) for at, share in self.steps)), False
            )
        ends = (0.0, float(self.from_percentage or 0)), (self.duration_seconds, self._last)
        return Schedule(start, ends, True)

    @property
    def _last(self) -> float:
        return 100.0 if self.to_percentage is None else float(self.to_percentage)

    def fault(self) -> Fault | None:
        """What is wrong with it."""
        if (self.duration_seconds is None) == (not self.steps):
            return Fault(
                "schedule",
                "has to have either duration_seconds or steps",
                "Give duration_seconds for a ramp, or steps, not both.",
            )
        if self.steps:
            return self._fault_of_steps()
        if (self.from_percentage or 0) > self._last:
            return Fault(
                "schedule.to_percentage",
                f"is {self._last:g}, less than from_percentage {self.from_percentage}",
                "Let the percentage grow; to take it back, use strategy PERCENTAGE or NONE.",
            )
        return None

    def _fault_of_steps(self) -> Fault | None:
        if self.from_percentage is not None or self.to_percentage is not None:
            return Fault(
                "schedule.steps",
                "stand beside from_percentage or to_percentage, which are for a ramp",
                "Leave these out; a first step of 0 seconds says where it begins.",
            )
        steps = sorted(self.steps)
        if len({at for at, _ in steps}) < len(steps):
            return Fault("schedule.steps", "has two steps at one time", "Give each another after_seconds.")
        if any(later < earlier for (_, earlier), (_, later) in zip(steps, steps[1:], strict=False)):
            return Fault(
                "schedule.steps",
                "fall",
                "Let the percentage grow; to take it back, use strategy PERCENTAGE or NONE.",
            )
        return None


def fault(strategy: Strategy, percentage: int | None, plan: Plan | None) -> Fault | None:
    """What is wrong with a flag. What its strategy does not use may stay: a rollback is one change."""
    if strategy is Strategy.PERCENTAGE and percentage is None:
        return Fault(
            "percentage", "is missing, and strategy PERCENTAGE needs it", "Give percentage, 0 to 100."
        )
    if strategy is Strategy.GRADUAL and plan is None:
        return Fault(
            "schedule",
            "is missing, and strategy GRADUAL needs it",
            "Give schedule with start_time, and duration_seconds or steps.",
        )
    return plan.fault() if plan is not None else None


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag.

    Attributes:
        enabled: False wins over any strategy.
        percentage: 0 to 100; for PERCENTAGE alone.
        tenants: on under ALLOWLIST, PERCENTAGE and GRADUAL, off under DENYLIST.
        projects: (tenant, project), the same for single projects.
        schedule: for GRADUAL alone; without one it is at 0 %.
    """

    name: str
    enabled: bool
    strategy: Strategy
    percentage: int = 0
    tenants: frozenset[str] = frozenset()
    projects: frozenset[tuple[str, str]] = frozenset()
    schedule: Schedule | None = None

    def on(self, tenant_id: str, project_id: str, now: float) -> bool:
        """Whether it is on for a project at `now`, seconds since 1970."""
        return self.evaluate(tenant_id, project_id, now)[0]

    def evaluate(self, tenant_id: str, project_id: str, now: float) -> tuple[bool, Reason]:
        """Whether it is on for a project at `now`, and why."""
        if not self.enabled:
            return False, Reason.DISABLED
        if self.strategy is Strategy.ALL or self.strategy is Strategy.NONE:
            return self.strategy is Strategy.ALL, Reason.STATIC
        if tenant_id in self.tenants or (tenant_id, project_id) in self.projects:
            return self.strategy is not Strategy.DENYLIST, Reason.TARGETING_MATCH
        if self.strategy is Strategy.ALLOWLIST or self.strategy is Strategy.DENYLIST:
            return self.strategy is Strategy.DENYLIST, Reason.DEFAULT
        share = self.reached(now)
        return place(self.name, tenant_id, project_id) < int(share * _PLACES / 100), Reason.SPLIT

    def reached(self, now: float) -> float:
        """The share of projects, in percent, that it is on for at `now`, the listed ones apart."""
        if not self.enabled:
            return 0.0
        match self.strategy:
            case Strategy.ALL | Strategy.DENYLIST:
                return 100.0
            case Strategy.PERCENTAGE:
                return float(self.percentage)
            case Strategy.GRADUAL if self.schedule is not None:
                return self.schedule.percentage(now)
        return 0.0


def place(flag: str, tenant_id: str, project_id: str) -> int:
    """Where a project stands in a flag's percentage: 0 up to 2**64, evenly spread, always the same."""
    digest = hashlib.blake2b(digest_size=8)
    for part in (flag, tenant_id, project_id):
        encoded = part.encode("utf-8", "surrogatepass")
        # By its length, so that ("a/b", "c") and ("a", "b/c") have places of their own.
        digest.update(len(encoded).to_bytes(4, "big"))
        digest.update(encoded)
    return int.from_bytes(digest.digest(), "big")


Flags = Mapping[str, Flag]
"""Flags by their names."""


def set_flag(flags: Flags, flag: Flag) -> Flags:
    """The flags with this one, in place of one of the same name."""
    return {**flags, flag.name: flag}


def enable_for_tenant(flags: Flags, name: str, tenant_id: str) -> Flags:
    """The flags with this one on for a tenant, and as before for everybody else.

    One that is off for everybody, or new, becomes an ALLOWLIST of this tenant alone. One that is on for some
    keeps its strategy: the tenant is added to its list, or taken out of a DENYLIST.
    """
    flag = flags.get(name)
    if flag is None or not flag.enabled or flag.strategy is Strategy.NONE:
        return set_flag(flags, Flag(name, True, Strategy.ALLOWLIST, tenants=frozenset({tenant_id})))
    if flag.strategy is Strategy.DENYLIST:
        projects = frozenset(one for one in flag.projects if one[0] != tenant_id)
        return set_flag(flags, replace(flag, tenants=flag.tenants - {tenant_id}, projects=projects))
    return set_flag(flags, replace(flag, tenants=flag.tenants | {tenant_id}))


def set_percentage(flags: Flags, name: str, percentage: int) -> Flags:
    """The flags with this one on for so many percent of all projects.

    It becomes enabled, with strategy PERCENTAGE. Whom an ALLOWLIST, PERCENTAGE or GRADUAL lists stays on; a
    DENYLIST is dropped, for its meaning would be turned round.
    """
    flag = flags.get(name) or Flag(name, True, Strategy.PERCENTAGE)
    if flag.strategy is Strategy.DENYLIST:
        flag = replace(flag, tenants=frozenset(), projects=frozenset())
    return set_flag(
        flags,
        replace(flag, enabled=True, strategy=Strategy.PERCENTAGE, percentage=percentage, schedule=None),
    )


def roll_back(flags: Flags, name: str) -> Flags:
    """The flags with this one disabled, with strategy NONE: off for everybody. An allow list is kept for the
    next `set_percentage`."""
    flag = flags.get(name) or Flag(name, False, Strategy.NONE)
    if flag.strategy is Strategy.DENYLIST:
        flag = replace(flag, tenants=frozenset(), projects=frozenset())
    return set_flag(flags, replace(flag, enabled=False, strategy=Strategy.NONE, schedule=None))
