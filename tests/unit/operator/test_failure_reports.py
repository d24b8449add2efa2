# SPDX-License-Identifier: Apache-2.0
"""Failing instances as their users see them: conditions, Events at a change of strategy, one count each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from agentpool_core.cluster import ROLE_WARM
from agentpool_core.lifecycle import State, Tier
from agentpool_operator.plan.views import RecoveryView
from agentpool_operator.report.failures import Failures, failing
from agentpool_operator.report.instance import InstanceReport, instance_status, strategy_change
from support.kube_objects import NOW, held, host, pod

RESTART = RecoveryView("Crash", "RESTART", 1, 100.0, "It died.")
ESCALATE = replace(RESTART, strategy="ESCALATE", failures=6, failed_at=200.0)


def report(state: State, recovery: RecoveryView | None) -> InstanceReport:
    return InstanceReport(1, "inst-1", state, "Crash", Tier.WARM, recovery=recovery)


def said(status: Mapping[str, Any]) -> dict[str, str]:
    return {one["type"]: one["status"] for one in status["conditions"]}


CASES: dict[str, tuple[State, RecoveryView | None, dict[str, str]]] = {
    "never failed: nothing is said of it": (State.READY, None, {"Ready": "True"}),
    "in ERROR and tried again": (
        State.ERROR,
        RESTART,
        {"Ready": "False", "Stalled": "False", "Recovering": "True", "Escalated": "False"},
    ),
    "on its way back": (State.INITIALIZING, RESTART, {"Recovering": "True", "Escalated": "False"}),
    "back again": (
        State.READY,
        RESTART,
        {"Ready": "True", "Recovering": "False", "Escalated": "False"},
    ),
    "left alone: its user has to act": (
        State.ERROR,
        ESCALATE,
        {"Ready": "False", "Stalled": "True", "Recovering": "False", "Escalated": "True"},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_conditions(name: str) -> None:
    state, recovery, wanted = CASES[name]
    found = said(instance_status({}, report(state, recovery), NOW))
    assert {kind: found.get(kind) for kind in wanted} == wanted
    assert ("Recovering" in found) == (recovery is not None)


def test_what_failed_once_says_so_until_it_is_past() -> None:
    before = instance_status({}, report(State.ERROR, ESCALATE), NOW)
    after = instance_status(before, report(State.READY, None), NOW)
    assert {kind: said(after)[kind] for kind in ("Recovering", "Escalated")} == {
        "Recovering": "False",
        "Escalated": "False",
    }


def test_an_event_tells_of_each_new_strategy_and_not_again() -> None:
    first = report(State.ERROR, RESTART)
    told = strategy_change({}, first)
    assert told is not None
    assert told.reason == "RecoveryRestart"
    status = instance_status({}, first, NOW)
    assert strategy_change(status, report(State.ERROR, replace(RESTART, failures=2))) is None
    escalated = strategy_change(status, report(State.ERROR, ESCALATE))
    assert escalated is not None
    assert escalated.reason == "RecoveryEscalate"


def test_the_pool_counts_its_failing_instances_and_names_some() -> None:
    down = [held(f"inst-{n}", State.ERROR, Tier.WARM, recovery=RESTART) for n in range(5)]
    fine = held("inst-9", tier=Tier.WARM, recovery=RESTART)
    shared = pod("w", ROLE_WARM)
    found = failing([host(shared, *down, fine)])
    assert (found.holds, found.reason) == (True, "Recovering")
    assert "5 instances" in found.message
    assert "inst-2 .." in found.message
    assert "inst-3" not in found.message
    assert failing([host(shared, replace(down[0], recovery=ESCALATE))]).reason == "Escalated"
    assert failing([host(shared, fine)]).holds is False


def test_a_failure_is_counted_once_however_often_it_is_reported() -> None:
    counted: list[tuple[str, str]] = []
    failures = Failures(lambda strategy, cause: counted.append((strategy, cause)))
    one = held(state=State.ERROR, recovery=RESTART)
    for seen in (one, one, replace(one, state=State.READY), replace(one, recovery=ESCALATE)):
        failures.seen(seen)
    assert counted == [("RESTART", "Crash"), ("ESCALATE", "Crash")]
    failures.seen(replace(one, recovery=None))
    failures.seen(one)
    assert len(counted) == 3
