# SPDX-License-Identifier: Apache-2.0
"""The decision after a failed attempt, case by case."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentpool_core import errors
from agentpool_core.errors import AgentPoolError
from agentpool_gateway.dispatch.retry import (
    CAPACITY_SECONDS,
    MAX_ACCEPTED,
    MAX_EXHAUSTED,
    MAX_HOPS,
    MOVING_SECONDS,
    OWNER_SECONDS,
    RETRY_AFTER_SECONDS,
    Attempt,
    Owner,
    Step,
    come_back,
    deadline_passed,
    decide,
)

NOT_OWNER = errors.NotOwner("pod/1")
DRAINING = errors.Draining("drains")
CRASHED = errors.InstanceCrashed("died")
FULL = errors.PoolExhausted("full")
UNAUTHENTICATED = errors.Unauthenticated("who?")
OTHER_TIER = errors.NoHost("not COLD")
TOO_OLD = errors.HostTooOld("what?")

CASES = [
    ("a break before accepted goes elsewhere", Attempt(None, others=True), Step.ELSEWHERE, ""),
    ("a break before accepted waits for the only host", Attempt(None), Step.WAIT, ""),
    ("a break at the holder waits for it or its end", Attempt(None, sticky=True, others=True), Step.WAIT, ""),
    (
        "a break at a dead holder goes elsewhere",
        Attempt(None, sticky=True, host_ended=True, others=True),
        Step.ELSEWHERE,
        "",
    ),
    (
        "a holder that stays away is given up",
        Attempt(None, sticky=True, waited_seconds=OWNER_SECONDS),
        Step.FAIL,
        "Unavailable",
    ),
    (
        "a break before accepted goes elsewhere however much was tried and waited",
        Attempt(None, others=True, acceptances=99, exhausted=99, waited_seconds=99),
        Step.ELSEWHERE,
        "",
    ),
    ("a break after accepted is unknown", Attempt(None, accepted=True), Step.FAIL, "OutcomeUnknown"),
    (
        "a break after accepted is repeated with a key",
        Attempt(None, accepted=True, repeatable=True),
        Step.AGAIN,
        "",
    ),
    (
        "a break after accepted with a key is not repeated for ever",
        Attempt(None, accepted=True, repeatable=True, acceptances=MAX_ACCEPTED),
        Step.FAIL,
        "OutcomeUnknown",
    ),
    ("a crash is the caller's to repeat", Attempt(CRASHED, accepted=True), Step.FAIL, "InstanceCrashed"),
    ("a crash is repeated once with a key", Attempt(CRASHED, accepted=True, repeatable=True), Step.AGAIN, ""),
    (
        "a second crash is shown",
        Attempt(CRASHED, accepted=True, repeatable=True, acceptances=2),
        Step.FAIL,
        "InstanceCrashed",
    ),
    (
        "an agent's failure is never repeated",
        Attempt(errors.AgentFailure("no"), accepted=True, repeatable=True),
        Step.FAIL,
        "AgentFailed",
    ),
    ("a living owner is gone to", Attempt(NOT_OWNER, owner=Owner.LIVE), Step.OWNER, ""),
    ("it is on its way", Attempt(NOT_OWNER, owner=Owner.LIVE, hops=MAX_HOPS), Step.WAIT, ""),
    (
        "it is on its way for too long",
        Attempt(NOT_OWNER, owner=Owner.LIVE, hops=MAX_HOPS, waited_seconds=MOVING_SECONDS),
        Step.FAIL,
        "NotOwner",
    ),
    ("a dead owner is proven dead", Attempt(NOT_OWNER, owner=Owner.ENDED), Step.AGAIN, ""),
    (
        "a draining owner is waited for",
        Attempt(NOT_OWNER, owner=Owner.DRAINING, waited_seconds=5),
        Step.WAIT,
        "",
    ),
    (
        "a draining owner is waited for until the deadline",
        Attempt(NOT_OWNER, owner=Owner.DRAINING, waited_seconds=59, seconds_left=1),
        Step.WAIT,
        "",
    ),
    (
        "at the deadline a draining owner is named",
        Attempt(NOT_OWNER, owner=Owner.DRAINING, waited_seconds=60, seconds_left=0),
        Step.FAIL,
        "NotOwner",
    ),
    ("an unknown owner is waited for", Attempt(NOT_OWNER, owner=Owner.UNKNOWN), Step.WAIT, ""),
    (
        "an unknown owner is not waited for without end",
        Attempt(NOT_OWNER, owner=Owner.UNKNOWN, waited_seconds=OWNER_SECONDS),
        Step.FAIL,
        "NotOwner",
    ),
    ("a draining host is left", Attempt(DRAINING, others=True), Step.ELSEWHERE, ""),
    ("a taken pod is left", Attempt(errors.PodTaken("taken"), others=True), Step.ELSEWHERE, ""),
    ("a host without workers is left", Attempt(errors.NoWorkers("gone"), others=True), Step.ELSEWHERE, ""),
    ("its owner too", Attempt(errors.NoWorkers("gone"), others=True, sticky=True), Step.ELSEWHERE, ""),
    ("the last one is waited for", Attempt(errors.NoWorkers("gone")), Step.WAIT, ""),
    ("the last draining host is waited for", Attempt(DRAINING), Step.WAIT, ""),
    (
        "pods that were all taken are an exhausted pool",
        Attempt(errors.PodTaken("taken"), waited_seconds=OWNER_SECONDS),
        Step.FAIL,
        "PoolExhausted",
    ),
    ("a full host is left", Attempt(FULL, others=True), Step.ELSEWHERE, ""),
    (
        "after the last full host that is asked it waits for room",
        Attempt(FULL, others=True, exhausted=MAX_EXHAUSTED),
        Step.WAIT,
        "",
    ),
    ("a full pool that stays full", Attempt(FULL, waited_seconds=1.0), Step.FAIL, "PoolExhausted"),
    ("a full pool that nobody is to wait for", Attempt(FULL, queue_seconds=0.0), Step.FAIL, "PoolExhausted"),
    ("a host that nobody is to wait for", Attempt(OTHER_TIER, capacity_seconds=0.0), Step.FAIL, "NoHost"),
    ("an open breaker", Attempt(errors.CircuitOpen("open"), others=True), Step.FAIL, "CircuitOpen"),
    ("a host of another tier is left", Attempt(OTHER_TIER, others=True), Step.ELSEWHERE, ""),
    ("a host of the right tier may be on its way", Attempt(OTHER_TIER), Step.WAIT, ""),
    (
        "a host of the right tier that does not come",
        Attempt(OTHER_TIER, waited_seconds=CAPACITY_SECONDS),
        Step.FAIL,
        "NoHost",
    ),
    ("a host of an earlier release is left", Attempt(TOO_OLD, others=True), Step.ELSEWHERE, ""),
    ("the only host is of an earlier release", Attempt(TOO_OLD), Step.FAIL, "HostTooOld"),
    (
        "a holder of an earlier release is not left",
        Attempt(TOO_OLD, others=True, sticky=True),
        Step.FAIL,
        "HostTooOld",
    ),
    ("the only full host may have room soon", Attempt(FULL), Step.WAIT, ""),
    ("lost ownership before accepted is tried again", Attempt(errors.OwnershipLost("lost")), Step.WAIT, ""),
    ("a host that does not know us has restarted", Attempt(UNAUTHENTICATED), Step.WAIT, ""),
    (
        "our trouble with a host is not the caller's",
        Attempt(UNAUTHENTICATED, waited_seconds=OWNER_SECONDS),
        Step.FAIL,
        "Unavailable",
    ),
    ("a quota is the caller's", Attempt(errors.RateExceeded("slow"), others=True), Step.FAIL, "RateExceeded"),
    (
        "a pause is the caller's",
        Attempt(errors.InstancePaused("p"), others=True),
        Step.FAIL,
        "InstancePaused",
    ),
    ("no time left shows the failure", Attempt(DRAINING, others=True, seconds_left=0), Step.FAIL, "Draining"),
    (
        "no time left after a break is the deadline",
        Attempt(None, seconds_left=0),
        Step.FAIL,
        "DeadlineExceeded",
    ),
]


@pytest.mark.parametrize(
    ("attempt", "step", "code"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_what_comes_next(attempt: Attempt, step: Step, code: str) -> None:
    found = decide(attempt)
    assert (found.step, found.error.code if found.error else "") == (step, code)


failures: st.SearchStrategy[AgentPoolError | None] = st.one_of(
    st.none(),
    st.sampled_from(sorted(set(errors.BY_CODE) - {"NotOwner"})).map(lambda code: errors.BY_CODE[code]("x")),
    st.just(NOT_OWNER),
)


owners = st.sampled_from(Owner)


@given(failures, st.integers(1, 9), st.floats(0, 20), st.floats(-1, 60), st.booleans(), owners)
def test_an_accepted_request_without_key_is_never_done_twice(
    failure: AgentPoolError | None, accepted: int, waited: float, left: float, others: bool, owner: Owner
) -> None:
    attempt = Attempt(failure, True, False, accepted, 1, 0, waited, left, others, owner)
    assert decide(attempt).step is Step.FAIL


@given(failures, st.integers(1, 99), st.floats(0, 99), st.booleans(), st.booleans(), st.booleans(), owners)
def test_the_outcome_is_unknown_of_accepted_requests_alone(
    failure: AgentPoolError | None,
    counts: int,
    waited: float,
    others: bool,
    sticky: bool,
    ended: bool,
    owner: Owner,
) -> None:
    attempt = Attempt(
        failure, False, False, counts, counts, counts, waited, 1.0, others, owner, sticky, ended
    )
    error = decide(attempt).error
    assert isinstance(failure, errors.OutcomeUnknown) or not isinstance(error, errors.OutcomeUnknown)


@given(failures, st.booleans(), owners, st.booleans(), st.booleans(), st.booleans())
def test_a_request_that_was_not_accepted_ends_with_its_deadline(
    failure: AgentPoolError | None,
    repeatable: bool,
    owner: Owner,
    others: bool,
    sticky: bool,
    ended: bool,
) -> None:
    attempt = Attempt(failure, False, repeatable, 0, 0, 0, 0.0, 0.0, others, owner, sticky, ended)
    assert decide(attempt).step is Step.FAIL


@given(failures, st.floats(0, 99), st.booleans(), owners)
def test_nothing_is_tried_again_without_a_pause_at_the_only_host(
    failure: AgentPoolError | None, waited: float, sticky: bool, owner: Owner
) -> None:
    attempt = Attempt(failure, waited_seconds=waited, others=False, owner=owner, sticky=sticky)
    if not isinstance(failure, errors.NotOwner):
        assert decide(attempt).step in (Step.WAIT, Step.FAIL)


def test_a_deadline_after_accepted_says_that_the_outcome_is_unknown() -> None:
    assert deadline_passed(True).details == {"outcome": "unknown"}
    assert deadline_passed(False).details == {}


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        pytest.param(errors.Draining("d"), RETRY_AFTER_SECONDS, id="a refusal for now has a default"),
        pytest.param(errors.Unavailable("u", retry_after_seconds=7.0), 7.0, id="what was said counts"),
        pytest.param(errors.PoolDisabled("off"), None, id="what waiting does not mend has none"),
        pytest.param(errors.OutcomeUnknown("?"), None, id="an unknown outcome has none"),
        pytest.param(deadline_passed(False), RETRY_AFTER_SECONDS, id="a deadline without effect"),
    ],
)
def test_when_to_come_back(error: AgentPoolError, seconds: float | None) -> None:
    assert come_back(error) == seconds
