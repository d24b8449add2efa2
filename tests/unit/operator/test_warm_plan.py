# SPDX-License-Identifier: Apache-2.0
"""The shared tier: up at once, down one by one."""

from __future__ import annotations

from agentpool_core.cluster import ROLE_WARM
from agentpool_core.lifecycle import Tier
from agentpool_operator.plan.warm import WarmPlan, plan_warm
from support.kube_objects import held, host, pod

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
