# SPDX-License-Identifier: Apache-2.0
"""The circuit breaker: what opens it, for how long, how many try it, and what closes it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agentpool_core.errors import (
    AgentFailure,
    AgentPoolError,
    AnswerTooLarge,
    CircuitOpen,
    ConcurrencyExceeded,
    DeadlineExceeded,
    InputRejected,
    InstanceCrashed,
    InstancePaused,
    InstanceRolledBack,
    MemoryExceeded,
    OutcomeUnknown,
    OwnershipLost,
    RateExceeded,
    StateTooLarge,
    StoreUnavailable,
)
from agentpool_core.resilience import (
    BreakerPolicy,
    BreakerState,
    CircuitBreaker,
    Outcome,
    Pass,
    circuit_open,
    outcome_of,
)

POLICY = BreakerPolicy()
OFF = BreakerPolicy(enabled=False)
CLOSED, OPEN, HALF_OPEN = BreakerState


def ends(breaker: CircuitBreaker, outcome: Outcome, now: float, times: int = 1) -> None:
    """So many requests come and end, one after the other."""
    for _ in range(times):
        breaker.leave(breaker.enter(POLICY, now), outcome, POLICY, now)


def opened(reopenings: int = 0) -> tuple[CircuitBreaker, float]:
    """A breaker that has just opened for the n-th time, and when."""
    breaker, now = CircuitBreaker(), 100.0
    ends(breaker, Outcome.FAILURE, now, POLICY.failure_threshold)
    for _ in range(reopenings):
        now = breaker.open_until
        ends(breaker, Outcome.FAILURE, now)
    return breaker, now


def test_failures_in_a_row_open_it() -> None:
    breaker = CircuitBreaker()
    ends(breaker, Outcome.FAILURE, 1.0, 4)
    assert (breaker.state, breaker.failures) == (CLOSED, 4)
    ends(breaker, Outcome.FAILURE, 1.0)
    assert (breaker.state, breaker.open_until) == (OPEN, 31.0)
    with pytest.raises(CircuitOpen) as refused:
        breaker.enter(POLICY, 11.0)
    assert refused.value.retry_after_seconds == 20.0
    assert (refused.value.http_status, refused.value.grpc_status) == (503, "UNAVAILABLE")
    assert "model provider" in refused.value.hint


def test_a_success_between_them_keeps_it_closed() -> None:
    breaker = CircuitBreaker()
    for _ in range(10):
        ends(breaker, Outcome.FAILURE, 1.0, 4)
        ends(breaker, Outcome.SUCCESS, 1.0)
    assert breaker.calm


def test_what_says_nothing_neither_opens_nor_closes_it() -> None:
    breaker = CircuitBreaker()
    ends(breaker, Outcome.FAILURE, 1.0, 4)
    ends(breaker, Outcome.NEITHER, 1.0, 100)
    assert (breaker.state, breaker.failures) == (CLOSED, 4)


@pytest.mark.parametrize(
    ("reopenings", "seconds"), [(0, 30), (1, 60), (2, 120), (3, 240), (4, 480), (5, 600), (9, 600)]
)
def test_each_failed_trial_doubles_the_wait_up_to_the_longest(reopenings: int, seconds: float) -> None:
    breaker, now = opened(reopenings)
    assert (breaker.reopenings, breaker.open_until - now) == (reopenings, seconds)


def test_the_wait_is_spread_by_a_tenth_at_most() -> None:
    assert POLICY.open_seconds(0, 1.0) == 33.0
    assert BreakerPolicy(reset_timeout_seconds=60, max_reset_timeout_seconds=10).open_seconds(0) == 60.0
    assert POLICY.open_seconds(10**9) == 600.0


def test_as_many_successes_close_it_as_trials_are_allowed() -> None:
    breaker, now = opened(2)
    now = breaker.open_until
    assert breaker.seen(now) is HALF_OPEN
    ends(breaker, Outcome.SUCCESS, now, 2)
    assert breaker.state is HALF_OPEN
    ends(breaker, Outcome.SUCCESS, now)
    assert (breaker.state, breaker.failures, breaker.reopenings) == (CLOSED, 0, 0)
    ends(breaker, Outcome.FAILURE, now, 5)
    assert breaker.open_until - now == 30.0, "closing begins the waits anew"


def test_only_so_many_try_at_one_time() -> None:
    breaker, _ = opened()
    now = breaker.open_until
    trials = [breaker.enter(POLICY, now) for _ in range(3)]
    with pytest.raises(CircuitOpen) as refused:
        breaker.enter(POLICY, now)
    assert refused.value.retry_after_seconds == 1.0
    breaker.leave(trials[0], Outcome.NEITHER, POLICY, now)
    breaker.leave(trials[0], Outcome.NEITHER, POLICY, now)
    breaker.enter(POLICY, now)
    with pytest.raises(CircuitOpen):
        breaker.enter(POLICY, now)


def test_a_request_of_the_time_before_says_nothing_of_the_time_after() -> None:
    breaker = CircuitBreaker()
    slow = [breaker.enter(POLICY, 0.0) for _ in range(20)]
    ends(breaker, Outcome.FAILURE, 0.0, 5)
    now = breaker.open_until
    assert breaker.look(POLICY, now) is HALF_OPEN
    for one in slow:
        breaker.leave(one, Outcome.FAILURE, POLICY, now)
    assert (breaker.state, breaker.trials) == (HALF_OPEN, 0)


def test_switched_off_it_lets_everything_through_and_forgets() -> None:
    breaker, now = opened(3)
    breaker.leave(breaker.enter(OFF, now), Outcome.FAILURE, OFF, now)
    assert breaker.calm and breaker.reopenings == 0
    ends(breaker, Outcome.FAILURE, now, 4)
    assert breaker.state is CLOSED


OUTCOMES = [
    (None, Outcome.SUCCESS),
    (AgentFailure("x"), Outcome.FAILURE),
    (MemoryExceeded("x"), Outcome.FAILURE),
    (InstanceCrashed("x"), Outcome.FAILURE),
    (DeadlineExceeded("x"), Outcome.FAILURE),
    (AnswerTooLarge("x"), Outcome.NEITHER),
    (StateTooLarge("x"), Outcome.NEITHER),
    (InputRejected("x"), Outcome.NEITHER),
    (InstanceRolledBack("x"), Outcome.NEITHER),
    (InstancePaused("x"), Outcome.NEITHER),
    (ConcurrencyExceeded("x"), Outcome.NEITHER),
    (RateExceeded("x"), Outcome.NEITHER),
    (OwnershipLost("x"), Outcome.NEITHER),
    (StoreUnavailable("x"), Outcome.NEITHER),
    (OutcomeUnknown("x"), Outcome.NEITHER),
    (CircuitOpen("x"), Outcome.NEITHER),
]


@pytest.mark.parametrize(("error", "wanted"), OUTCOMES, ids=[type(e).__name__ for e, _ in OUTCOMES])
def test_which_ends_of_a_request_count(error: AgentPoolError | None, wanted: Outcome) -> None:
    assert outcome_of(error) is wanted


def test_what_was_reported_refuses_only_until_its_time_is_over() -> None:
    refusal = circuit_open(5, 130.0, 100.0)
    assert refusal is not None and refusal.retry_after_seconds == 30.0
    assert circuit_open(5, 130.0, 130.0) is None


def test_the_codes_of_the_metric() -> None:
    assert [state.code for state in BreakerState] == [0, 1, 2]


# On its way


def moved(breaker: CircuitBreaker, now: float, into: CircuitBreaker | None = None) -> CircuitBreaker:
    """The breaker at its next host."""
    other = into or CircuitBreaker()
    other.take_over(breaker.pack(), POLICY, now)
    return other


def test_an_open_breaker_is_open_at_the_next_host() -> None:
    breaker, now = opened(1)
    other = moved(breaker, now)
    assert (other.state, other.failures, other.reopenings) == (OPEN, 6, 1)
    assert other.open_until == breaker.open_until


def test_trials_of_another_host_take_no_place() -> None:
    breaker, _ = opened()
    now = breaker.open_until
    for _ in range(3):
        breaker.enter(POLICY, now)
    other = moved(breaker, now)
    assert [other.enter(POLICY, now).trial for _ in range(3)] == [True] * 3


def test_the_later_of_two_is_taken() -> None:
    breaker, _ = opened()
    closed_later, _ = opened()
    ends(closed_later, Outcome.SUCCESS, closed_later.open_until, 3)
    assert moved(breaker, 200.0, closed_later).state is CLOSED
    assert moved(closed_later, 200.0, opened()[0]).state is CLOSED


def test_another_machines_clock_does_not_keep_it_open() -> None:
    breaker, now = opened()
    breaker.open_until += 10_000
    assert moved(breaker, now).open_until == now + 30.0


@pytest.mark.parametrize("stored", [b"", b"rubbish", b"\x02" * 30, b"\x01\x09" + b"\x00" * 28])
def test_what_cannot_be_read_is_left_alone(stored: bytes) -> None:
    breaker, now = opened()
    breaker.take_over(stored, POLICY, now)
    assert breaker.state is OPEN


def test_nothing_travels_while_nothing_failed() -> None:
    breaker = CircuitBreaker()
    ends(breaker, Outcome.SUCCESS, 5.0, 100)
    assert breaker.pack() == b""


@given(st.binary(max_size=40))
def test_any_bytes_leave_a_breaker_that_works(stored: bytes) -> None:
    breaker = CircuitBreaker()
    breaker.take_over(stored, POLICY, 100.0)
    assert breaker.look(POLICY, 100.0 + 2 * POLICY.max_reset_timeout_seconds) in (CLOSED, HALF_OPEN)


class Traffic(RuleBasedStateMachine):
    """Any order of requests, ends and waits."""

    def __init__(self) -> None:
        super().__init__()
        self.breaker, self.now = CircuitBreaker(), 1.0
        self.running: list[Pass] = []

    @rule(seconds=st.floats(0, 100))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def arrive(self) -> None:
        try:
            self.running.append(self.breaker.enter(POLICY, self.now))
        except CircuitOpen as exc:
            assert exc.retry_after_seconds is not None and exc.retry_after_seconds > 0
            assert self.breaker.state is not CLOSED

    @precondition(lambda self: self.running)
    @rule(outcome=st.sampled_from(Outcome), which=st.integers(0, 10**6))
    def end(self, outcome: Outcome, which: int) -> None:
        given = self.running.pop(which % len(self.running))
        self.breaker.leave(given, outcome, POLICY, self.now)

    @invariant()
    def trials_are_counted(self) -> None:
        mine = [one for one in self.running if one.trial and one.generation == self.breaker._generation]
        assert self.breaker.trials == len(mine) <= POLICY.half_open_max_requests

    @invariant()
    def it_is_never_open_for_ever(self) -> None:
        most = POLICY.max_reset_timeout_seconds
        assert self.breaker.open_until <= self.now + most
        assert (self.breaker.state is OPEN) == (self.breaker.open_until > 0)


TestTraffic = Traffic.TestCase
