# SPDX-License-Identifier: Apache-2.0
"""What a pool has ahead, what it has made, and that an instance is there for the next one after its use."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from agentpool_client import AgentPool
from support.hosts import COUNTER, pool_config
from support.spine import Spine, running_spine
from support.waiting import eventually

STATS = "/api/v1/pool/stats"


async def stats(spine: Spine) -> dict[str, Any]:
    """The pool's, as its gateway has them."""
    answer: httpx.Response = await spine.gateways[0].client().get(STATS)
    found: dict[str, Any] = answer.json()
    return found


async def test_a_new_pool_has_its_spares_ahead_and_counts_what_it_makes() -> None:
    async with running_spine(pool_config(agent=COUNTER, spares=2, max_instances=5)) as spine:

        async def warm() -> bool:
            return bool((await stats(spine))["hosts"][0]["spares"] == 2)

        await eventually(warm, 20)
        first = await stats(spine)
        assert (first["current_pool_size"], first["total_agents_created"]) == (0, 0), (
            "spares are nobody's yet"
        )
        made = {(await spine.answer(project, "get"))["instance_id"] for project in ("a", "b")}

        async def counted() -> bool:
            now = await stats(spine)
            return bool((now["current_pool_size"], now["total_agents_created"]) == (2, 2))

        assert len(made) == 2
        await eventually(counted, 10)
        await eventually(warm, 20)


@pytest.mark.parametrize("leases", [True, False], ids=["straight to the host", "through the gateway"])
async def test_an_instance_is_the_callers_in_the_block_and_available_after_it(leases: bool) -> None:
    config = pool_config(agent=COUNTER)
    async with running_spine(config, settings={"direct_access": leases}) as spine:
        async with AgentPool(f"grpc://{spine.gateways[0].grpc_address}", pool="default/support") as pool:
            async with pool.acquire("acme", "p") as handle:
                assert handle.instance_id
                assert (await handle.invoke("add")).output == 1

        async def available() -> bool:
            now = await stats(spine)
            return bool((now["current_pool_size"], now["current_busy_agents"]) == (1, 0))

        await eventually(available, 10)
        assert (await spine.answer("p", "add"))["output"] == 2, "the same one"
