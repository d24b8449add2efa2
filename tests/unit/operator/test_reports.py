# SPDX-License-Identifier: Apache-2.0
"""What users are told: conditions that tools understand, reasons with remedies, few writes."""

from __future__ import annotations

from typing import Any

import pytest

from agentpool_core.api.v1alpha1 import AgentInstanceStatus, AgentPoolStatus
from agentpool_core.cluster import ROLE_WARM
from agentpool_core.lifecycle import State, Tier
from agentpool_operator.plan.views import Trouble
from agentpool_operator.report.budget import Budget
from agentpool_operator.report.conditions import Condition, Problem, kstatus, merged
from agentpool_operator.report.instance import InstanceReport, instance_status
from agentpool_operator.report.pool import PoolReport, counts_only, pool_status, refills, shown_state
from support.builders import effective_pool
from support.kube_objects import NOW, held, host, pod


def rolled_out(replicas: int = 2, ready: int = 2, **status: Any) -> dict[str, Any]:
    facts = {
        "observedGeneration": 1,
        "replicas": replicas,
        "updatedReplicas": replicas,
        "readyReplicas": ready,
    }
    return {"metadata": {"generation": 1}, "status": facts | status}


def report(**changes: Any) -> PoolReport:
    facts: dict[str, Any] = {
        "generation": 1,
        "effective": effective_pool(),
        "deployment": rolled_out(),
        "replicas": 2,
        "generic_wanted": 5,
        "generic_ready": 5,
    }
    return PoolReport(**(facts | changes))


def conditions(of: PoolReport) -> dict[str, tuple[str, str]]:
    found = pool_status({}, of, NOW, 0.0)["conditions"]
    return {one["type"]: (one["status"], one["reason"]) for one in found}


def stuck(generation: int) -> dict[str, Any]:
    progress = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
    return rolled_out(ready=2, updatedReplicas=1, conditions=[progress]) | {
        "metadata": {"generation": generation}
    }


BROKEN = pod("a", ROLE_WARM, trouble=Trouble.IMAGE, details="no/such:1: not found")
NOT_LOADABLE = host(
    pod("w", ROLE_WARM), ready=False, problems=("cannot import nowhere: ModuleNotFoundError",)
)
READY: dict[str, tuple[PoolReport, tuple[str, str], tuple[str, str]]] = {
    "everything is there": (report(), ("True", "Ready"), ("False", "Settled")),
    "spare pods alone are missing": (report(generic_ready=0), ("True", "Ready"), ("False", "Settled")),
    "trouble of spare pods alone": (
        report(generic_ready=0, pods=[BROKEN]),
        ("True", "Ready"),
        ("False", "Settled"),
    ),
    "the roll-out is under way": (
        report(deployment=rolled_out(ready=1)),
        ("False", "Progressing"),
        ("False", "Settled"),
    ),
    "the Deployment has not been looked at": (
        report(deployment={"metadata": {"generation": 2}, "status": {"observedGeneration": 1}}),
        ("False", "Progressing"),
        ("False", "Settled"),
    ),
    "the image is missing": (
        report(deployment=rolled_out(ready=0), pods=[BROKEN]),
        ("False", "ImageMissing"),
        ("False", "Settled"),
    ),
    "the agent cannot be imported": (
        report(deployment=rolled_out(ready=0), hosts={"w": NOT_LOADABLE}),
        ("False", "AgentNotLoadable"),
        ("True", "AgentNotLoadable"),
    ),
    "a quota refuses pods": (
        report(
            deployment=rolled_out(
                ready=0,
                conditions=[
                    {
                        "type": "ReplicaFailure",
                        "status": "True",
                        "message": "forbidden: exceeded quota: small",
                    }
                ],
            )
        ),
        ("False", "QuotaExceeded"),
        ("False", "Settled"),
    ),
    "a rollout is stuck": (
        report(deployment=stuck(generation=1), pods=[BROKEN]),
        ("False", "ProgressDeadlineExceeded"),
        ("True", "ProgressDeadlineExceeded"),
    ),
    "a rollout was stuck, and a new spec has not been looked at yet": (
        report(deployment=stuck(generation=2)),
        ("False", "Progressing"),
        ("False", "Settled"),
    ),
    "the configuration is wrong": (
        report(effective=None, problems=[Problem("ConfigurationInvalid", "bad", stalled=True)]),
        ("False", "ConfigurationInvalid"),
        ("True", "ConfigurationInvalid"),
    ),
    "a host runs an old configuration": (
        report(generation=2, hosts={"w": host(pod("w"))}),
        ("False", "Progressing"),
        ("False", "Settled"),
    ),
    "no shared pods wanted, and no waiting pod ready": (
        report(replicas=0, deployment=rolled_out(0, 0), generic_ready=0),
        ("False", "Progressing"),
        ("False", "Settled"),
    ),
}


def test_a_stuck_rollout_names_the_trouble_of_its_pods_and_says_what_serves_on() -> None:
    status = pool_status({}, report(deployment=stuck(1), pods=[BROKEN]), NOW, 0.0)
    message = next(one["message"] for one in status["conditions"] if one["type"] == "Stalled")
    assert "2 pods serve on" in message
    assert "no/such:1: not found" in message
    assert "imagePullSecrets" in message


@pytest.mark.parametrize("name", READY)
def test_ready_and_stalled(name: str) -> None:
    of, ready, stalled = READY[name]
    found = conditions(of)
    assert (found["Ready"], found["Stalled"]) == (ready, stalled)


def test_a_short_supply_of_waiting_pods_has_a_reason_of_its_own() -> None:
    found = conditions(report(generic_ready=2, pods=[BROKEN]))
    assert found["WarmupComplete"] == ("False", "ImageMissing")


def test_unsafe_settings_of_the_store_are_told() -> None:
    assert conditions(report(store=["appendonly is off."]))["StoreReady"] == ("False", "Unsafe")
    assert conditions(report(data_lost=True))["StoreDataLost"] == ("True", "DataLost")


def test_the_reports_fit_their_schema() -> None:
    one = host(pod("w"), held(tier=Tier.WARM))
    status = pool_status({}, report(hosts={"w": one}, store_generation="abc"), NOW, 0.0)
    AgentPoolStatus.model_validate(status)
    assert (status["resident"], status["instances"]) == (1, {"WARM": {"READY": 1}})
    told = InstanceReport(1, "inst-1", State.READY, "", Tier.HOT, "pod-1", 7, ("landlock",))
    AgentInstanceStatus.model_validate(instance_status({}, told, NOW))


def test_the_same_observation_gives_the_same_status() -> None:
    first = pool_status({}, report(), NOW, 0.0)
    assert pool_status(first, report(), NOW + 3600, 3600.0) == first


def test_busy_shows_only_when_it_lasts() -> None:
    busy = held(state=State.BUSY, busy_since=100.0)
    assert shown_state(busy, 109.9) is State.READY
    assert shown_state(busy, 110.0) is State.BUSY


def test_counts_alone_may_wait_and_conditions_may_not() -> None:
    before = pool_status({}, report(), NOW, 0.0)
    one = host(pod("w"), held(tier=Tier.WARM))
    assert counts_only(before, pool_status(before, report(hosts={"w": one}), NOW, 0.0))
    assert not counts_only(before, pool_status(before, report(data_lost=True), NOW, 0.0))


PUT_OFF: dict[str, tuple[dict[str, Any], bool, bool]] = {
    "a waiting pod was taken": ({"generic_ready": 4}, True, False),
    "more are wanted": ({"generic_wanted": 7}, True, False),
    "those that are missing cannot come up": ({"generic_ready": 4, "pods": [BROKEN]}, False, False),
    "a shared pod is gone": ({"deployment": rolled_out(ready=1)}, False, False),
}


@pytest.mark.parametrize("name", PUT_OFF)
def test_which_news_may_be_put_off(name: str) -> None:
    changes, counts, complete = PUT_OFF[name]
    before = pool_status({}, report(), NOW, 0.0)
    after = pool_status(before, report(**changes), NOW, 0.0)
    assert (counts_only(before, after), refills(before, after)) == (counts, complete)


def test_that_all_pods_wait_is_told_at_once() -> None:
    before = pool_status({}, report(generic_ready=4), NOW, 0.0)
    assert refills(before, pool_status(before, report(), NOW, 0.0))


def test_a_time_changes_with_its_status_alone() -> None:
    first = merged([], [Condition("Ready", False, "Progressing", "1 of 2")], 1, NOW)
    second = merged(first, [Condition("Ready", False, "Progressing", "2 of 2")], 1, NOW + 60)
    third = merged(second, [Condition("Ready", True, "Ready")], 1, NOW + 60)
    times = [one[0]["lastTransitionTime"] for one in (first, second, third)]
    assert times[0] == times[1] != times[2]


KSTATUS = {
    "well": (None, "", {"Ready": True, "Reconciling": False, "Stalled": False}),
    "under way": (None, "soon", {"Ready": False, "Reconciling": True, "Stalled": False}),
    "in trouble that may pass": (
        Problem("R", "m"),
        "",
        {"Ready": False, "Reconciling": True, "Stalled": False},
    ),
    "in trouble that stays": (
        Problem("R", "m", stalled=True),
        "soon",
        {"Ready": False, "Reconciling": False, "Stalled": True},
    ),
}


@pytest.mark.parametrize("name", KSTATUS)
def test_tools_for_gitops_read_the_three(name: str) -> None:
    problem, under_way, holds = KSTATUS[name]
    assert {one.type: one.holds for one in kstatus(problem, under_way, "fine")} == holds


def test_an_instance_in_error_is_not_ready_and_says_why() -> None:
    told = InstanceReport(1, "inst-1", State.ERROR, "setup failed.", Tier.WARM)
    ready = instance_status({}, told, NOW)["conditions"][0]
    assert (ready["status"], ready["reason"]) == ("False", "AgentFailed")
    assert "setup failed" in ready["message"]


def test_a_budget_gives_a_burst_and_then_a_rate() -> None:
    budget = Budget(2, 0.5)
    assert [budget.take(0.0), budget.take(0.0)] == [0.0, 0.0]
    assert budget.take(0.0) == pytest.approx(2.0)
    assert budget.take(2.0) == 0.0
