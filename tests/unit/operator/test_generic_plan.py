# SPDX-License-Identifier: Apache-2.0
"""Waiting pods: never more than wanted plus surge, replaced without a gap, given up only when empty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentpool_core.lifecycle import State
from agentpool_operator.plan.generic import (
    BATCH,
    GENTLE,
    HOLD_SECONDS,
    STARTING_SECONDS,
    GenericPlan,
    plan_generic,
    surge,
    taken,
    waiting,
)
from agentpool_operator.plan.views import HostView, PodView
from support.kube_objects import NOW, held, host, pod


def plan(pods: Sequence[PodView], wanted: int, hosts: Mapping[str, HostView] | None = None) -> GenericPlan:
    ready = {one.uid: host(one) for one in pods if one.ready} if hosts is None else hosts
    return plan_generic(pods, ready, wanted, "new", NOW)


def names(pods: Sequence[PodView]) -> list[str]:
    return sorted(one.name for one in pods)


def failed(name: str, ago: float, ran: float = 1.0) -> PodView:
    return pod(name, ready=False, ended=True, ended_at=NOW - ago, ran_seconds=ran, phase="Failed")


PENDING: dict[str, Any] = {"ready": False, "phase": "Pending", "ip": ""}
CREATE = {
    "nothing there: all are made": ([], 3, 3),
    "a large pool fills in steps": ([], 100, BATCH),
    "pods that do not come up count": ([pod(str(i), **PENDING) for i in range(3)], 3, 0),
    "one is missing": ([pod("a"), pod("b")], 3, 1),
    "a pod on its way out takes room only beyond the surge": ([pod("a", deleting=True)], 1, 1),
    "pods on their way out leave no room": ([pod(str(i), deleting=True) for i in range(4)], 3, 0),
    "a pod that just failed keeps its place": ([failed("a", ago=1)], 1, 0),
    "a pod that failed a while ago makes room": ([failed("a", ago=HOLD_SECONDS + 1)], 2, 2),
    "a pod that ran well is replaced at once": ([failed("a", ago=1, ran=3600)], 1, 1),
    "stale pods are replaced by as many as the surge lets": (
        [pod(str(i), template="old") for i in range(4)],
        4,
        1,
    ),
    "none wanted": ([], 0, 0),
    "most wait: two come up at a time": ([pod(str(i)) for i in range(10)], 20, GENTLE),
    "less than half wait: four": ([pod(str(i)) for i in range(9)], 20, 2 * GENTLE),
    "hardly any wait: as many as one run makes": ([pod(str(i)) for i in range(4)], 20, BATCH),
    "a large pool has more nodes": ([pod(str(i)) for i in range(150)], 200, 10),
    "most wait and two come up: the next one has time": (
        [*(pod(str(i)) for i in range(10)), *(pod(f"n{i}", created_at=NOW - 1, **PENDING) for i in range(2))],
        20,
        0,
    ),
    "what does not come up holds nobody up": (
        [
            *(pod(str(i)) for i in range(10)),
            *(pod(f"n{i}", created_at=NOW - STARTING_SECONDS - 1, **PENDING) for i in range(2)),
        ],
        20,
        GENTLE,
    ),
}


@pytest.mark.parametrize("name", CREATE)
def test_how_many_are_made(name: str) -> None:
    pods, wanted, created = CREATE[name]
    assert plan(pods, wanted).create == created


def test_a_gentle_refill_looks_again_when_a_pod_has_not_come_up() -> None:
    slow = [pod(f"n{i}", created_at=NOW - 3, **PENDING) for i in range(GENTLE)]
    assert plan([*(pod(str(i)) for i in range(10)), *slow], 20).again_after == STARTING_SECONDS - 3
    assert plan([*(pod(str(i)) for i in range(10)), *slow], 12).again_after is None, "nothing is missing"


def test_a_pod_that_was_used_and_dies_young_is_replaced_at_once() -> None:
    dead = failed("a", ago=1)
    found = plan_generic([dead], {}, 1, "new", NOW, used_before={dead.uid})
    assert (found.create, names(found.delete)) == (1, ["a"])


def test_pods_that_were_made_and_are_not_seen_yet_count() -> None:
    assert plan_generic([pod("a")], {}, 4, "new", NOW, expected=2).create == 1
    assert plan_generic([], {}, 4, "new", NOW, expected=9).create == 0


def test_an_adopted_pod_is_replaced() -> None:
    pods = [pod("mine", instance="inst-1"), pod("a")]
    assert plan(pods, 2).create == 1


def test_a_pod_that_an_instance_moved_into_is_replaced_before_its_adoption() -> None:
    busy, idle = pod("busy"), pod("idle")
    hosts = {busy.uid: host(busy, held()), idle.uid: host(idle)}
    found = plan([busy, idle], 2, hosts)
    assert (found.create, found.retire) == (1, ())


def test_a_pod_whose_instance_left_is_given_up() -> None:
    used = pod("used")
    hosts = {used.uid: host(used, held(state=State.PAUSED, epoch=0))}
    assert names(plan([used], 1, hosts).retire) == ["used"]


def test_a_stale_pod_that_works_stays_until_a_fresh_one_is_ready() -> None:
    stale = [pod(f"old-{i}", template="old") for i in range(4)]
    rising = pod("new", **PENDING)
    assert plan([*stale, rising], 4).retire == ()
    assert len(plan([*stale, pod("new")], 4).retire) == 1


def test_a_stale_pod_that_never_worked_goes_at_once() -> None:
    assert names(plan([pod("old", template="old", **PENDING)], 1).retire) == ["old"]


def test_fewer_wanted_gives_up_those_that_do_not_work_first() -> None:
    pods = [pod("a"), pod("b"), pod("rising", **PENDING)]
    assert names(plan(pods, 2).retire) == ["rising"]


def test_a_pod_that_ended_is_deleted_once_its_time_is_over() -> None:
    assert names(plan([failed("a", ago=HOLD_SECONDS + 1)], 0).delete) == ["a"]
    again = plan([failed("a", ago=5)], 1).again_after
    assert again == pytest.approx(HOLD_SECONDS - 5)


def test_the_report_counts_what_takes_an_instance_at_once() -> None:
    found = plan([pod("a"), pod("b", **PENDING)], 2)
    assert (found.wanted, found.ready) == (2, 1)


@st.composite
def observed(draw: st.DrawFn) -> tuple[list[PodView], dict[str, HostView], int]:
    """Any pods in any states, and hosts for some of them."""
    pods: list[PodView] = []
    hosts: dict[str, HostView] = {}
    for number in range(draw(st.integers(0, 12))):
        ended = draw(st.booleans()) and draw(st.booleans())
        one = pod(
            f"p{number}",
            deleting=draw(st.booleans()) and draw(st.booleans()),
            ended=ended,
            ended_at=NOW - draw(st.floats(0, 60)) if ended else 0.0,
            ran_seconds=draw(st.floats(0, 120)),
            ready=draw(st.booleans()),
            template=draw(st.sampled_from(["new", "old"])),
            instance=draw(st.sampled_from(["", "", "", "inst-x"])),
            created_at=float(number),
        )
        pods.append(one)
        if not ended and draw(st.booleans()):
            state = draw(st.sampled_from([None, State.READY, State.PAUSED]))
            instances = [held(f"inst-{number}", state)] if state else []
            hosts[one.uid] = host(one, *instances, ready=draw(st.booleans()), draining=draw(st.booleans()))
    return pods, hosts, draw(st.integers(0, 8))


@given(observed(), st.integers(0, 5))
def test_there_are_never_more_than_wanted_plus_surge(
    given_: tuple[list[PodView], dict[str, HostView], int], expected: int
) -> None:
    pods, hosts, wanted = given_
    found = plan_generic(pods, hosts, wanted, "new", NOW, expected=expected)
    there = [one for one in waiting(pods) if one.uid not in hosts or not hosts[one.uid].residents]
    if found.create:
        assert len(there) + expected + found.create <= wanted + surge(wanted)


@given(observed())
def test_nothing_that_holds_an_instance_is_given_up(
    given_: tuple[list[PodView], dict[str, HostView], int],
) -> None:
    pods, hosts, wanted = given_
    found = plan_generic(pods, hosts, wanted, "new", NOW)
    gone = {one.uid for one in (*found.retire, *found.delete)}
    assert all(not hosts[uid].residents for uid in gone if uid in hosts)
    assert len(gone) == len(found.retire) + len(found.delete)


@settings(max_examples=40)
@given(observed())
def test_the_plan_comes_to_rest(given_: tuple[list[PodView], dict[str, HostView], int]) -> None:
    """Carried out again and again, with pods that come up and end as told, it asks for nothing more."""
    pods, hosts, wanted = given_
    hosts = dict(hosts)
    now, number = NOW, 100
    for _ in range(60):
        found = plan_generic(pods, hosts, wanted, "new", now)
        asked = found.create or found.retire or found.delete or found.again_after is not None
        if not asked and not any(one.deleting for one in pods):
            break
        gone = {one.uid for one in (*found.retire, *found.delete)}
        pods = [one for one in pods if one.uid not in gone and not one.deleting]
        for _ in range(found.create):
            number += 1
            pods.append(pod(f"p{number}", created_at=float(number)))
        for one in pods:
            if not one.ended:
                hosts[one.uid] = replace(hosts.get(one.uid, host(one)), ready=True)
        now += HOLD_SECONDS / 4
    else:
        raise AssertionError("the plan never comes to rest")
    free = [one for one in waiting(pods) if not one.ended and not one.deleting]
    free = [one for one in free if not taken(one, hosts.get(one.uid))]
    assert len(free) == wanted
    assert all(one.template == "new" for one in free)
