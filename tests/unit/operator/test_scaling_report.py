# SPDX-License-Identifier: Apache-2.0
"""What a pool's status says of automatic scaling."""

from __future__ import annotations

from agentpool_core.config import ScalingConfig
from agentpool_core.scaling import Action, Direction, Verdict
from agentpool_operator.metrics import OperatorMetrics
from agentpool_operator.report.pool import PoolReport, counts_only, pool_status
from agentpool_operator.report.scaling import ScalingReport, scaling_condition, scaling_status
from support.builders import effective_pool
from support.kube_objects import NOW

POLICY = ScalingConfig(enabled=True, cooldown_seconds=60)
ACTION = Action(Direction.UP, 2, 6, "CpuHigh", "From 2 to 6 pods.", {"Cpu": 0.951})


def test_the_last_action_is_told_with_its_numbers_and_its_cooldown() -> None:
    found = scaling_status({}, ScalingReport(POLICY, 6, ACTION, NOW), 2)
    assert found == {
        "desiredReplicas": 6,
        "currentReplicas": 2,
        "cooldownUntil": "2027-01-15T08:01:00Z",
        "lastAction": {
            "direction": "Up",
            "before": 2,
            "after": 6,
            "at": "2027-01-15T08:00:00Z",
            "reason": "CpuHigh",
            "message": "From 2 to 6 pods.",
            "loads": {"Cpu": 0.951},
        },
    }
    # The next operator did nothing yet.
    assert scaling_status(found, ScalingReport(POLICY, 6), 6) == {**found, "currentReplicas": 6}


def test_nothing_is_said_where_somebody_else_chooses() -> None:
    assert scaling_status({}, ScalingReport(POLICY), 2) is None
    off = PoolReport(1, effective_pool())
    status = pool_status({}, off, NOW, 0.0)
    assert "scaling" not in status
    assert "ScalingActive" not in [one["type"] for one in status["conditions"]]


CONDITIONS = {
    "the operator chooses": (ScalingReport(POLICY, 4), True, "Automatic"),
    "somebody else does": (ScalingReport(POLICY), False, "External"),
    "a host is silent": (ScalingReport(POLICY, 4, hindrance=Verdict.MISSING), False, "SignalsMissing"),
    "more are wanted": (ScalingReport(POLICY, 4, hindrance=Verdict.AT_MAXIMUM), True, "AtMaximum"),
}


def test_the_condition_says_who_chooses_and_what_hinders() -> None:
    for name, (report, holds, reason) in CONDITIONS.items():
        found = scaling_condition(report)
        assert (found.holds, found.reason) == (holds, reason), name
        assert found.message, name


def test_a_change_of_the_wanted_number_is_written_at_once() -> None:
    reports = [PoolReport(1, effective_pool(), scaling=ScalingReport(POLICY, desired)) for desired in (2, 3)]
    before, after = (pool_status({}, one, NOW, 0.0) for one in reports)
    assert not counts_only(before, after)


def test_metrics_count_looks_and_actions() -> None:
    metrics = OperatorMetrics(lambda: 0, dict, dict, lambda: True)
    metrics.scaled(Verdict.UP, ACTION)
    metrics.scaled(Verdict.STEADY, None)
    text = metrics.text().decode()
    assert 'agent_pool_scaling_actions_total{direction="up",reason="CpuHigh"} 1.0' in text
    assert 'agent_pool_scaling_looks_total{verdict="steady"} 1.0' in text
