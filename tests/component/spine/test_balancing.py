# SPDX-License-Identifier: Apache-2.0
"""Balancing over real hosts: who places, who makes room, and figures that outlive a host."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import httpx

from agentpool_core.api.v1alpha1 import Affinity, BalancingStrategy
from agentpool_core.config import BalancingConfig, EffectivePool
from support.hosts import COUNTER, pool_config
from support.spine import Spine, running_spine
from support.waiting import eventually

CONFIG = pool_config(agent=COUNTER, storage="Redis", instances_per_host=3)


def balanced(strategy: BalancingStrategy) -> EffectivePool:
    balancing = BalancingConfig(strategy=strategy, affinity=Affinity.NONE)
    return CONFIG.model_copy(update={"balancing": balancing})


async def get(spine: Spine, path: str) -> Any:
    async with httpx.AsyncClient(base_url=spine.gateways[0].url) as client:
        return (await client.get(f"/api/v1/pool/{path}")).raise_for_status().json()


async def test_the_strategy_says_who_places_and_the_least_recent_use_who_leaves() -> None:
    async with running_spine(balanced(BalancingStrategy.ROUND_ROBIN), hosts=2) as spine:
        first = {f"p-{number}": await spine.answer(f"p-{number}", "add") for number in range(6)}
        assert set(Counter(one["pod"] for one in first.values()).values()) == {3}
        for project in first:
            again = await spine.answer(project, "add")
            assert (again["output"], again["pod"]) == (2, first[project]["pod"])
        # Both hosts are full: the next one costs the least recently used instance of its host its place.
        late = await spine.answer("late", "add")

        async def left() -> list[str]:
            held = (await get(spine, "instances"))["instances"]
            return [one["project_id"] for one in held if one["reason"] == "Evicted"]

        async def one_left() -> bool:
            return bool(await left())

        await eventually(one_left, 5)
        oldest = next(name for name in first if first[name]["pod"] == late["pod"])
        assert await left() == [oldest]


async def test_figures_of_pool_and_instance_are_live_and_outlive_a_host() -> None:
    async with running_spine(balanced(BalancingStrategy.LEAST_CONNECTIONS), hosts=2) as spine:
        answers = [await spine.answer(f"p-{number}", "add") for number in range(4)]
        await asyncio.gather(*(spine.answer("p-0", {"sleep": 0.2}) for _ in range(3)))

        async def counted(number: int) -> bool:
            return bool((await get(spine, "stats"))["total_operations_processed"] == number)

        await eventually(lambda: counted(7), 5)
        load = (await get(spine, f"instances/{answers[0]['instance_id']}"))["load"]
        assert (load["active_commands"], load["success_rate"]) == (0, 1.0)
        assert load["average_response_time_ms"] > 10, "a tenth of each answer of 200 ms"
        before = await get(spine, "stats")
        await spine.restart_host(0)
        await spine.answer("after", "add")
        await eventually(lambda: counted(8), 10)
        after = await get(spine, "stats")
        spent = before["average_operation_time_ms"] * 7
        assert after["average_operation_time_ms"] * 8 > spent * 0.999, "nothing is forgotten"
        assert (after["success_rate"], after["queue_depth"]) == (1.0, 0)
