# SPDX-License-Identifier: Apache-2.0
"""What follows a failed attempt, as a table."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentpool_client.retrying import Failed, Next, RetryPolicy, decide, pause_seconds
from agentpool_core import errors
from agentpool_core.errors import AgentPoolError

POLICY = RetryPolicy(attempts=3, first_pause_seconds=0.1, last_pause_seconds=1.0)
BUSY = errors.RateExceeded("full", retry_after_seconds=2.0)
UNKNOWN_DEADLINE = errors.DeadlineExceeded("late", details={"outcome": "unknown"})


def wrong(error: AgentPoolError) -> Next:
    return Next(error)


CRASH = errors.InstanceCrashed("crash")
NOT_OWNER = errors.NotOwner("pod/1")
NOT_FOUND = errors.InstanceNotFound("no")
NO_KEYS = errors.IdempotencyUnsupported("no keys")
UNKNOWN = errors.OutcomeUnknown("who knows")
TABLE = [
    pytest.param(Failed(NOT_FOUND), wrong(NOT_FOUND), id="an error that stays is raised"),
    pytest.param(
        Failed(UNKNOWN, accepted=True, keyed=True), wrong(UNKNOWN), id="an unknown outcome is raised"
    ),
    pytest.param(
        Failed(BUSY), Next(pause_seconds=2.0), id="Retry-After is waited for, also where the pause is shorter"
    ),
    pytest.param(
        Failed(BUSY, seconds_left=1.5),
        wrong(BUSY),
        id="a wait that is longer than the time left is not begun",
    ),
    pytest.param(Failed(BUSY, attempts=3), wrong(BUSY), id="the last attempt's error is raised"),
    pytest.param(Failed(CRASH, accepted=True), Next(pause_seconds=0.1), id="a first crash is tried again"),
    pytest.param(Failed(CRASH, accepted=True, attempts=2), wrong(CRASH), id="a second crash is raised"),
    pytest.param(
        Failed(NOT_OWNER, direct=True),
        Next(new_lease=True, counts=False),
        id="a host that is not the owner costs a lease and no attempt",
    ),
    pytest.param(
        Failed(errors.Draining("bye"), direct=True, attempts=3),
        Next(new_lease=True, counts=False),
        id="a draining host is left at once, also on the last attempt",
    ),
    pytest.param(
        Failed(errors.Unauthenticated("old life"), direct=True),
        Next(new_lease=True, counts=False),
        id="a host that restarted does not know the token",
    ),
    pytest.param(
        Failed(None, direct=True),
        Next(new_lease=True, counts=False),
        id="a host that breaks off before accepted has done nothing",
    ),
    pytest.param(
        Failed(None, direct=True, accepted=True, keyed=True),
        Next(pause_seconds=0.1, new_lease=True),
        id="a host that breaks off later is tried again with a key",
    ),
    pytest.param(
        Failed(None), Next(pause_seconds=0.1), id="a gateway that breaks off before accepted is tried again"
    ),
    pytest.param(
        Failed(BUSY, direct=True),
        Next(pause_seconds=2.0),
        id="a quota is the host's answer and keeps the lease",
    ),
    pytest.param(
        Failed(NO_KEYS, keyed=True, own_key=True),
        Next(counts=False, without_key=True),
        id="a key of the library's is left out where the pool keeps none",
    ),
    pytest.param(Failed(NO_KEYS, keyed=True), wrong(NO_KEYS), id="a key of the caller's is not left out"),
    pytest.param(
        Failed(UNKNOWN_DEADLINE, accepted=True, keyed=True),
        wrong(UNKNOWN_DEADLINE),
        id="what took too long is not begun again",
    ),
]


@pytest.mark.parametrize(("failed", "wanted"), TABLE)
def test_what_follows(failed: Failed, wanted: Next) -> None:
    assert decide(failed, POLICY, jitter=1.0) == wanted


def test_without_a_key_a_break_after_accepted_is_an_unknown_outcome() -> None:
    following = decide(Failed(None, accepted=True), POLICY, jitter=1.0)
    assert isinstance(following.error, errors.OutcomeUnknown)


def test_the_deadline_says_whether_the_request_may_have_taken_effect() -> None:
    before = decide(Failed(None, seconds_left=0), POLICY, jitter=1.0).error
    after = decide(Failed(None, accepted=True, seconds_left=0), POLICY, jitter=1.0).error
    assert isinstance(before, errors.DeadlineExceeded) and "outcome" not in before.details
    assert isinstance(after, errors.DeadlineExceeded) and after.details["outcome"] == "unknown"


@given(
    error=st.sampled_from([None, BUSY, CRASH, NOT_OWNER, NOT_FOUND, UNKNOWN]),
    direct=st.booleans(),
    accepted=st.booleans(),
    keyed=st.booleans(),
    jitter=st.floats(0, 1),
)
def test_an_unkeyed_request_is_never_sent_twice_after_a_break(
    error: AgentPoolError | None, direct: bool, accepted: bool, keyed: bool, jitter: float
) -> None:
    following = decide(Failed(error, direct, accepted, keyed), POLICY, jitter)
    if error is None and accepted and not keyed:
        assert isinstance(following.error, errors.OutcomeUnknown)
    if error is UNKNOWN or error is NOT_FOUND:
        assert following.error is error


@given(jitter=st.floats(0, 1), attempts=st.integers(1, 200))
def test_pauses_grow_to_a_bound_and_half_of_each_is_chance(jitter: float, attempts: int) -> None:
    pause = pause_seconds(POLICY, attempts, jitter)
    whole = min(0.1 * 2 ** min(attempts - 1, 30), 1.0)
    assert whole / 2 <= pause <= whole


@pytest.mark.parametrize("bad", [{"attempts": 0}, {"first_pause_seconds": 0.0}, {"first_pause_seconds": 3.0}])
def test_a_policy_that_cannot_be_is_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        RetryPolicy(**bad)  # type: ignore[arg-type]
