# SPDX-License-Identifier: Apache-2.0
"""The shared tier: up at once, down one by one."""

from __future__ import annotations

import pytest

from agentpool_core.cluster import ROLE_WARM
from agentpool_core.lifecycle import Tier
from agentpool_operator.plan.warm import SHORT_SECONDS, WarmPlan, min_available, plan_warm, short_since
from support.kube_objects import NOW, held, host, pod

FULL, EMPTY, DOWN = (pod(name, ROLE_WARM, ready=name != "down") for name in ("full", "empty", "down"))
HOSTS = {
    FULL.uid: host(FULL, held("a", tier=Tier.WARM), held("b", tier=Tier.WARM)),
    EMPTY.uid: host(EMPTY),
}


def test_a_new_pool_gets_all_at_once() -> None:
    assert plan_warm(3, None, [], {}) == WarmPlan(3)


def test_more_are_made_at_once() -> None:
    assert plan_warm(5, 2, [FULL, EMPTY], HOSTS) == WarmPlan(5)


def test_fewer_go_one_at_a_time_the_emptiest_first() -> None:
    assert plan_warm(0, 2, [FULL, EMPTY], HOSTS) == WarmPlan(1, EMPTY)


def test_one_that_is_down_goes_before_one_that_works() -> None:
    assert plan_warm(2, 3, [FULL, EMPTY, DOWN], HOSTS) == WarmPlan(2, DOWN)


def test_the_next_one_waits_until_the_last_has_drained() -> None:
    leaving = pod("leaving", ROLE_WARM, deleting=True)
    assert plan_warm(0, 2, [FULL, EMPTY, leaving], HOSTS) == WarmPlan(2)


BUDGETS = {
    "none is wanted": (0, None, 0),
    "a single one may always go, for it drains first": (1, None, 0),
    "of two one stays": (2, None, 1),
    "of five four stay": (5, None, 4),
    "while one is missing the others stay": (3, NOW - 60, 2),
    "but not for ever": (3, NOW - SHORT_SECONDS, 0),
}


@pytest.mark.parametrize("name", BUDGETS)
def test_how_many_an_eviction_leaves(name: str) -> None:
    replicas, since, least = BUDGETS[name]
    assert min_available(replicas, since, NOW) == least


def test_since_when_pods_are_missing() -> None:
    said = {"type": "Available", "status": "False", "lastTransitionTime": "2027-01-15T08:00:00Z"}
    assert short_since({"status": {"conditions": [said]}}) == NOW
    assert short_since({"status": {"conditions": [said | {"status": "True"}]}}) is None
    assert short_since(None) is None
