# SPDX-License-Identifier: Apache-2.0
"""What a host's report means to the policy, and which instances leave crowded pods."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentpool_core.cluster import ROLE_WARM
from agentpool_core.lifecycle import State, Tier
from agentpool_core.placement import Candidate, Role, choose_shared
from agentpool_core.scaling import ReplicaLoad
from agentpool_operator.plan.scaling import (
    BATCH,
    CROWDED_FACTOR,
    CROWDED_MORE,
    Capacity,
    capacity,
    plan_spread,
    queue_share,
    replica_load,
)
from agentpool_operator.plan.views import HostView, LoadView, PodView
from support.builders import agent_pool, effective_pool
from support.kube_objects import held, host, pod

BEARS = Capacity(cpu_millis=1000, memory_bytes=1000, places=50, permits=10, queue=8.0, latency_ms=200.0)
POD = pod("a", ROLE_WARM)


def load(**facts: Any) -> LoadView:
    return LoadView(**facts)


def test_what_a_pod_bears_follows_from_limits_and_requests() -> None:
    def of(spec: dict[str, Any]) -> Capacity:
        return capacity(agent_pool(spec), effective_pool(spec))

    plain = of({})
    assert (plain.cpu_millis, plain.places, plain.permits, plain.latency_ms) == (100, 50, 10, None)
    limits = {"limits": {"cpu": "2", "memory": "1Gi"}, "requests": {"cpu": "500m"}}
    given = of({"tiers": {"warm": {"resources": limits}}, "scaling": {"targetLatencyMilliseconds": 250}})
    assert (given.cpu_millis, given.memory_bytes, given.latency_ms) == (2000, 2**30, 250.0)
    asked = of({"tiers": {"warm": {"resources": {"requests": {"cpu": "500m"}}}}})
    assert asked.cpu_millis == 500


def test_a_report_becomes_shares() -> None:
    told = load(
        workers_cpu_millis=300,
        host_cpu_millis=100,
        workers_memory_bytes=700,
        arrivals_per_second=3.0,
        completions_per_second=2.0,
        latency_p99_ms=150.0,
    )
    instances = [held(str(number), tier=Tier.WARM) for number in range(5)]
    view = host(POD, *instances, active=10, load=told)
    assert replica_load(view, BEARS) == ReplicaLoad(
        cpu=0.3,
        memory=0.7,
        queue=0.2,
        occupancy=0.1,
        latency=0.75,
        arrivals=3.0,
        completions=2.0,
    )
    assert replica_load(view, replace(BEARS, latency_ms=None)).latency is None  # type: ignore[union-attr]


QUEUES = {
    "nothing waits: requests at work against permits": (host(POD, held("a"), active=4), 0.4),
    "more waits than may": (host(POD, held("a"), active=4, queued=16), 2.0),
    "some waits, and nearly all permits are held": (host(POD, held("a"), active=9, queued=2), 0.9),
    "nobody is here": (host(POD), 0.0),
}


@pytest.mark.parametrize("name", QUEUES)
def test_what_waits(name: str) -> None:
    view, share = QUEUES[name]
    assert queue_share(view, BEARS) == share


def test_a_host_that_is_a_core_full_is_as_full_as_its_workers_at_their_limit() -> None:
    found = replica_load(host(POD, load=load(workers_cpu_millis=100, host_cpu_millis=900)), BEARS)
    assert found is not None
    assert found.cpu == 0.9


@pytest.mark.parametrize("view", [None, host(POD)], ids=["not connected", "it does not measure"])
def test_who_says_nothing_is_not_known(view: HostView | None) -> None:
    assert replica_load(view, BEARS) is None


Pods = list[tuple[PodView, HostView | None]]


def pods(*residents: int, cpu: tuple[int, ...] = (), state: State = State.READY) -> Pods:
    """Pods that hold so many instances each."""
    found: Pods = []
    for number, count in enumerate(residents):
        one = pod(f"p{number}", ROLE_WARM)
        instances = [held(f"inst-{number}-{index}", state, Tier.WARM) for index in range(count)]
        millis = cpu[number] if cpu else 0
        found.append((one, host(one, *instances, load=load(workers_cpu_millis=millis))))
    return found


def test_new_pods_take_instances_off_a_full_one() -> None:
    leaving = plan_spread(pods(20, 0, 0), BEARS, 0.8)
    assert len(leaving) == BATCH
    assert {one.pod_uid for one in leaving} == {"uid-p0"}


QUIET = {
    "all bear about the same": pods(10, 9, 11),
    "one pod alone": pods(20),
    "one does not tell": [*pods(20, 0), (pod("silent", ROLE_WARM), None)],
    "few instances and little to do": pods(2, 0),
    "nothing that may leave": pods(20, 0, state=State.INITIALIZING),
}


@pytest.mark.parametrize("name", QUIET)
def test_nothing_moves_without_need(name: str) -> None:
    assert plan_spread(QUIET[name], BEARS, 0.8) == []


def test_a_pod_at_its_limit_is_crowded_whatever_it_holds() -> None:
    assert plan_spread(pods(8, 8, 8, cpu=(990, 100, 100)), BEARS, 0.8) != []
    # Where all are at their limit, nobody is helped by moving.
    assert plan_spread(pods(8, 8, 8, cpu=(990, 990, 990)), BEARS, 0.8) == []


def test_what_rests_leaves_before_what_works_and_the_last_used_first() -> None:
    one, view = pods(30, 0)[0]
    assert view is not None
    instances = {
        key: replace(each, state=State.BUSY if index < 25 else State.READY, last_used_at=float(index))
        for index, (key, each) in enumerate(view.instances.items())
    }
    shared = [(one, replace(view, instances=instances)), pods(30, 0)[1]]
    leaving = [one.instance_id for one in plan_spread(shared, BEARS, 0.8)]
    resting = [key for key, each in instances.items() if each.state is State.READY]
    rests = [key in resting for key in leaving]
    assert rests == sorted(rests, reverse=True)
    assert any(rests)


@given(st.lists(st.integers(0, 40), min_size=2, max_size=6))
def test_it_comes_to_an_end_with_nobody_crowded_who_could_be_helped(residents: list[int]) -> None:
    shared = pods(*residents)
    for _ in range(200):
        leaving = plan_spread(shared, BEARS, 0.8)
        if not leaving:
            break
        shared = moved(shared, {one.instance_id for one in leaving})
    assert plan_spread(shared, BEARS, 0.8) == []
    counts = [view.residents for _, view in shared if view is not None]
    assert sum(counts) == sum(residents)
    # Chance is uneven, and yet nobody has more than before and much more than the mean.
    mean = sum(counts) / len(counts)
    assert max(counts) <= max(2 * (CROWDED_FACTOR * mean + CROWDED_MORE) + 4, 8)


def moved(shared: Pods, leaving: set[str]) -> Pods:
    """Each at its next place, as its next request has it."""
    views = {one.uid: view for one, view in shared if view is not None}
    for id_ in leaving:
        places = [
            Candidate(uid, Role.SHARED, frozenset({Tier.WARM}), 50, view.residents, view.residents)
            for uid, view in views.items()
        ]
        (uid,) = [uid for uid, view in views.items() if id_ in view.instances]
        goal = choose_shared(id_, Tier.WARM, places)
        assert goal is not None
        one = views[uid].instances[id_]
        views[uid] = replace(
            views[uid], instances={k: v for k, v in views[uid].instances.items() if k != id_}
        )
        views[goal] = replace(views[goal], instances={**views[goal].instances, id_: one})
    return [(one, views[one.uid]) for one, _ in shared]
