# SPDX-License-Identifier: Apache-2.0
"""What to do after a failed attempt: pure, one function.

| what happened | what follows |
|---|---|
| the pool keeps no keys, and the library made one | again without it, at once |
| a host says that it is not the one, or breaks off before `accepted` | again: new lease, then the gateway |
| the connection broke after `accepted`, with a key | again |
| the connection broke after `accepted`, without one | OutcomeUnknown |
| an error that says `retryable`, and not that its outcome is unknown | again, after a pause |
| a crash of the instance for the second time, or no answer in time | that error |
| anything else; too many attempts; a pause that is longer than the time left | that error |
"""

from __future__ import annotations

from dataclasses import dataclass

from agentpool_core.errors import (
    AgentPoolError,
    DeadlineExceeded,
    Draining,
    HostTooOld,
    IdempotencyUnsupported,
    InstanceCrashed,
    NoHost,
    NotAllowed,
    NotConfigured,
    NotOwner,
    NoWorkers,
    OutcomeUnknown,
    OwnershipLost,
    PodTaken,
    PoolDisabled,
    PoolExhausted,
    Unavailable,
)

MAX_REFUSALS = 2
"""How many leases of one request may turn out useless; then it goes through the gateway, which finds the
instance whatever happens to it."""

_NOT_HERE = (
    Draining,
    HostTooOld,
    NoHost,
    NotAllowed,
    NotConfigured,
    NoWorkers,
    NotOwner,
    OwnershipLost,
    PodTaken,
    PoolDisabled,
    PoolExhausted,
)
"""What a host says that is no answer about the request: it may be well served elsewhere. NotAllowed: the
token is of an earlier life of the host."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and when a request is sent again.

    Attributes:
        attempts: how often it is sent at most; 1: never again. Going from a host to the gateway does not
            count.
        first_pause_seconds: before the second attempt, where the error does not say when to come back;
            doubled for each further one.
        last_pause_seconds: the longest of these pauses.
        keys: give each request an Idempotency-Key, so that it can be sent again whatever happened. Costs
            one read of the store for each request. Pools that keep no keys are found out and served without.
    """

    attempts: int = 4
    first_pause_seconds: float = 0.05
    last_pause_seconds: float = 2.0
    keys: bool = True

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError("attempts must be 1 or more")
        if not 0 < self.first_pause_seconds <= self.last_pause_seconds:
            raise ValueError("first_pause_seconds must be over 0 and not over last_pause_seconds")


DEFAULT_RETRIES = RetryPolicy()


@dataclass(frozen=True, slots=True)
class Failed:
    """An attempt that failed.

    Attributes:
        error: what the other side said; None: nothing, the connection broke.
        direct: it went to the host itself.
        accepted: the host had accepted it.
        keyed: doing it twice is safe.
        own_key: the key was made by the library.
        attempts: how often the request was sent, refusals of hosts not counted.
        seconds_left: until the request's deadline.
    """

    error: AgentPoolError | None
    direct: bool = False
    accepted: bool = False
    keyed: bool = False
    own_key: bool = False
    attempts: int = 1
    seconds_left: float = 60.0


@dataclass(frozen=True, slots=True)
class Next:
    """The decision.

    Attributes:
        error: give up with this one; None: again.
        pause_seconds: before the next attempt.
        new_lease: the lease is of no use any more.
        counts: whether the next one is another attempt; a host's refusal is none.
        without_key: the pool keeps no keys.
    """

    error: AgentPoolError | None = None
    pause_seconds: float = 0.0
    new_lease: bool = False
    counts: bool = True
    without_key: bool = False


def decide(failed: Failed, policy: RetryPolicy, jitter: float) -> Next:
    """What follows a failed attempt."""
    error = failed.error
    if failed.seconds_left <= 0:
        return Next(error or deadline_passed(failed.accepted))
    if isinstance(error, IdempotencyUnsupported) and failed.own_key:
        return Next(counts=False, without_key=True)
    if failed.direct and not failed.accepted and (error is None or isinstance(error, _NOT_HERE)):
        return Next(new_lease=True, counts=False)
    if error is None:
        if failed.accepted and not failed.keyed:
            return Next(OutcomeUnknown("The connection broke after the request had been accepted."))
        error = Unavailable("The connection broke.")
    if not _may_be_repeated(error, failed):
        return Next(error)
    pause = max(error.retry_after_seconds or 0.0, pause_seconds(policy, failed.attempts, jitter))
    if failed.attempts >= policy.attempts or pause >= failed.seconds_left:
        return Next(error)
    return Next(pause_seconds=pause, new_lease=failed.direct and failed.error is None)


def pause_seconds(policy: RetryPolicy, attempts: int, jitter: float) -> float:
    """Before the next attempt after so many, with `jitter` from 0 to 1: half of it is chance, so that
    those who failed together do not come back together."""
    whole: float = min(policy.first_pause_seconds * 2 ** min(attempts - 1, 30), policy.last_pause_seconds)
    return whole * (0.5 + 0.5 * jitter)


def _may_be_repeated(error: AgentPoolError, failed: Failed) -> bool:
    if isinstance(error, InstanceCrashed) and failed.attempts > 1:
        # A request that crashes its worker is given one more chance, not all.
        return False
    if isinstance(error, DeadlineExceeded):
        # It would take as long again.
        return False
    return error.retryable and error.details.get("outcome") != "unknown"


def deadline_passed(accepted: bool) -> DeadlineExceeded:
    """The error of a request whose time is over."""
    if accepted:
        return DeadlineExceeded(
            "The deadline passed after the request had been accepted; it may or may not have taken effect.",
            remedy=OutcomeUnknown.remedy,
            details={"outcome": "unknown"},
        )
    return DeadlineExceeded("The deadline passed before the request was accepted.")
