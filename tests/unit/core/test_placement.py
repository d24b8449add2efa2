# SPDX-License-Identifier: Apache-2.0
"""Placement: even, stable under change, and constant time where it takes from a queue."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from agentpool_core.lifecycle import Tier
from agentpool_core.placement import Candidate, GenericQueue, Role, choose_shared

WARM = frozenset({Tier.WARM})
IDS = [f"inst-{number}" for number in range(400)]


def shared(name: str, capacity: int = 50, busy: int = 0, tiers: frozenset[Tier] = WARM) -> Candidate:
    return Candidate(name, Role.SHARED, tiers, capacity, busy)


def placed(hosts: list[Candidate]) -> dict[str, str | None]:
    return {one: choose_shared(one, Tier.WARM, hosts) for one in IDS}


names = st.lists(st.text(min_size=1, max_size=12), min_size=1, max_size=8, unique=True)


@given(names, st.text(min_size=13, max_size=14))
def test_a_host_that_joins_takes_instances_and_moves_no_others(have: list[str], new: str) -> None:
    before = placed([shared(name) for name in have])
    after = placed([shared(name) for name in [*have, new]])
    assert all(after[one] in (before[one], new) for one in IDS)


@given(names.filter(lambda found: len(found) > 1))
def test_a_host_that_leaves_loses_its_own_and_moves_no_others(have: list[str]) -> None:
    before = placed([shared(name) for name in have])
    after = placed([shared(name) for name in have[1:]])
    assert all(after[one] == before[one] for one in IDS if before[one] != have[0])


@given(names, st.randoms())
def test_the_order_of_hosts_does_not_matter(have: list[str], random: object) -> None:
    hosts = [shared(name) for name in have]
    assert placed(hosts) == placed(list(reversed(hosts)))


def test_hosts_get_shares_in_proportion_to_their_capacity() -> None:
    hosts = [shared("small", 25), shared("middle", 50), shared("large", 100)]
    counts = Counter(choose_shared(f"inst-{n}", Tier.WARM, hosts) for n in range(7000))
    assert abs(counts["small"] - 1000) < 150
    assert abs(counts["middle"] - 2000) < 200
    assert abs(counts["large"] - 4000) < 250


def test_hosts_with_a_free_slot_come_before_those_that_have_to_put_an_instance_aside() -> None:
    room, idle, busy = (
        Candidate("room", Role.SHARED, WARM, 2, 1, resident=1),
        Candidate("idle", Role.SHARED, WARM, 2, 0, resident=2),
        Candidate("busy", Role.SHARED, WARM, 2, 2, resident=2),
    )
    assert set(placed([room, idle, busy]).values()) == {"room"}
    assert set(placed([idle, busy]).values()) == {"idle"}


def test_hosts_that_are_all_full_of_idle_instances_share_as_if_they_had_room() -> None:
    full = [Candidate(name, Role.SHARED, WARM, 2, 0, resident=2) for name in ("a", "b", "c")]
    assert placed(full) == placed([shared(name, 2) for name in ("a", "b", "c")])


def test_a_host_full_of_busy_instances_is_passed_over() -> None:
    hosts = [shared("a", 2, busy=2), shared("b", 2, busy=1)]
    assert set(placed(hosts).values()) == {"b"}


def test_when_all_are_full_one_of_them_decides() -> None:
    assert choose_shared("inst-1", Tier.WARM, [shared("a", 1, busy=1)]) == "a"


def test_only_shared_hosts_that_take_the_tier_and_are_not_avoided_are_chosen() -> None:
    hosts = [
        Candidate("generic", Role.GENERIC, WARM, 1, 0),
        shared("cold", tiers=frozenset({Tier.COLD})),
        shared("avoided"),
    ]
    assert choose_shared("inst-1", Tier.WARM, hosts, avoid={"avoided"}) is None


def test_generic_hosts_are_taken_once_in_the_order_they_came() -> None:
    queue = GenericQueue()
    for name in ("a", "b", "a", "c"):
        queue.offer(name)
    queue.withdraw("b")
    assert [queue.take(), queue.take(), queue.take()] == ["a", "c", None]


def test_a_generic_host_to_avoid_keeps_its_place() -> None:
    queue = GenericQueue()
    queue.offer("a")
    queue.offer("b")
    assert queue.take(avoid={"a"}) == "b"
    assert queue.take() == "a"
    assert len(queue) == 0
