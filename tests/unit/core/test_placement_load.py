# SPDX-License-Identifier: Apache-2.0
"""Placement by load: bounded where an instance has a host that it prefers, by strategy where it has none."""

from __future__ import annotations

import math
from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentpool_core.api.v1alpha1 import Affinity, BalancingStrategy
from agentpool_core.balance import HostLoad, LeastConnections, LoadMetrics, RoundRobin, balancer
from agentpool_core.config import BalancingConfig
from agentpool_core.lifecycle import Tier
from agentpool_core.placement import LOAD_FACTOR, Candidate, Preference, Role, choose_shared

WARM = frozenset({Tier.WARM})


def host(name: str, active: int = 0, *, capacity: int = 50, busy: int = 0, resident: int = 0) -> Candidate:
    load = HostLoad(LoadMetrics(0.0, active_commands=active))
    return Candidate(name, Role.SHARED, WARM, capacity, busy, resident, load)


def preferred(affinity: Affinity = Affinity.PREFERRED) -> Preference:
    return Preference(LeastConnections(), affinity, Random(1))


def chosen(name: str, hosts: list[Candidate], how: Preference | None) -> str | None:
    return choose_shared(name, Tier.WARM, hosts, preference=how)


def test_while_nothing_is_loaded_more_than_the_rest_instances_go_where_their_ids_say() -> None:
    hosts = [host(name, active=4) for name in "abcd"]
    for number in range(200):
        name = f"inst-{number}"
        assert chosen(name, hosts, preferred()) == chosen(name, hosts, None)


@pytest.mark.parametrize(
    ("active", "moved"),
    [
        pytest.param((0, 0, 0), False, id="idle hosts: where its id says"),
        pytest.param((1, 0, 0), True, id="one request there and none elsewhere is over a third of two"),
        pytest.param((5, 5, 5), False, id="as busy as the others"),
        pytest.param((6, 5, 5), False, id="within a quarter of the mean"),
        pytest.param((8, 5, 5), True, id="over a quarter above the mean"),
    ],
)
def test_the_host_that_an_id_names_is_left_once_it_is_loaded_more(
    active: tuple[int, int, int], moved: bool
) -> None:
    name = next(f"inst-{n}" for n in range(99) if chosen(f"inst-{n}", [host(h) for h in "abc"], None) == "a")
    hosts = [host(each, count) for each, count in zip("abc", active, strict=True)]
    assert (chosen(name, hosts, preferred()) != "a") is moved


@given(st.integers(2, 12), st.integers(1, 150))
def test_no_host_ever_has_more_than_the_bound_of_its_share(hosts: int, requests: int) -> None:
    candidates = [host(f"host-{number}", capacity=1000) for number in range(hosts)]
    by_name = {one.id: one for one in candidates}
    for number in range(1, requests + 1):
        # Every request is of an instance that prefers the same host.
        found = chosen("inst-1", candidates, preferred())
        assert found is not None
        by_name[found].load.metrics.acquire()
        most = max(one.load.active for one in candidates)
        assert most <= math.ceil(LOAD_FACTOR * number / hosts)


def test_larger_hosts_may_have_more_in_proportion() -> None:
    hosts = [host("small", capacity=25), host("large", capacity=75)]
    by_name = {one.id: one for one in hosts}
    for number in range(400):
        found = chosen(f"inst-{number}", hosts, preferred())
        assert found is not None
        by_name[found].load.metrics.acquire()
    assert by_name["small"].load.active <= math.ceil(LOAD_FACTOR * 400 * 0.25)


def test_without_affinity_the_strategy_alone_chooses() -> None:
    hosts = [host(name) for name in "abc"]
    turns = Preference(RoundRobin(), Affinity.NONE, Random(1))
    found = Counter(chosen("inst-1", hosts, turns) for _ in range(9))
    assert found == {"a": 3, "b": 3, "c": 3}


def test_room_comes_before_load() -> None:
    busy, full, idle = (
        host("free-slot", 9, capacity=4, busy=1, resident=1),
        host("would-evict", 0, capacity=4, busy=1, resident=4),
        host("all-busy", 0, capacity=4, busy=4, resident=4),
    )
    for affinity in Affinity:
        assert chosen("inst-1", [busy, full, idle], preferred(affinity)) == "free-slot"
        assert chosen("inst-1", [full, idle], preferred(affinity)) == "would-evict"


rooms = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 9)), min_size=1, max_size=6
).map(
    lambda found: [
        host(f"host-{number}", active, capacity=2, busy=min(busy, resident), resident=resident)
        for number, (busy, resident, active) in enumerate(found)
    ]
)


@given(rooms, st.sampled_from(BalancingStrategy), st.sampled_from(Affinity), st.integers(0, 99))
def test_no_strategy_takes_a_host_without_room_while_another_has_some(
    hosts: list[Candidate], strategy: BalancingStrategy, affinity: Affinity, seed: int
) -> None:
    one = balancer(BalancingConfig(strategy=strategy))
    found = chosen(f"inst-{seed}", hosts, Preference(one, affinity, Random(seed)))
    by_name = {each.id: each for each in hosts}
    assert found is not None
    best = max((not each.full, each.has_slot) for each in hosts)
    assert (not by_name[found].full, by_name[found].has_slot) == best


def test_where_all_are_full_the_one_that_the_id_names_decides() -> None:
    full = [host(name, count, capacity=1, busy=1) for count, name in enumerate("abc")]
    for number in range(50):
        name = f"inst-{number}"
        assert chosen(name, full, preferred(Affinity.NONE)) == chosen(name, full, None)
