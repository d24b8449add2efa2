# SPDX-License-Identifier: Apache-2.0
"""The circuit breaker: a caller is told at once what would fail anyway, and what fails gets time to mend.

    CLOSED --failures in a row--> OPEN --time is over--> HALF_OPEN --trials succeed--> CLOSED
                                    ^------- a trial fails: wait twice as long --'
Pure: time is an argument, in seconds of one clock. The same class serves an instance and whatever else may
fail; only its scope differs. States and defaults are A42-A44. A generation keeps a late outcome from counting
in a state that its request did not see, and as many successes close it as trials are allowed: both as in
Sony's gobreaker (github.com/sony/gobreaker).
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from typing import Final

from agentpool_core.errors import (
    AgentFailure,
    AgentPoolError,
    AnswerTooLarge,
    CircuitOpen,
    DeadlineExceeded,
    InstanceCrashed,
    StateTooLarge,
)


class BreakerState(StrEnum):
    """What the breaker does with a request."""

    CLOSED = "CLOSED"
    """Lets it through."""
    OPEN = "OPEN"
    """Refuses it."""
    HALF_OPEN = "HALF_OPEN"
    """Lets a few through, to see whether what failed has mended."""

    @property
    def code(self) -> int:
        """The value of the metric (A63): 0 CLOSED, 1 OPEN, 2 HALF_OPEN."""
        return _CODES[self]


_CODES: Final = {BreakerState.CLOSED: 0, BreakerState.OPEN: 1, BreakerState.HALF_OPEN: 2}


class Outcome(Enum):
    """How a request ended, as far as the breaker is concerned."""

    SUCCESS = auto()
    FAILURE = auto()
    """Of what is behind the breaker: it failed, crashed, or was silent until the deadline."""
    NEITHER = auto()
    """It says nothing: it was refused, cancelled, or failed for the sake of something else."""


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When a breaker opens, and for how long.

    Attributes:
        enabled: False: every request passes, and nothing is counted.
        failure_threshold: failures in a row that open it.
        reset_timeout_seconds: how long it stays OPEN the first time.
        half_open_max_requests: trials at one time, and successes in a row that close it.
        max_reset_timeout_seconds: the longest time that it stays OPEN.
    """

    enabled: bool = True
    failure_threshold: int = 5
    reset_timeout_seconds: float = 30.0
    half_open_max_requests: int = 3
    max_reset_timeout_seconds: float = 600.0

    def open_seconds(self, reopenings: int, spread: float = 0.0) -> float:
        """How long it stays OPEN: the reset time-out doubled for each reopening, up to the longest.

        `spread` from 0 to 1 makes it up to a tenth longer: what fails for one reason is not tried at once.
        """
        doubled = self.reset_timeout_seconds * 2.0 ** min(reopenings, 64)
        # A longest time below the first one would be one that does not hold.
        longest = max(self.max_reset_timeout_seconds, self.reset_timeout_seconds)
        return min(doubled, longest) * (1.0 + spread / 10)


@dataclass(slots=True)
class Pass:
    """One request's way through; given back once, by `CircuitBreaker.leave`."""

    generation: int
    trial: bool = False
    used: bool = False


TRIAL_RETRY_SECONDS = 1.0
"""When to come back while all trials are under way: nobody knows how long they take."""

_FORM = struct.Struct("<BBIIdd")
_VERSION = 1
_ORDER: Final = (BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN)


@dataclass(slots=True)
class CircuitBreaker:
    """The breaker of one thing that may fail.

    Attributes:
        state: CLOSED, OPEN or HALF_OPEN as of the last call; `look` brings it up to date.
        failures: in a row; successes and closing reset them.
        reopenings: how often in a row a trial failed; closing resets them.
        open_until: when trials may begin; 0 unless OPEN.
        changed_at: when the state or the count of failures last changed.
        spread: see `BreakerPolicy.open_seconds`.
    """

    spread: float = 0.0
    state: BreakerState = BreakerState.CLOSED
    failures: int = 0
    reopenings: int = 0
    open_until: float = 0.0
    changed_at: float = 0.0
    trials: int = 0
    _succeeded: int = 0
    _generation: int = 0

    @property
    def calm(self) -> bool:
        """Whether there is nothing to tell of it."""
        return self.state is BreakerState.CLOSED and not self.failures

    def look(self, policy: BreakerPolicy, now: float) -> BreakerState:
        """The state at this moment: an OPEN one whose time is over is HALF_OPEN."""
        if not policy.enabled:
            if not self.calm:
                self._move(BreakerState.CLOSED, now)
                self.failures = self.reopenings = 0
        elif self.state is BreakerState.OPEN and now >= self.open_until:
            self._move(BreakerState.HALF_OPEN, now)
        return self.state

    def seen(self, now: float) -> BreakerState:
        """The state at this moment, for whoever only looks."""
        over = self.state is BreakerState.OPEN and now >= self.open_until
        return BreakerState.HALF_OPEN if over else self.state

    def check(self, policy: BreakerPolicy, now: float) -> None:
        """Raise CircuitOpen if `enter` would, and take nothing."""
        state = self.look(policy, now)
        if state is BreakerState.OPEN:
            raise _refusal(self.failures, self.open_until - now)
        if state is BreakerState.HALF_OPEN and self.trials >= policy.half_open_max_requests:
            raise _refusal(self.failures, TRIAL_RETRY_SECONDS)

    def enter(self, policy: BreakerPolicy, now: float) -> Pass:
        """Let a request through; raises CircuitOpen, with the time until the next trial."""
        self.check(policy, now)
        trial = self.state is BreakerState.HALF_OPEN
        self.trials += trial
        return Pass(self._generation, trial)

    def leave(self, given: Pass, outcome: Outcome, policy: BreakerPolicy, now: float) -> None:
        """A request that was let through has ended; a second time changes nothing."""
        if given.used:
            return
        given.used = True
        if given.generation != self._generation:
            # The state has changed since; what it says is of the time before.
            return
        self.trials -= given.trial
        if outcome is Outcome.FAILURE and policy.enabled:
            self._failed(policy, now)
        elif outcome is Outcome.SUCCESS:
            self._worked(policy, now)

    def _failed(self, policy: BreakerPolicy, now: float) -> None:
        self.failures = min(self.failures + 1, _MOST)
        self.changed_at = now
        if self.state is BreakerState.HALF_OPEN:
            self.reopenings = min(self.reopenings + 1, _MOST)
        elif self.failures < policy.failure_threshold:
            return
        self._move(BreakerState.OPEN, now)
        self.open_until = now + policy.open_seconds(self.reopenings, self.spread)

    def _worked(self, policy: BreakerPolicy, now: float) -> None:
        if self.state is BreakerState.HALF_OPEN:
            self._succeeded += 1
            if self._succeeded < policy.half_open_max_requests:
                return
            self._move(BreakerState.CLOSED, now)
            self.reopenings = 0
        if self.failures:
            self.failures, self.changed_at = 0, now

    def _move(self, state: BreakerState, now: float) -> None:
        self.state, self.changed_at, self.open_until = state, now, 0.0
        self.trials = self._succeeded = 0
        self._generation += 1

    # On its way to another host

    def pack(self) -> bytes:
        """What a checkpoint carries; nothing while there is nothing to tell."""
        if self.calm and not self.changed_at:
            return b""
        until = self.open_until
        return _FORM.pack(_VERSION, self.state.code, self.failures, self.reopenings, until, self.changed_at)

    def take_over(self, stored: bytes, policy: BreakerPolicy, now: float) -> None:
        """Be as a packed one, if that changed later than this one. Trials of another host do not count here;
        a time of another machine's clock does not keep it OPEN for longer than the policy says."""
        if len(stored) != _FORM.size or stored[0] != _VERSION or stored[1] >= len(_ORDER):
            return
        _, code, failures, reopenings, until, changed_at = _FORM.unpack(stored)
        if not (math.isfinite(until) and math.isfinite(changed_at)) or changed_at <= self.changed_at:
            return
        self._move(_ORDER[code], min(changed_at, now))
        self.failures, self.reopenings = failures, reopenings
        if self.state is BreakerState.OPEN:
            self.open_until = min(until, now + policy.open_seconds(reopenings, self.spread))


_MOST: Final = 2**32 - 1


def _refusal(failures: int, seconds: float) -> CircuitOpen:
    return CircuitOpen(
        f"The last {failures} requests of the instance failed; it is given time to mend.",
        retry_after_seconds=max(seconds, 0.001),
    )


def circuit_open(failures: int, open_until: float, now: float) -> CircuitOpen | None:
    """The refusal by what was reported of a breaker that is OPEN; None once its time is over: then only the
    breaker itself knows."""
    return _refusal(failures, open_until - now) if now < open_until else None


_OF_LIMITS: Final = (AnswerTooLarge, StateTooLarge)
"""A limit held: the agent works, and others of its requests do."""


def outcome_of(error: AgentPoolError | None) -> Outcome:
    """How a request that the agent was given has ended; None: with an answer.

    The agent's own failure, its crash and its silence until the deadline count. What was refused or is the
    store's, the host's or the caller's doing does not.
    """
    if error is None:
        return Outcome.SUCCESS
    failed = isinstance(error, AgentFailure | InstanceCrashed | DeadlineExceeded)
    return Outcome.FAILURE if failed and not isinstance(error, _OF_LIMITS) else Outcome.NEITHER
