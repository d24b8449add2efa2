# SPDX-License-Identifier: Apache-2.0
"""The decision after a failed attempt, case by case."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentpool_core import errors
from agentpool_core.errors import AgentPoolError
from agentpool_gateway.dispatch.retry import (
    MAX_HOPS,
    MAX_TRIES,
    UNKNOWN_OWNER_SECONDS,
    Attempt,
    Owner,
    Step,
    deadline_passed,
    decide,
)

NOT_OWNER = errors.NotOwner("pod/1")
DRAINING = errors.Draining("drains")
CRASHED = errors.InstanceCrashed("died")
FULL = errors.PoolExhausted("full")
UNAUTHENTICATED = errors.Unauthenticated("who?")

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
        Attempt(None, sticky=True, waited_seconds=UNKNOWN_OWNER_SECONDS),
        Step.FAIL,
        "Unavailable",
    ),
    ("breaks are not tried for ever", Attempt(None, tries=MAX_TRIES, others=True), Step.FAIL, "Unavailable"),
    ("a break after accepted is unknown", Attempt(None, accepted=True), Step.FAIL, "OutcomeUnknown"),
    (
        "a break after accepted is repeated with a key",
        Attempt(None, accepted=True, repeatable=True),
        Step.AGAIN,
        "",
    ),
    (
        "a break after accepted with a key is not repeated for ever",
        Attempt(None, accepted=True, repeatable=True, tries=MAX_TRIES),
        Step.FAIL,
        "OutcomeUnknown",
    ),
    ("a crash is the caller's to repeat", Attempt(CRASHED, accepted=True), Step.FAIL, "InstanceCrashed"),
    ("a crash is repeated once with a key", Attempt(CRASHED, accepted=True, repeatable=True), Step.AGAIN, ""),
    (
        "a second crash is shown",
        Attempt(CRASHED, accepted=True, repeatable=True, tries=2),
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
    ("hops end", Attempt(NOT_OWNER, owner=Owner.LIVE, hops=MAX_HOPS), Step.FAIL, "NotOwner"),
    ("a dead owner is proven dead", Attempt(NOT_OWNER, owner=Owner.ENDED), Step.AGAIN, ""),
    (
        "a draining owner is waited for",
        Attempt(NOT_OWNER, owner=Owner.DRAINING, waited_seconds=5),
        Step.WAIT,
        "",
    ),
    (
        "a draining owner is not waited for without end",
        Attempt(NOT_OWNER, owner=Owner.DRAINING, waited_seconds=11),
        Step.FAIL,
        "NotOwner",
    ),
    ("an unknown owner is waited for", Attempt(NOT_OWNER, owner=Owner.UNKNOWN), Step.WAIT, ""),
    (
        "an unknown owner is not waited for long",
        Attempt(NOT_OWNER, owner=Owner.UNKNOWN, waited_seconds=3),
        Step.FAIL,
        "NotOwner",
    ),
    ("a draining host is left", Attempt(DRAINING, others=True), Step.ELSEWHERE, ""),
    ("a taken pod is left", Attempt(errors.PodTaken("taken"), others=True), Step.ELSEWHERE, ""),
    ("the last draining host is waited for", Attempt(DRAINING), Step.WAIT, ""),
    (
        "pods that were all taken are an exhausted pool",
        Attempt(errors.PodTaken("taken"), waited_seconds=3),
        Step.FAIL,
        "PoolExhausted",
    ),
    ("a full host is left", Attempt(FULL, others=True), Step.ELSEWHERE, ""),
    ("a second full host decides", Attempt(FULL, others=True, tries=2), Step.FAIL, "PoolExhausted"),
    ("a host of another tier is left", Attempt(errors.NoHost("not COLD"), others=True), Step.ELSEWHERE, ""),
    ("the only full host decides", Attempt(FULL), Step.FAIL, "PoolExhausted"),
    ("lost ownership before accepted is tried again", Attempt(errors.OwnershipLost("lost")), Step.AGAIN, ""),
    ("a host that does not know us has restarted", Attempt(UNAUTHENTICATED), Step.WAIT, ""),
    (
        "our trouble with a host is not the caller's",
        Attempt(UNAUTHENTICATED, waited_seconds=3),
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


@given(
    failures, st.integers(1, 9), st.floats(0, 20), st.floats(-1, 60), st.booleans(), st.sampled_from(Owner)
)
def test_an_accepted_request_without_key_is_never_done_twice(
    failure: AgentPoolError | None, tries: int, waited: float, left: float, others: bool, owner: Owner
) -> None:
    attempt = Attempt(failure, True, False, tries, 0, waited, left, others, owner)
    assert decide(attempt).step is Step.FAIL


@given(failures, st.booleans(), st.booleans(), st.sampled_from(Owner), st.booleans(), st.booleans())
def test_a_request_that_tried_and_waited_enough_ends(
    failure: AgentPoolError | None, accepted: bool, repeatable: bool, owner: Owner, others: bool, sticky: bool
) -> None:
    if owner is Owner.ENDED:
        # Ends by itself: each owner is proven dead once.
        owner = Owner.UNKNOWN
    attempt = Attempt(failure, accepted, repeatable, MAX_TRIES, MAX_HOPS, 20.0, 1.0, others, owner, sticky)
    assert decide(attempt).step is Step.FAIL


def test_a_deadline_after_accepted_says_that_the_outcome_is_unknown() -> None:
    assert deadline_passed(True).details == {"outcome": "unknown"}
    assert deadline_passed(False).details == {}
