# SPDX-License-Identifier: Apache-2.0
"""What is done about an instance that fails (A34-A38): a pure function of its failure history.

    failure --> History.after --> judge --> Decision(strategy, when to try again, why)

The history is kept with the instance's record, so it outlives hosts, pods and moves. `PATTERNS` and `LIMITS`
are the whole of the rules; the documentation is printed from them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from agentpool_core.lifecycle import Tier

MAX_FAILURES = 64
"""Failures that a history holds; with so many in an hour an instance counts as over every limit."""
MESSAGE_CHARS = 300
"""What is kept of the last failure's message."""
HOUR_SECONDS = 3600.0
CALM_SECONDS = 600.0
"""Failures further back than this no longer lengthen the wait for the next try."""
FIRST_WAIT_SECONDS = 1.0
WAIT_FACTOR = 2.0
STARTING_FACTOR = 3.0
"""An instance that does not even start often lacks something outside, such as a connection, that comes back:
its tries lie further apart, so that a short outage does not reach the limit of an hour."""
LAST_WAIT_SECONDS = 60.0
ESCALATED_SECONDS = HOUR_SECONDS
"""An escalated instance is tried once in this time, unless its cause is one that trying makes worse."""


class Cause(StrEnum):
    """Why an instance failed."""

    CRASH = "Crash"
    """Its process ended by itself."""
    MEMORY_EXCEEDED = "MemoryExceeded"
    """It needed more memory than its quota."""
    HANG = "Hang"
    """Its event loop did not answer."""
    CORRUPT_STATE = "CorruptState"
    """Its stored state is damaged."""
    SETUP_FAILED = "SetupFailed"
    """The agent's constructor or setup raised, or took too long."""
    RESTORE_FAILED = "RestoreFailed"
    """The agent refused its stored state, which is kept."""
    HOST_LOST = "HostLost"
    """Its host or zygote ended while the instance was starting or at work."""


class Strategy(StrEnum):
    """What is done, in the order of escalation."""

    RESTART = "RESTART"
    """A new process from the last acknowledged state."""
    RECOVER = "RECOVER"
    """A new process from the state before the last change."""
    MIGRATE = "MIGRATE"
    """A new process in the tier with the next larger memory quota."""
    ESCALATE = "ESCALATE"
    """Left in ERROR for its owners to look at; resuming the instance tries at once."""

    @property
    def rank(self) -> int:
        """Its place in the order of escalation."""
        return list(Strategy).index(self)


@dataclass(frozen=True, slots=True)
class Pattern:
    """From so many failures of a cause within the pattern window on, a strategy.

    Attributes:
        starting: only failures before the instance was READY count.
        in_tier: only failures in the tier of the last one count.
    """

    cause: Cause
    times: int
    strategy: Strategy
    why: str
    starting: bool = False
    in_tier: bool = False


PATTERNS: tuple[Pattern, ...] = (
    Pattern(Cause.CORRUPT_STATE, 1, Strategy.RECOVER, "its stored state is damaged"),
    Pattern(Cause.CORRUPT_STATE, 2, Strategy.ESCALATE, "its state is damaged again and again"),
    Pattern(Cause.CRASH, 3, Strategy.RECOVER, "it crashes whenever it starts from its state", starting=True),
    Pattern(Cause.CRASH, 4, Strategy.ESCALATE, "it crashes on its earlier state, too", starting=True),
    Pattern(
        Cause.MEMORY_EXCEEDED, 3, Strategy.MIGRATE, "it runs out of memory again and again", in_tier=True
    ),
)
"""What repeated failures of one cause lead to; whatever matches no pattern is restarted. The strongest
pattern counts. MIGRATE becomes ESCALATE where no tier has a larger quota."""

LASTING = frozenset({Cause.CORRUPT_STATE, Cause.HOST_LOST})
"""Causes whose escalation ends only when a user resumes the instance or its agent changes: another try would
not mend it, or would cost its neighbours their host."""


@dataclass(frozen=True, slots=True)
class Failure:
    """One failure.

    Attributes:
        at: seconds since 1970.
        tier: the one that it was in.
        starting: it came before the instance was READY.
        message: what was seen, one sentence.
    """

    at: float
    cause: Cause
    tier: Tier = Tier.WARM
    starting: bool = False
    message: str = ""


@dataclass(frozen=True, slots=True)
class Work:
    """An owner's note that the instance is starting or busy: found by the next one, it means that the owner
    ended in the middle of it."""

    epoch: int
    since: float


@dataclass(frozen=True, slots=True)
class History:
    """The failures of one instance, oldest first.

    Attributes:
        failed: the last one was not followed by a READY: the instance is in ERROR.
        work: see `Work`.
        revision: of the agent under which they happened; see `under`.
    """

    failures: tuple[Failure, ...] = ()
    failed: bool = False
    work: Work | None = None
    revision: str = ""

    def after(self, failure: Failure) -> History:
        """With one more failure; it stops the instance."""
        kept = tuple(replace(one, message="") for one in self.failures[1 - MAX_FAILURES :])
        last = replace(failure, message=failure.message[:MESSAGE_CHARS])
        return replace(self, failures=(*kept, last), failed=True, work=None)

    def working(self, epoch: int, now: float) -> History:
        """While the owner of this epoch starts it, or it works for longer than a moment."""
        return replace(self, work=Work(epoch, now))

    def ready(self) -> History:
        """READY, and perhaps at work already."""
        return replace(self, failed=False)

    def calm(self) -> History:
        """READY, and nothing is under way."""
        return replace(self, failed=False, work=None)

    def resting(self) -> History:
        """Given up by its owner, with nothing under way."""
        return replace(self, work=None)

    def taken(self, epoch: int, tier: Tier) -> History:
        """As the owner of this epoch finds it: work that another one left is a failure of its own."""
        if self.work is None or self.work.epoch == epoch:
            return self
        message = "Its host ended while it was starting or at work."
        return self.after(Failure(self.work.since, Cause.HOST_LOST, tier, message=message))

    def under(self, revision: str) -> History:
        """For an agent of this revision: what happened under another one says nothing about it."""
        if self.revision == revision:
            return self
        return History(revision=revision)

    def within(self, now: float, seconds: float) -> tuple[Failure, ...]:
        """The failures of the last seconds; one of the future, by another machine's clock, counts as now."""
        return tuple(one for one in self.failures if now - one.at < seconds)

    def pack(self) -> bytes:
        """What is kept with the record; empty when there is nothing to keep."""
        if not self.failures and self.work is None:
            return b""
        stored: dict[str, Any] = {
            "failures": [[round(one.at, 3), one.cause, one.tier, int(one.starting)] for one in self.failures],
            "revision": self.revision,
        }
        if self.failures:
            stored["message"] = self.failures[-1].message
        if self.failed:
            stored["failed"] = True
        if self.work is not None:
            stored["work"] = [self.work.epoch, round(self.work.since, 3)]
        return json.dumps(stored, separators=(",", ":")).encode()

    @classmethod
    def unpack(cls, stored: bytes) -> History:
        """The history out of a record. What an unknown version wrote is left out; never raises."""
        try:
            found = json.loads(stored) if stored else {}
        except ValueError:
            return cls()
        if not isinstance(found, dict):
            return cls()
        failures = tuple(filter(None, map(_failure, _list(found.get("failures")))))[-MAX_FAILURES:]
        if failures:
            message = str(found.get("message", ""))[:MESSAGE_CHARS]
            failures = (*failures[:-1], replace(failures[-1], message=message))
        failed = found.get("failed") is True and bool(failures)
        return cls(failures, failed, _work(found.get("work")), str(found.get("revision", "")))


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _failure(stored: object) -> Failure | None:
    match stored:
        case [int() | float() as at, str() as cause, str() as tier, starting, *_]:
            if cause in set(Cause) and tier in set(Tier):
                return Failure(float(at), Cause(cause), Tier(tier), bool(starting))
    return None


def _work(stored: object) -> Work | None:
    match stored:
        case [int() as epoch, int() | float() as since, *_]:
            return Work(epoch, float(since))
    return None


@dataclass(frozen=True, slots=True)
class Policy:
    """What the owner of a pool decides.

    Attributes:
        enabled: False: whatever fails waits for its user.
        memory_bytes: quota of each tier that an instance may be moved to.
    """

    enabled: bool = True
    max_failures_per_hour: int = 5
    window_seconds: float = HOUR_SECONDS
    memory_bytes: Mapping[Tier, int] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to be done about the last failure.

    Attributes:
        retry_after_seconds: from the failure on, until the next try by itself; None: a user has to resume it.
        reason: one sentence.
        target: the tier to move to, for MIGRATE alone.
    """

    strategy: Strategy
    retry_after_seconds: float | None
    reason: str
    target: Tier | None = None


def wait_seconds(failures: int, *, starting: bool) -> float:
    """How long the next try waits after so many failures in CALM_SECONDS: 0, 1, 2, 4 .. 60 s; when it failed
    to start 1, 3, 9, 27, 60 s."""
    if starting:
        return min(LAST_WAIT_SECONDS, FIRST_WAIT_SECONDS * STARTING_FACTOR ** min(max(failures - 1, 0), 10))
    if failures < 2:
        return 0.0
    return min(LAST_WAIT_SECONDS, FIRST_WAIT_SECONDS * WAIT_FACTOR ** min(failures - 2, 10))


def decide(earlier: History, failure: Failure, policy: Policy) -> Decision:
    """What is to be done about a failure that came after those of `earlier`. Total; with more failures the
    strategy never is a weaker one and the wait never a shorter one."""
    now, history = failure.at, earlier.after(failure)
    if not policy.enabled:
        return Decision(
            Strategy.ESCALATE, None, "Recovery is switched off; resume the instance to try again."
        )
    in_hour = len(history.within(now, HOUR_SECONDS))
    if in_hour > policy.max_failures_per_hour or in_hour >= MAX_FAILURES:
        why = f"it failed {in_hour} times within an hour"
        return _escalated(failure, why)
    wait = wait_seconds(len(history.within(now, CALM_SECONDS)), starting=failure.starting)
    found = _pattern(history, failure, policy.window_seconds)
    if found is None:
        return Decision(Strategy.RESTART, wait, "It is started again from its last acknowledged state.")
    if found.strategy is Strategy.ESCALATE:
        return _escalated(failure, found.why)
    if found.strategy is Strategy.MIGRATE:
        larger = next_larger(policy.memory_bytes, failure.tier)
        if larger is None:
            return _escalated(failure, f"{found.why}, and no tier has a larger quota")
        return Decision(Strategy.MIGRATE, wait, f"It moves to {larger}: {found.why}.", larger)
    reason = f"It is started from the state before its last change: {found.why}."
    return Decision(Strategy.RECOVER, wait, reason)


def _pattern(history: History, failure: Failure, window: float) -> Pattern | None:
    alike = [one for one in history.within(failure.at, window) if one.cause is failure.cause]
    found = None
    for pattern in PATTERNS:
        counted = sum(_counts(pattern, one, failure) for one in alike)
        holds = pattern.cause is failure.cause and _counts(pattern, failure, failure)
        if holds and counted >= pattern.times and (not found or pattern.strategy.rank > found.strategy.rank):
            found = pattern
    return found


def _counts(pattern: Pattern, one: Failure, last: Failure) -> bool:
    started = one.starting or not pattern.starting
    return started and (one.tier is last.tier or not pattern.in_tier)


def _escalated(failure: Failure, why: str) -> Decision:
    lasting = failure.cause in LASTING
    reason = f"It is left alone: {why}. Resume it to try again."
    return Decision(Strategy.ESCALATE, None if lasting else ESCALATED_SECONDS, reason)


def next_larger(memory_bytes: Mapping[Tier, int], tier: Tier) -> Tier | None:
    """The tier with the smallest quota that is larger than this one's; None when there is none."""
    own = memory_bytes.get(tier, 0)
    larger = {one: size for one, size in memory_bytes.items() if one is not tier and size > own}
    return min(larger, key=lambda one: larger[one]) if larger else None


def judge(history: History, policy: Policy) -> Decision | None:
    """The decision about the last failure of a history; None when there is none."""
    if not history.failures:
        return None
    return decide(replace(history, failures=history.failures[:-1]), history.failures[-1], policy)


def refusal(history: History, policy: Policy, now: float) -> Decision | None:
    """Why an instance must not be tried now, with the seconds that are left from now on; None: it may be."""
    decision = judge(history, policy) if history.failed else None
    if decision is None or decision.retry_after_seconds is None:
        return decision
    left = decision.retry_after_seconds - (now - history.failures[-1].at)
    # A failure of the future is another machine's clock; it never waits for longer than its own time.
    left = min(left, decision.retry_after_seconds)
    return replace(decision, retry_after_seconds=left) if left > 0 else None
