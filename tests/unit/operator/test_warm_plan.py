# SPDX-License-Identifier: Apache-2.0
"""The shared tier: up at once, down one by one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agentpool_core.cluster import ROLE_WARM
from agentpool_core.lifecycle import Tier
from agentpool_operator.plan.views import PodView
from agentpool_operator.plan.warm import (
    SHORT_SECONDS,
    VICTIM_COST,
    WarmPlan,
    min_available,
    plan_warm,
    short_since,
)
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


def marked(one: PodView) -> PodView:
    """The same pod once it is to go first."""
    return replace(one, cost=VICTIM_COST)


def test_fewer_go_one_at_a_time_the_emptiest_first() -> None:
    assert plan_warm(0, 2, [FULL, EMPTY], HOSTS) == WarmPlan(2, mark=EMPTY)


def test_one_goes_once_its_mark_is_seen() -> None:
    assert plan_warm(0, 2, [FULL, marked(EMPTY)], HOSTS) == WarmPlan(1)


def test_what_was_chosen_stays_chosen() -> None:
    assert plan_warm(1, 2, [marked(FULL), EMPTY], HOSTS) == WarmPlan(1)


def test_requests_under_way_count_like_instances() -> None:
    hosts = {FULL.uid: host(FULL, held("a")), EMPTY.uid: host(EMPTY, active=3)}
    assert plan_warm(1, 2, [FULL, EMPTY], hosts) == WarmPlan(2, mark=FULL)


def test_of_two_that_are_marked_only_one_stays_so() -> None:
    both = [marked(FULL), marked(EMPTY)]
    assert plan_warm(1, 2, both, HOSTS) == WarmPlan(1, unmark=(both[0],))


def test_none_stays_marked_once_as_many_are_wanted_again() -> None:
    assert plan_warm(2, 2, [FULL, marked(EMPTY)], HOSTS) == WarmPlan(2, unmark=(marked(EMPTY),))


def test_one_that_is_down_goes_before_one_that_works() -> None:
    assert plan_warm(2, 3, [FULL, EMPTY, DOWN], HOSTS) == WarmPlan(3, mark=DOWN)
    again = plan_warm(2, 3, [FULL, marked(EMPTY), marked(DOWN)], HOSTS)
    assert again == WarmPlan(2, unmark=(marked(EMPTY),))


def test_the_next_one_waits_until_the_last_is_seen_to_leave() -> None:
    assert plan_warm(0, 1, [FULL, marked(EMPTY)], HOSTS) == WarmPlan(1)


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
