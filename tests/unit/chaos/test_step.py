# SPDX-License-Identifier: Apache-2.0
"""What a step in load came to."""

from __future__ import annotations

from chaos.history import Attempt, End, Operation, Reply, Sent
from chaos.step import AFTER_SECONDS, BEFORE_SECONDS, Step, again, checks, table

BEGAN = 500.0


def sent(due: float, takes: float, end: End = End.ANSWERED, code: str = "") -> Sent:
    one = Sent(1, "step-1", "WARM", Operation.WORK, BEGAN + due, 0.02)
    one.attempts.append(Attempt(BEGAN + due, BEGAN + due + takes, Reply.ANSWERED, code))
    one.end = end
    return one


def step(slow_until: float, **facts: object) -> Step:
    """Two requests a second; those that are due between the step and that time are slow."""
    found = Step("with forecast", BEGAN, events=["ScaledUp: From 2 to 6 pods"])
    for half in range(int(2 * (BEFORE_SECONDS + AFTER_SECONDS - 5))):
        due = half / 2
        found.sent.append(sent(due, 3.0 if BEFORE_SECONDS < due < slow_until else 0.05))
    found.seen = [(0.0, 2, 2), (90.0, 6, 2), (95.0, 6, 6)]
    return found


def test_when_latency_is_back() -> None:
    assert step(0.0).back_after == 0.0
    back = step(BEFORE_SECONDS + 60).back_after
    assert back is not None
    assert 60 <= back <= 70
    assert step(BEFORE_SECONDS + AFTER_SECONDS).back_after is None
    assert [again(None), again(60.0)] == ["never", "after 60 s"]


def test_what_is_demanded() -> None:
    assert [one.held for one in checks([step(0.0)])] == [True, True, True]
    bad = step(BEFORE_SECONDS + AFTER_SECONDS)
    bad.sent.append(sent(1.0, 30.0, End.LOST))
    bad.events = []
    assert [one.held for one in checks([bad])] == [False, False, False]


def test_what_comes_too_late_for_the_application_is_late_and_not_lost() -> None:
    late = step(BEFORE_SECONDS + 60)
    late.sent.append(sent(80.0, 16.0, End.FAILED, "DeadlineExceeded"))
    assert checks([late])[0].held
    assert checks([late])[0].detail == "{'failed: DeadlineExceeded': 1}"
    late.sent.append(sent(80.0, 16.0, End.FAILED, "AgentFailure"))
    assert not checks([late])[0].held


def test_the_table_has_runs_decisions_and_demands() -> None:
    text = table([step(BEFORE_SECONDS + 60)])
    assert "| with forecast | after 6" in text
    assert "| 90 | 6 | 2 |" in text
    assert "- ScaledUp: From 2 to 6 pods" in text
    assert "| with forecast: nothing is lost | yes |" in text
