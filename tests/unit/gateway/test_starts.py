# SPDX-License-Identifier: Apache-2.0
"""Turns of first requests at one host: bounded, fair between tenants, and never lost."""

from __future__ import annotations

import asyncio

from agentpool_gateway.membership.starts import Starts

FOREVER = 3600.0


def waiting(starts: Starts, tenant: str, instance: str) -> asyncio.Task[bool]:
    return asyncio.create_task(starts.turn(tenant, instance, FOREVER))


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_no_more_instances_start_at_once_than_the_limit() -> None:
    starts = Starts(limit=3)
    assert [starts.begin(f"i-{n}") for n in range(5)] == [True, True, True, False, False]
    turns = [waiting(starts, "acme", f"i-{n}") for n in range(3, 5)]
    await settle()
    assert (starts.running, starts.waiting) == (3, 2)
    starts.done("i-0")
    await settle()
    assert [turn.done() for turn in turns] == [True, False]
    starts.done("i-1")
    assert await asyncio.gather(*turns) == [True, True]
    assert (starts.running, starts.waiting) == (3, 0)


async def test_requests_of_one_instance_count_once_and_begin_together() -> None:
    starts = Starts(limit=1)
    assert starts.begin("same")
    assert starts.begin("same")
    crowd = [waiting(starts, "acme", "other") for _ in range(10)]
    await settle()
    starts.done("same")
    await settle()
    assert not any(turn.done() for turn in crowd), "the instance is still being started"
    starts.done("same")
    assert await asyncio.gather(*crowd) == [True] * 10
    assert starts.running == 1
    for _ in range(10):
        starts.done("other")
    assert starts.running == 0


async def test_tenants_take_turns() -> None:
    starts = Starts(limit=1)
    assert starts.begin("first")
    order: list[str] = []

    async def start(tenant: str, instance: str) -> None:
        assert await starts.turn(tenant, instance, FOREVER)
        order.append(instance)
        starts.done(instance)

    flood = [asyncio.create_task(start("flood", f"flood-{n}")) for n in range(100)]
    await settle()
    calm = [asyncio.create_task(start("calm", f"calm-{n}")) for n in range(2)]
    await settle()
    starts.done("first")
    await asyncio.gather(*flood, *calm)
    assert max(order.index("calm-0"), order.index("calm-1")) <= 4
    assert len(order) == 102


async def test_nobody_overtakes_those_who_wait() -> None:
    starts = Starts(limit=1)
    assert starts.begin("first")
    second = waiting(starts, "acme", "second")
    await settle()
    starts.done("first")
    assert not starts.begin("third")
    assert await second


async def test_a_lost_host_sends_everybody_away() -> None:
    starts = Starts(limit=1)
    assert starts.begin("first")
    turns = [waiting(starts, f"tenant-{n}", f"i-{n}") for n in range(5)]
    await settle()
    starts.interrupt()
    assert await asyncio.gather(*turns) == [False] * 5
    assert starts.waiting == 0
    starts.done("first")
    assert starts.begin("later")


async def test_a_request_out_of_time_or_cancelled_leaves_no_trace() -> None:
    starts = Starts(limit=1)
    assert starts.begin("first")
    assert not await starts.turn("acme", "hurried", 0.001)
    gone = waiting(starts, "acme", "gone")
    await settle()
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    assert starts.waiting == 0
    starts.done("first")
    assert starts.running == 0


async def test_a_turn_that_comes_as_its_request_is_cancelled_goes_to_the_next() -> None:
    starts = Starts(limit=1)
    assert starts.begin("first")
    gone, next_one = waiting(starts, "a", "gone"), waiting(starts, "b", "next")
    await settle()
    starts.done("first")
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    assert await next_one
    assert starts.running == 1
