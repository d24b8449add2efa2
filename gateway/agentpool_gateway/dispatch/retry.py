# SPDX-License-Identifier: Apache-2.0
"""What to do after a failed attempt: pure, one function.

A request takes effect at most once without an Idempotency-Key: after `accepted` it may have taken effect,
so only what is safe to repeat is repeated. Before it, a refusal or a broken connection changed nothing: the
request is tried elsewhere, bounded by time and not by the number of attempts.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from agentpool_core.errors import (
    OUTCOME,
    UNKNOWN,
    AgentPoolError,
    DeadlineExceeded,
    Draining,
    HostOverloaded,
    HostTooOld,
    InstanceCrashed,
    InstanceRolledBack,
    NoHost,
    NotAllowed,
    NotConfigured,
    NotOwner,
    NoWorkers,
    OutcomeUnknown,
    OwnershipLost,
    PodTaken,
    PoolExhausted,
    Unavailable,
)

MAX_HOPS = 2
"""How often a NotOwner is followed at once to the owner it names; then there is a pause before the next look,
for the instance is changing hosts."""
MOVING_SECONDS = 5.0
"""How long to wait for an instance whose hosts name each other; a move takes milliseconds."""
MAX_EXHAUSTED = 2
"""How many full hosts are asked: with a cap on the whole pool every host says the same."""
MAX_ACCEPTED = 6
"""How often a request with a key may be accepted and break: one that kills its hosts is not sent to all."""
OWNER_SECONDS = 15.0
"""How long to wait for news of an owner that does not answer: its silence is noticed in 3 s, and the cluster
calls its pod unready, which is the proof of its end, in 8 s more."""
CAPACITY_SECONDS = 15.0
"""How long after a host left the next one may be on its way; how long a request waits for one is the pool's
limits.capacitySeconds."""
RETRY_AFTER_SECONDS = 1.0
"""When to come back, where the host did not say."""

_KEPT_NOTHING = (OwnershipLost, InstanceCrashed, InstanceRolledBack)


class Owner(Enum):
    """What is known of the owner that a NotOwner names."""

    NOT_NAMED = auto()
    LIVE = auto()
    DRAINING = auto()
    ENDED = auto()
    """Proven dead: the next attempt carries the proof."""
    UNKNOWN = auto()
    """Not connected, or not in the membership, and not proven dead."""


class Step(Enum):
    """What comes next."""

    ELSEWHERE = auto()
    """Place again, not on this host."""
    AGAIN = auto()
    """Place again, anywhere."""
    OWNER = auto()
    """Go to the named owner."""
    WAIT = auto()
    """Wait a little, then place again."""
    FAIL = auto()
    """Give the error to the caller."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """How far a request got.

    Attributes:
        failure: the host's error; None when the connection broke.
        accepted: whether the host had accepted the request.
        repeatable: whether doing it twice is safe (Idempotency-Key, or an operation that converges).
        acceptances: attempts so far that were accepted, this one included.
        exhausted: hosts so far that had no room or do not take the tier, this one included.
        hops: redirections followed so far.
        waited_seconds: time spent waiting so far.
        seconds_left: until the request's deadline.
        others: whether another host could take it.
        owner: what is known of the named owner.
        sticky: whether the host was tried because it holds the instance.
        host_ended: whether the host is proven dead.
        capacity_seconds: how long to wait for a host that takes the instance.
        queue_seconds: how long to wait for room in a full pool.
    """

    failure: AgentPoolError | None
    accepted: bool = False
    repeatable: bool = False
    acceptances: int = 1
    exhausted: int = 1
    hops: int = 0
    waited_seconds: float = 0.0
    seconds_left: float = 60.0
    others: bool = False
    owner: Owner = Owner.NOT_NAMED
    sticky: bool = False
    host_ended: bool = False
    capacity_seconds: float = CAPACITY_SECONDS
    queue_seconds: float = 1.0


@dataclass(frozen=True, slots=True)
class Next:
    """The decision; `error` is set for FAIL."""

    step: Step
    error: AgentPoolError | None = None


def decide(attempt: Attempt) -> Next:
    """The next step of a request after a failed attempt."""
    if attempt.accepted:
        return _after_accepted(attempt)
    if attempt.seconds_left <= 0:
        return Next(Step.FAIL, _shown(attempt.failure) if attempt.failure else deadline_passed(False))
    failure = attempt.failure
    if failure is None:
        return _after_break(attempt)
    if isinstance(failure, NotOwner):
        return _after_not_owner(attempt, failure)
    return _after_refusal(attempt, failure)


def _after_accepted(attempt: Attempt) -> Next:
    failure = attempt.failure
    again = attempt.repeatable and attempt.acceptances < MAX_ACCEPTED and attempt.seconds_left > 0
    if failure is None:
        return Next(Step.AGAIN) if again else Next(Step.FAIL, outcome_unknown())
    if again and isinstance(failure, _KEPT_NOTHING):
        # A request that crashes its worker is given one more chance, not all.
        if not isinstance(failure, InstanceCrashed) or attempt.acceptances == 1:
            return Next(Step.AGAIN)
    return Next(Step.FAIL, failure)


def _after_break(attempt: Attempt) -> Next:
    # At another host the answer would be NotOwner: the holder comes back, or its end gets proven.
    holder = attempt.sticky and not attempt.host_ended
    if attempt.others and not holder:
        return Next(Step.ELSEWHERE)
    if attempt.waited_seconds < OWNER_SECONDS:
        return Next(Step.WAIT)
    return Next(Step.FAIL, Unavailable("The connection to the instance's host broke."))


def _after_not_owner(attempt: Attempt, failure: NotOwner) -> Next:
    match attempt.owner:
        case Owner.LIVE if attempt.hops < MAX_HOPS:
            return Next(Step.OWNER)
        case Owner.ENDED:
            return Next(Step.AGAIN)
        case Owner.DRAINING:
            # It lets go at the end of the requests that it has; only the deadline is shorter.
            return Next(Step.WAIT)
        case Owner.LIVE if attempt.waited_seconds < MOVING_SECONDS:
            return Next(Step.WAIT)
        case Owner.UNKNOWN if attempt.waited_seconds < OWNER_SECONDS:
            return Next(Step.WAIT)
    return Next(Step.FAIL, failure)


def _after_refusal(attempt: Attempt, failure: AgentPoolError) -> Next:
    patience = OWNER_SECONDS
    if isinstance(failure, Draining | PodTaken | NotConfigured | NoWorkers):
        step = Step.ELSEWHERE if attempt.others else Step.WAIT
    elif isinstance(failure, HostTooOld | HostOverloaded) and attempt.others and not attempt.sticky:
        step = Step.ELSEWHERE
    elif isinstance(failure, NoHost):
        # The host does not take the tier; one that does may be on its way.
        step = Step.ELSEWHERE if attempt.others and attempt.exhausted < MAX_EXHAUSTED else Step.WAIT
        patience = attempt.capacity_seconds
    elif isinstance(failure, PoolExhausted):
        # Some instance may become idle, which makes room.
        step = Step.ELSEWHERE if attempt.others and attempt.exhausted < MAX_EXHAUSTED else Step.WAIT
        patience = attempt.queue_seconds
    elif isinstance(failure, OwnershipLost | NotAllowed):
        # NotAllowed: a host that restarted a moment ago does not take the token; its watch is on its way.
        step = Step.WAIT
    else:
        return Next(Step.FAIL, failure)
    if step is Step.WAIT and attempt.waited_seconds >= patience:
        return Next(Step.FAIL, _shown(failure))
    return Next(step)


def _shown(failure: AgentPoolError) -> AgentPoolError:
    """The failure as the caller may see it: the gateway's own trouble with a host is not the caller's."""
    if isinstance(failure, NotAllowed):
        return Unavailable("The instance's host did not accept the gateway.")
    if isinstance(failure, PodTaken):
        return PoolExhausted("Every waiting pod was taken by another instance.")
    return failure


def come_back(failure: AgentPoolError) -> float | None:
    """When the caller may try again, seconds: what was said, else a default for what can succeed later."""
    if failure.retry_after_seconds is not None:
        return failure.retry_after_seconds
    later = failure.retryable and failure.http_status in (429, 503)
    return RETRY_AFTER_SECONDS if later else None


def outcome_unknown() -> OutcomeUnknown:
    """The error of a request whose connection broke after it had been accepted."""
    return OutcomeUnknown("The connection to the host broke after it had accepted the request.")


def deadline_passed(accepted: bool) -> DeadlineExceeded:
    """The error of a request whose deadline passed at the gateway, before the host said anything of it."""
    if not accepted:
        return DeadlineExceeded(
            "The deadline passed before the request was accepted; it had no effect.",
            retry_after_seconds=RETRY_AFTER_SECONDS,
        )
    return DeadlineExceeded(
        "The deadline passed after the request had been accepted; it may or may not have taken effect.",
        remedy=OutcomeUnknown.remedy,
        details={OUTCOME: UNKNOWN},
    )
