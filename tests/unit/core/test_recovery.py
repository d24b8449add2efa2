# SPDX-License-Identifier: Apache-2.0
"""What is decided about failures, and the history it rests on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentpool_core.lifecycle import Tier
from agentpool_core.recovery import (
    MAX_FAILURES,
    Cause,
    Decision,
    Failure,
    History,
    Policy,
    Strategy,
    Work,
    decide,
    judge,
    next_larger,
    refusal,
    wait_seconds,
)

NOW = 1_000_000.0
QUOTAS = {Tier.HOT: 2048, Tier.WARM: 512, Tier.COLD: 256}
POLICY = Policy(memory_bytes=QUOTAS)
C = Cause


def history(*failures: tuple[float, Cause] | tuple[float, Cause, bool]) -> History:
    """A history of failures so many seconds before NOW."""
    found = History()
    for ago, cause, *starting in failures:
        found = found.after(Failure(NOW - ago, cause, Tier.WARM, bool(starting and starting[0])))
    return found


def times(count: int, cause: Cause, *, starting: bool = False, apart: float = 60.0) -> History:
    """So many failures of one cause, the last one NOW."""
    return history(*((apart * (count - 1 - n), cause, starting) for n in range(count)))


AFTER_A_QUARTER = history((900, C.CRASH), (0, C.CRASH))
TWO_HOURS_APART = history((7200, C.CORRUPT_STATE), (0, C.CORRUPT_STATE))
AT_WORK_THEN_AT_START = history((120, C.CRASH), (60, C.CRASH), (0, C.CRASH, True))
SIX_KINDS = history(
    *((10 * n, cause) for n, cause in enumerate((C.CRASH, C.HANG, C.SETUP_FAILED, C.RESTORE_FAILED))),
    (5, C.MEMORY_EXCEEDED),
    (0, C.CRASH),
)

TABLE = [
    ("a first crash is restarted at once", times(1, C.CRASH), "RESTART", 0.0),
    ("a second crash waits a second", times(2, C.CRASH), "RESTART", 1.0),
    ("a third crash waits longer", times(3, C.CRASH), "RESTART", 2.0),
    ("a crash a quarter later is a first one", AFTER_A_QUARTER, "RESTART", 0.0),
    ("a hang is restarted", times(1, C.HANG), "RESTART", 0.0),
    ("a setup that failed waits", times(1, C.SETUP_FAILED, starting=True), "RESTART", 1.0),
    ("a refused state is tried again", times(1, C.RESTORE_FAILED, starting=True), "RESTART", 1.0),
    ("an instance that lost its host is restarted", times(1, C.HOST_LOST), "RESTART", 0.0),
    ("damaged state is recovered", times(1, C.CORRUPT_STATE, starting=True), "RECOVER", 1.0),
    ("damage again is escalated for good", times(2, C.CORRUPT_STATE, starting=True), "ESCALATE", None),
    ("damage two hours apart is recovered twice", TWO_HOURS_APART, "RECOVER", 0.0),
    ("two crashes at the start are restarted", times(2, C.CRASH, starting=True), "RESTART", 3.0),
    ("a third crash at the start is recovered", times(3, C.CRASH, starting=True), "RECOVER", 9.0),
    ("a fourth crash at the start is escalated", times(4, C.CRASH, starting=True), "ESCALATE", 3600.0),
    ("crashes at work do not count as crashes at the start", AT_WORK_THEN_AT_START, "RESTART", 9.0),
    ("too little memory twice is restarted", times(2, C.MEMORY_EXCEEDED), "RESTART", 1.0),
    ("too little memory a third time is moved", times(3, C.MEMORY_EXCEEDED), "MIGRATE", 2.0),
    ("the limit of five an hour is still kept by five", times(5, C.HANG), "RESTART", 8.0),
    ("over the limit it is escalated for an hour", times(6, C.HANG), "ESCALATE", 3600.0),
    ("over the limit whatever the causes", SIX_KINDS, "ESCALATE", 3600.0),
    ("hosts lost over the limit stay escalated", times(6, C.HOST_LOST), "ESCALATE", None),
    ("six failures over more than an hour are under the limit", times(6, C.HANG, apart=800), "RESTART", 0.0),
]  # fmt: skip


@pytest.mark.parametrize(
    ("found", "strategy", "wait"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_a_decision(found: History, strategy: str, wait: float | None) -> None:
    decision = judge(found, POLICY)
    assert decision is not None
    assert (decision.strategy, decision.retry_after_seconds) == (strategy, wait)


@pytest.mark.parametrize(
    ("tier", "target"),
    [
        pytest.param(Tier.WARM, Tier.HOT, id="WARM moves to HOT, the only larger one"),
        pytest.param(Tier.COLD, Tier.WARM, id="COLD moves to WARM, the next larger one"),
        pytest.param(Tier.HOT, None, id="nothing is larger than HOT"),
    ],
)
def test_where_it_moves_to(tier: Tier, target: Tier | None) -> None:
    found = History()
    for _ in range(3):
        found = found.after(Failure(NOW, C.MEMORY_EXCEEDED, tier))
    decision = judge(found, POLICY)
    assert decision is not None
    assert decision.target is target
    assert decision.strategy is (Strategy.MIGRATE if target else Strategy.ESCALATE)
    assert next_larger(QUOTAS, tier) is target
    assert next_larger({}, tier) is None


def test_memory_that_was_too_little_in_another_tier_says_nothing_about_this_one() -> None:
    found = times(3, C.MEMORY_EXCEEDED)
    moved = decide(found, Failure(NOW, C.MEMORY_EXCEEDED, Tier.HOT), POLICY)
    assert moved.strategy is Strategy.RESTART


def test_switched_off_everything_waits_for_its_user() -> None:
    for cause in Cause:
        decision = decide(History(), Failure(NOW, cause), Policy(enabled=False))
        assert (decision.strategy, decision.retry_after_seconds) == (Strategy.ESCALATE, None)


def test_a_refusal_counts_down_and_ends() -> None:
    found = times(3, C.CRASH)

    def left(now: float) -> float | None:
        decision = refusal(found, POLICY, now)
        return None if decision is None else decision.retry_after_seconds

    assert left(NOW) == 2.0
    assert left(NOW + 1.5) == 0.5
    assert left(NOW + 2) is None
    assert left(NOW - 1000) == 2.0, "another machine's clock never makes it wait longer"
    assert refusal(found.calm(), POLICY, NOW) is None, "it is not in ERROR any more"
    assert refusal(History(), POLICY, NOW) is None


def test_an_escalation_for_good_stays_one() -> None:
    decision = refusal(times(2, C.CORRUPT_STATE), POLICY, NOW + 1e9)
    assert decision is not None
    assert decision.retry_after_seconds is None


def test_work_that_an_ended_owner_left_is_a_failure_once() -> None:
    working = History().working(7, NOW)
    assert working.taken(7, Tier.HOT) == working, "its own work"
    found = working.taken(8, Tier.HOT)
    assert [(one.cause, one.tier) for one in found.failures] == [(C.HOST_LOST, Tier.HOT)]
    assert found.failed
    assert found.taken(9, Tier.HOT) == found
    assert working.calm().taken(8, Tier.HOT) == History()
    assert found.working(8, NOW).resting() == found, "given up, and still in ERROR"


def test_another_revision_of_the_agent_begins_anew() -> None:
    found = History(revision="a").after(Failure(NOW, C.RESTORE_FAILED))
    assert found.under("a") is found
    assert found.under("b") == History(revision="b")


def test_only_the_last_message_is_kept() -> None:
    found = History().after(Failure(1, C.CRASH, message="a")).after(Failure(2, C.CRASH, message="b" * 1000))
    assert [one.message for one in found.failures] == ["", "b" * 300]


@pytest.mark.parametrize(
    ("stored", "want"),
    [
        pytest.param(b"", History(), id="nothing"),
        pytest.param(b"\xff", History(), id="no text"),
        pytest.param(b"[1]", History(), id="no object"),
        pytest.param(b'{"failures":7,"work":"x"}', History(), id="other types"),
        pytest.param(
            b'{"failures":[[1,"Crash","HOT",1,"new"],[2,"Melted","HOT",0],[3,"Crash","TEPID",0],["x"],3],"failed":true,"new":1,"work":[5,2.5]}',
            History((Failure(1.0, C.CRASH, Tier.HOT, True),), True, Work(5, 2.5)),
            id="what a later version added is left out",
        ),
    ],
)
def test_an_unknown_history_is_read_as_far_as_it_goes(stored: bytes, want: History) -> None:
    assert History.unpack(stored) == want


FAILURES = st.builds(
    Failure,
    st.integers(0, 20_000).map(lambda ago: NOW - ago),
    st.sampled_from(Cause),
    st.sampled_from(Tier),
    st.booleans(),
    st.text(max_size=20),
)
HISTORIES = st.lists(FAILURES, max_size=10).map(lambda found: _of(sorted(found, key=lambda one: one.at)))
POLICIES = st.builds(
    Policy,
    st.booleans(),
    st.integers(1, 100),
    st.integers(60, 7200).map(float),
    st.dictionaries(st.sampled_from(Tier), st.integers(1, 1000)),
)


def _of(failures: list[Failure]) -> History:
    found = History()
    for one in failures:
        found = found.after(one)
    return found


@given(HISTORIES, st.booleans())
def test_a_history_survives_its_bytes(found: History, working: bool) -> None:
    found = found.working(3, NOW) if working else found
    assert History.unpack(found.pack()) == found


def test_a_history_has_a_bound() -> None:
    found = _of([Failure(float(n), C.MEMORY_EXCEEDED, message="x" * 1000) for n in range(MAX_FAILURES * 2)])
    assert [one.at for one in found.failures] == list(range(MAX_FAILURES, MAX_FAILURES * 2))
    assert len(found.pack()) < 4096
    assert History.unpack(found.pack()) == found


def test_a_full_history_is_over_any_limit() -> None:
    found = _of([Failure(NOW, C.CRASH)] * (MAX_FAILURES + 5))
    decision = judge(found, Policy(max_failures_per_hour=1000))
    assert decision is not None
    assert decision.strategy is Strategy.ESCALATE


@given(st.binary(max_size=100))
def test_any_bytes_are_a_history(stored: bytes) -> None:
    assert isinstance(History.unpack(stored), History)


@given(HISTORIES, FAILURES, POLICIES)
def test_there_is_always_a_decision(earlier: History, last: Failure, policy: Policy) -> None:
    decision = decide(earlier, last, policy)
    assert isinstance(decision, Decision)
    assert (decision.target is not None) == (decision.strategy is Strategy.MIGRATE)
    assert decision.retry_after_seconds is None or decision.retry_after_seconds >= 0


@given(HISTORIES, FAILURES, FAILURES, POLICIES)
def test_one_more_failure_never_weakens_the_decision(
    earlier: History, more: Failure, last: Failure, policy: Policy
) -> None:
    with_more = _of(sorted((*earlier.failures, more), key=lambda one: one.at))
    less, now = (decide(found, last, policy) for found in (earlier, with_more))
    assert now.strategy.rank >= less.strategy.rank
    if now.retry_after_seconds is not None:
        assert less.retry_after_seconds is not None
        assert now.retry_after_seconds >= less.retry_after_seconds


def test_the_wait_has_an_end() -> None:
    assert [wait_seconds(n, starting=False) for n in (1, 2, 3, 4, 5, 8, 1000)] == [0, 1, 2, 4, 8, 60, 60]
    assert [wait_seconds(n, starting=True) for n in (1, 2, 3, 4, 5, 1000)] == [1, 3, 9, 27, 60, 60]
