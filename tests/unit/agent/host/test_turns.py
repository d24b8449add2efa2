# SPDX-License-Identifier: Apache-2.0
"""Tenants take turns at a host's few places for starting instances."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentpool_agent.host.turns import RoundRobin, Turns
from agentpool_core.errors import PoolExhausted


def test_names_are_served_in_turn_and_each_in_its_order() -> None:
    queue: RoundRobin[int] = RoundRobin()
    for number in range(4):
        queue.add("many", number)
    queue.add("one", 10)
    queue.add("two", 20)
    queue.add("two", 21)
    queue.remove("two", 20)
    queue.remove("two", 99)
    queue.remove("nobody", 1)
    assert queue.longest() == ("many", 3)
    assert [queue.take() for _ in range(7)] == [0, 10, 21, 1, 2, 3, None]
    assert (len(queue), queue.longest(), queue.waiting("many")) == (0, None, 0)


@given(st.lists(st.sampled_from("abcd"), max_size=60))
def test_nobody_is_served_twice_while_another_waits(names: list[str]) -> None:
    queue: RoundRobin[str] = RoundRobin()
    for name in names:
        queue.add(name, name)
    waiting, served = Counter(names), Counter[str]()
    for _ in names:
        taken = queue.take()
        assert taken is not None
        served[taken] += 1
        assert all(served[other] >= served[taken] - 1 or served[other] == waiting[other] for other in waiting)
    assert served == waiting


async def hold(turns: Turns, tenant: str, served: list[str], leave: asyncio.Event) -> None:
    async with turns.turn(tenant):
        served.append(tenant)
        await leave.wait()


async def test_a_storm_of_one_tenant_lets_another_in_at_its_second_turn() -> None:
    turns = Turns(1, 100)
    served: list[str] = []
    leave = [asyncio.Event() for _ in range(7)]
    tasks = []
    for number, tenant in enumerate("aaaaabc"):
        tasks.append(asyncio.create_task(hold(turns, tenant, served, leave[number])))
        await asyncio.sleep(0)
    for event in leave:
        event.set()
    await asyncio.gather(*tasks)
    assert served == ["a", "a", "b", "c", "a", "a", "a"]


async def test_whoever_gives_up_takes_no_place_with_him() -> None:
    turns, leave = Turns(1, 10), asyncio.Event()
    served: list[str] = []
    first = asyncio.create_task(hold(turns, "a", served, leave))
    await asyncio.sleep(0)
    waiting = [asyncio.create_task(hold(turns, tenant, served, leave)) for tenant in "bcd"]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.sleep(0)
    leave.set()
    await asyncio.sleep(0)
    # Its turn has come, and it is gone before it could take it.
    waiting[1].cancel()
    await asyncio.gather(first, *waiting, return_exceptions=True)
    assert served == ["a", "d"]
    async with asyncio.timeout(1), turns.turn("e"):
        pass


async def test_a_full_queue_refuses_the_tenant_with_the_most_in_it() -> None:
    turns, leave = Turns(1, 3), asyncio.Event()
    served: list[str] = []
    tasks = []
    for tenant in "aaaa":
        tasks.append(asyncio.create_task(hold(turns, tenant, served, leave)))
        await asyncio.sleep(0)
    with pytest.raises(PoolExhausted) as refused:
        await hold(turns, "a", served, leave)
    other = asyncio.create_task(hold(turns, "b", served, leave))
    await asyncio.sleep(0)
    leave.set()
    ends = await asyncio.gather(*tasks, other, return_exceptions=True)
    assert refused.value.retry_after_seconds
    assert [isinstance(end, PoolExhausted) for end in ends] == [False, False, False, True, False]
    assert served == ["a", "a", "b", "a"]
