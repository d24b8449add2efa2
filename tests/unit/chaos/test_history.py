# SPDX-License-Identifier: Apache-2.0
"""The account of a run of faults finds what it is there to find."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from chaos.application import end_of, reply_of
from chaos.campaign import Run
from chaos.history import (
    Attempt,
    End,
    Fault,
    Ledgers,
    Operation,
    Reply,
    Sent,
    compare,
    exposed,
    gaps,
    homes,
    stray,
    unknown_after,
)
from chaos.report import checks, evidence, table

INTACT = Ledgers(1, (), (), ())
KILL = Fault("SIGKILL host", "WARM", "pod-a", 10.0, 10.2)


def sent(
    number: int,
    *attempts: Attempt,
    end: End = End.ANSWERED,
    operation: Operation = Operation.ADD,
    tier: str = "WARM",
    due: float | None = None,
) -> Sent:
    """A request of project p."""
    began = attempts[0].began if attempts else 0.0
    return Sent(number, "p", tier, operation, began if due is None else due, 0.0, list(attempts), end)


def answered(began: float, ended: float, pod: str = "pod-a") -> Attempt:
    """An attempt that was answered."""
    return Attempt(began, ended, Reply.ANSWERED, pod=pod)


def refused(began: float, ended: float) -> Attempt:
    """An attempt with a retryable code."""
    return Attempt(began, ended, Reply.RETRYABLE, "NoHost")


def unknown(began: float, ended: float) -> Attempt:
    """An attempt of which nobody knows."""
    return Attempt(began, ended, Reply.UNKNOWN, "OutcomeUnknown")


@pytest.mark.parametrize(
    ("requests", "found", "want"),
    [
        pytest.param([sent(1, answered(0, 1))], [1], Ledgers(1, (), (), ()), id="once is right"),
        pytest.param([sent(1, answered(0, 1))], [], Ledgers(1, (1,), (), ()), id="a lost one is missing"),
        pytest.param([sent(1, answered(0, 1))], [1, 1], Ledgers(1, (), (1,), ()), id="twice is told"),
        pytest.param(
            [sent(1, refused(0, 1), end=End.REFUSED)], [1], Ledgers(0, (), (), (1,)), id="refused, but kept"
        ),
        pytest.param(
            [sent(1, unknown(0, 1), end=End.UNKNOWN)], [1], Ledgers(0, (), (), ()), id="unknown may be kept"
        ),
        pytest.param(
            [sent(1, answered(0, 1), operation=Operation.READ)],
            [],
            Ledgers(0, (), (), ()),
            id="a reading writes nothing",
        ),
    ],
)
def test_ledgers_are_compared(requests: Sequence[Sent], found: Sequence[int], want: Ledgers) -> None:
    assert compare(requests, {"p": found}) == want


@pytest.mark.parametrize(
    ("at", "outside"),
    [(9.9, True), (10.0, False), (15.1, False), (15.3, True)],
    ids=["before the fault", "with it", "five seconds after the process was gone", "later"],
)
def test_a_refusal_without_a_fault_is_told(at: float, outside: bool) -> None:
    assert bool(stray([sent(1, refused(at, at))], [KILL])) is outside


def test_only_what_was_on_the_killed_pod_counts_as_exposed() -> None:
    requests = [sent(1, answered(1, 2)), sent(2, unknown(9.5, 10.1), end=End.UNKNOWN)]
    elsewhere = Fault("SIGKILL host", "WARM", "pod-b", 10.0, 10.2)
    everywhere = Fault("SIGKILL", "gateway", "gateway-a", 10.0, 10.2, shared=True)
    at = homes(requests)
    assert [exposed(fault, requests, at) for fault in (KILL, elsewhere, everywhere)] == [1, 0, 1]
    assert unknown_after(KILL, requests) == 1


@pytest.mark.parametrize(
    ("attempt", "part", "want"),
    [
        (replace(unknown(10.25, 10.26), broken=True), "gateway", 1),
        (replace(unknown(11.5, 11.6), broken=True), "gateway", 0),
        (replace(unknown(10.25, 10.26), broken=True), "WARM", 0),
        (unknown(10.25, 10.26), "gateway", 0),
    ],
    ids=["its connection was not known to be dead", "long after", "not to a gateway", "a gateway said so"],
)
def test_what_was_sent_over_a_dead_connection_counts_as_exposed(
    attempt: Attempt, part: str, want: int
) -> None:
    fault = Fault("SIGKILL", part, "pod-a", 10.0, 10.2, shared=part == "gateway")
    assert exposed(fault, [sent(1, attempt, end=End.UNKNOWN)], {}) == want


def test_the_longest_gap_counts_from_when_a_request_was_due() -> None:
    slow = sent(1, refused(10.1, 10.2), answered(12.0, 12.5), due=10.0)
    quick = sent(2, answered(3.0, 3.1))
    assert gaps([slow, quick], [KILL]) == {("WARM", KILL.name): 2.5, ("WARM", ""): pytest.approx(0.1)}


@pytest.mark.parametrize(
    ("operation", "reply", "last", "want"),
    [
        pytest.param(Operation.ADD, Reply.UNKNOWN, False, End.UNKNOWN, id="an addition is not made twice"),
        pytest.param(Operation.ADD_WITH_KEY, Reply.UNKNOWN, False, None, id="with a key it is sent again"),
        pytest.param(Operation.READ, Reply.UNKNOWN, False, None, id="a reading is sent again"),
        pytest.param(Operation.READ, Reply.UNKNOWN, True, End.UNKNOWN, id="until patience ends"),
        pytest.param(Operation.ADD, Reply.RETRYABLE, False, None, id="what was refused is sent again"),
        pytest.param(Operation.ADD, Reply.NOT_SENT, True, End.REFUSED, id="not for ever"),
        pytest.param(Operation.ADD, Reply.SILENT, False, End.LOST, id="silence is a loss"),
        pytest.param(Operation.ADD, Reply.FAILED, False, End.FAILED, id="what is final is not sent again"),
    ],
)
def test_the_application_repeats_what_it_may(
    operation: Operation, reply: Reply, last: bool, want: End | None
) -> None:
    assert end_of(operation, reply, last) is want


@pytest.mark.parametrize(
    ("problem", "want"),
    [
        ({"code": "OutcomeUnknown", "retryable": False}, Reply.UNKNOWN),
        (
            {"code": "StoreUnavailable", "retryable": False, "details": {"outcome": "unknown"}},
            Reply.UNKNOWN,
        ),
        ({"code": "NoHost", "retryable": True}, Reply.RETRYABLE),
        ({"code": "AgentFailed", "retryable": False}, Reply.FAILED),
    ],
    ids=["a broken connection", "a write that may have been made", "a refusal", "an error"],
)
def test_a_problem_document_is_read(problem: Mapping[str, object], want: Reply) -> None:
    assert reply_of(problem) is want


def run(requests: Sequence[Sent], ledgers: Ledgers = INTACT) -> Run:
    """A run with one fault."""
    return Run(60.0, 40.0, 1, requests, [KILL], ledgers)


GOOD = tuple(sent(number, answered(number, number + 0.1)) for number in range(1, 100))


@pytest.mark.parametrize(
    ("found", "broken"),
    [
        pytest.param(run(GOOD), [], id="a good run"),
        pytest.param(
            run([*GOOD, sent(100, unknown(1.0, 1.1), end=End.UNKNOWN)]),
            ["outcome unknown, no more than in flight on what was killed"],
            id="an outcome that is unknown though nothing was killed",
        ),
        pytest.param(
            run([*GOOD, sent(100, refused(30.0, 30.1), answered(30.2, 30.3))]),
            ["refused only within 5 s of a fault"],
            id="a refusal long after the fault",
        ),
        pytest.param(
            run(GOOD, Ledgers(1, (7,), (), ())),
            ["acknowledged increments found exactly once"],
            id="a lost increment",
        ),
        pytest.param(
            run(GOOD, Ledgers(1, (), (), (7,))),
            ["refused increments not found"],
            id="an increment that was refused and made",
        ),
        pytest.param(
            run([*GOOD, sent(100, answered(10.1, 15.5))]),
            ["longest gap WARM"],
            id="a gap beyond the floor",
        ),
        pytest.param(
            run([*GOOD, *(sent(n, refused(10.5, 10.6), end=End.REFUSED) for n in (100, 101))]),
            ["answered"],
            id="two of a hundred refused",
        ),
    ],
)
def test_a_run_is_judged(found: Run, broken: list[str]) -> None:
    assert [check.name for check in checks(found) if not check.held] == broken
    assert all(f"| {name} | NO |" in table(found) for name in broken)


def test_a_story_is_told_of_what_no_fault_explains() -> None:
    explained = sent(100, unknown(9.9, 10.3), end=End.UNKNOWN)
    strays = [sent(101, unknown(1.0, 1.1), end=End.UNKNOWN), sent(102, refused(10.1, 10.2), end=End.FAILED)]
    told = evidence(replace(run([*GOOD, explained, *strays]), errors=["gateway-a: {}"]))
    assert [line.split()[0] for line in told] == ["101", "102", "logged:"]
