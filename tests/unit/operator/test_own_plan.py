# SPDX-License-Identifier: Apache-2.0
"""Pods of single instances: adopted once, made when nothing else came, given up when empty."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentpool_core.cluster import ROLE_HOT, ROLE_WARM
from agentpool_core.lifecycle import State, Tier
from agentpool_operator.plan.own import ADOPTION_SECONDS, OwnPlan, OwnState, OwnWish, plan_own
from agentpool_operator.plan.views import HostView, PodView
from support.kube_objects import NOW, held, host, pod


def wish(id_: str = "inst-1", hot: bool = True, **fields: Any) -> OwnWish:
    return OwnWish(id=id_, name=id_, uid=f"ai-{id_}", hot=hot, **fields)


def plan(
    pods: Sequence[PodView] = (),
    hosts: Sequence[HostView] = (),
    wishes: Sequence[OwnWish] = (),
    **fields: Any,
) -> OwnPlan:
    state = {"templates": frozenset({"new"}), "now": NOW, **fields}
    return plan_own(OwnState(pods, {h.pod_uid: h for h in hosts}, {w.id: w for w in wishes}, **state))


def test_a_waiting_pod_is_adopted_by_the_instance_that_its_host_owns() -> None:
    one = pod("a")
    instance = held()
    assert plan([one], [host(one, instance)]).adopt == ((one, instance),)


NOT_ADOPTED = {
    "before ownership is won": (pod("a"), held(state=State.CREATED, epoch=0)),
    "once it is paused again": (pod("a"), held(state=State.PAUSED)),
    "a pod that is on its way out": (pod("a", deleting=True), held()),
    "a pod that is adopted already": (pod("a", instance="inst-1"), held()),
    "a shared pod": (pod("a", ROLE_WARM), held(tier=Tier.WARM)),
}


@pytest.mark.parametrize("name", NOT_ADOPTED)
def test_not_adopted(name: str) -> None:
    one, instance = NOT_ADOPTED[name]
    assert plan([one], [host(one, instance)], [wish(hot=False)]).adopt == ()


def test_a_hot_instance_that_never_had_a_pod_gets_one_at_once() -> None:
    assert plan(wishes=[wish()]).create == (wish(),)


def test_a_lost_hot_instance_waits_for_an_adoption_first() -> None:
    early = plan(wishes=[wish(had_pod=True, lost_for=1.0)])
    assert (early.create, early.again_after) == ((), ADOPTION_SECONDS - 1.0)
    late = wish(had_pod=True, lost_for=ADOPTION_SECONDS)
    assert plan(wishes=[late]).create == (late,)


def test_a_hot_instance_that_a_waiting_pod_took_gets_no_second_one() -> None:
    one = pod("a")
    late = wish(had_pod=True, lost_for=60.0)
    found = plan([one], [host(one, held(tier=Tier.HOT))], [late])
    assert (found.create, len(found.adopt)) == ((), 1)


def test_an_instance_on_a_shared_host_that_is_to_be_hot_gets_its_pod_before_it_moves() -> None:
    shared = pod("w", ROLE_WARM)
    wanted = wish(had_pod=True)
    assert plan([shared], [host(shared, held(tier=Tier.WARM))], [wanted]).create == (wanted,)
    own = pod("a", ROLE_HOT, instance="inst-1", tier="HOT")
    assert plan([shared, own], [host(shared, held(tier=Tier.WARM)), host(own)], [wanted]).create == ()


def test_a_pod_whose_instance_changed_its_tier_on_it_is_labelled_anew() -> None:
    one = pod("a", instance="inst-1", tier="COLD")
    became_hot = held(tier=Tier.HOT)
    assert plan([one], [host(one, became_hot)], [wish()]).retier == ((one, became_hot),)
    assert plan([one], [host(one, held())], [wish(hot=False)]).retier == ()


def test_a_record_whose_instance_lives_on_a_shared_host_is_forgotten() -> None:
    shared = pod("w", ROLE_WARM)
    record = wish(hot=False, declared=False)
    assert plan([shared], [host(shared, held(tier=Tier.WARM))], [record]).forget == (record,)


KEPT = {
    "hot and empty, before it is activated": (wish(), ()),
    "cold and in use": (wish(hot=False), (held(),)),
}


@pytest.mark.parametrize("name", KEPT)
def test_an_own_pod_is_kept(name: str) -> None:
    wanted, instances = KEPT[name]
    one = pod("a", ROLE_HOT, instance="inst-1")
    found = plan([one], [host(one, *instances)], [wanted])
    assert (found.retire, found.delete, found.create) == ((), (), ())


def test_an_own_pod_whose_instance_left_is_given_up() -> None:
    one = pod("a", instance="inst-1")
    found = plan([one], [host(one, held(state=State.PAUSED, epoch=0))], [wish(hot=False)])
    assert found.retire == (one,)


def test_an_own_pod_whose_host_is_not_connected_is_left_alone() -> None:
    found = plan([pod("a", instance="inst-1")], [], [wish(hot=False)])
    assert (found.retire, found.delete, found.forget) == ((), (), ())


def test_a_pod_whose_record_was_deleted_drains() -> None:
    one = pod("a", instance="inst-1")
    assert plan([one], [host(one, held())], []).delete == (one,)
    # Right after the start the records may not be known yet.
    assert plan([one], [host(one, held())], [], known=False).delete == ()


def test_a_pod_that_ended_is_deleted_and_a_hot_one_made_anew() -> None:
    ended = pod("a", ROLE_HOT, instance="inst-1", ended=True, ended_at=NOW - 1, ran_seconds=900)
    late = wish(had_pod=True, lost_for=60.0)
    found = plan([ended], [], [late])
    assert (found.delete, found.create) == ((ended,), (late,))


def test_a_hot_pod_that_cannot_live_is_not_made_again_and_again() -> None:
    ended = pod("a", ROLE_HOT, instance="inst-1", ended=True, ended_at=NOW - 1, ran_seconds=2)
    found = plan([ended], [], [wish(had_pod=True, lost_for=60.0)])
    assert (found.delete, found.create) == ((), ())
    assert found.again_after is not None


def test_a_hot_pod_that_had_come_up_is_made_anew_at_once() -> None:
    ended = pod("a", ROLE_HOT, instance="inst-1", ended=True, ended_at=NOW - 1, ran_seconds=43)
    late = wish(had_pod=True, lost_for=60.0)
    found = plan([ended], [], [late])
    assert (found.delete, found.create) == ((ended,), (late,))


def test_the_cap_on_hot_holds() -> None:
    found = plan(wishes=[wish(f"inst-{i}") for i in range(5)], max_hot=2)
    assert (len(found.create), found.capped) == (2, 3)


def test_a_record_without_pod_and_host_is_forgotten() -> None:
    record = wish(hot=False, declared=False)
    assert plan(wishes=[record]).forget == (record,)
    assert plan([pod("a", instance="inst-1")], wishes=[record]).forget == ()
    assert plan(wishes=[wish(hot=False)]).forget == ()


def test_old_templates_go_one_at_a_time_and_only_when_idle() -> None:
    pods = [pod(n, ROLE_HOT, instance=f"inst-{n}", template="old") for n in ("a", "b")]
    wishes = [wish("inst-a"), wish("inst-b")]
    idle = [host(one, held(one.instance, tier=Tier.HOT)) for one in pods]
    assert plan(pods, idle, wishes).delete == (pods[0],)
    busy = [host(one, held(one.instance, State.BUSY, Tier.HOT)) for one in pods]
    assert plan(pods, busy, wishes).delete == ()


def test_an_old_pod_that_never_started_goes_at_once_whatever_else_happens() -> None:
    stuck = pod("a", ROLE_HOT, instance="inst-a", template="old", ready=False, phase="Pending")
    rising = pod("b", ROLE_HOT, instance="inst-b", ready=False, phase="Pending")
    found = plan([stuck, rising], [], [wish("inst-a"), wish("inst-b")])
    assert found.delete == (stuck,)


UNPROVEN = {
    "another instance's new pod does not come up": pod("b", ROLE_HOT, instance="inst-b", ready=False),
    "no new waiting pod comes up": pod("b", ready=False),
    "no waiting pod is new yet": pod("b", template="old"),
}


@pytest.mark.parametrize("name", UNPROVEN)
def test_an_old_pod_that_works_stays_while_the_new_template_does_not(name: str) -> None:
    old = pod("a", ROLE_HOT, instance="inst-a", template="old")
    wishes = [wish("inst-a"), wish("inst-b")]
    new = UNPROVEN[name]
    assert plan([old, new], [host(old)], wishes).delete == ()
    up = replace(new, ready=True, template="new")
    assert plan([old, up], [host(old)], wishes).delete == (old,)


@st.composite
def scenes(draw: st.DrawFn) -> OwnState:
    pods, hosts, wishes = [], {}, {}
    for number in range(draw(st.integers(0, 8))):
        id_ = f"inst-{draw(st.integers(0, 5))}"
        own = draw(st.booleans())
        one = pod(
            f"p{number}",
            ROLE_HOT if own and draw(st.booleans()) else "generic",
            instance=id_ if own else "",
            deleting=draw(st.booleans()) and draw(st.booleans()),
            ended=draw(st.booleans()) and draw(st.booleans()),
            ended_at=NOW - draw(st.floats(0, 60)),
            template=draw(st.sampled_from(["new", "old"])),
        )
        pods.append(one)
        if not one.ended and draw(st.booleans()):
            state = draw(st.sampled_from([None, State.READY, State.BUSY, State.PAUSED, State.ERROR]))
            hosts[one.uid] = host(one, *([held(id_, state, Tier.HOT, epoch=number + 1)] if state else []))
    for number in range(draw(st.integers(0, 6))):
        id_ = f"inst-{number}"
        wishes[id_] = wish(
            id_,
            draw(st.booleans()),
            had_pod=draw(st.booleans()),
            lost_for=draw(st.floats(0, 10)),
            declared=draw(st.booleans()),
        )
    return OwnState(
        pods, hosts, wishes, frozenset({"new"}), draw(st.integers(0, 6)), NOW, draw(st.booleans())
    )


@given(scenes())
def test_no_instance_gets_a_second_pod(state: OwnState) -> None:
    found = plan_own(state)
    for one in found.create:
        living = [p for p in state.pods if p.instance == one.id and not p.deleting and not p.ended]
        assert living == []
        holders = [h for h in state.hosts.values() for i in h.instances.values() if i.id == one.id]
        assert all(h.instances[one.id].state in (State.PAUSED, State.ERROR) for h in holders)
    assert len({one.id for one in found.create}) == len(found.create)


@given(scenes())
def test_no_pod_with_an_instance_is_retired(state: OwnState) -> None:
    found = plan_own(state)
    assert all(state.hosts[one.uid].residents == 0 for one in found.retire)
    assert not {one.uid for one in found.retire} & {one.uid for one in found.delete}


@given(scenes())
def test_no_more_hot_pods_than_the_cap(state: OwnState) -> None:
    found = plan_own(state)
    there = [p for p in state.pods if p.role == ROLE_HOT and not p.ended]
    assert not found.create or len(there) + len(found.create) <= state.max_hot


@given(scenes())
def test_a_record_is_not_forgotten_while_a_pod_is_its_own(state: OwnState) -> None:
    assert not {w.id for w in plan_own(state).forget} & {p.instance for p in state.pods}


def state_with(pods: list[PodView], hosts: list[HostView], wishes: list[OwnWish], waiting: str) -> OwnState:
    """A pool whose HOT pods and waiting pods are made from templates of their own."""
    return OwnState(
        pods=pods,
        hosts={one.pod_uid: one for one in hosts},
        wishes={one.id: one for one in wishes},
        templates=frozenset({"new"}),
        now=NOW,
        waiting_template=waiting,
    )


def test_a_hot_pod_with_a_runtime_of_its_own_is_replaced_while_waiting_pods_stay_as_they_are() -> None:
    old = pod("a", ROLE_HOT, instance="inst-a", template="before")
    spare = pod("s", template="waiting")
    found = plan_own(state_with([old, spare], [host(old), host(spare)], [wish("inst-a")], "waiting"))
    assert found.delete == (old,)


def test_an_idle_cold_pod_is_replaced_when_waiting_pods_are_made_anew() -> None:
    cold = [pod(n, instance=f"inst-{n}", template="before") for n in ("a", "b")]
    spare = pod("s", template="waiting")
    wishes = [replace(wish(one.instance), hot=False) for one in cold]
    hosts = [host(cold[0], held("inst-a", State.BUSY)), host(cold[1], held("inst-b")), host(spare)]
    assert plan_own(state_with([*cold, spare], hosts, wishes, "waiting")).delete == (cold[1],)
    same = [replace(one, template="waiting") for one in cold]
    assert plan_own(state_with([*same, spare], hosts, wishes, "waiting")).delete == ()
