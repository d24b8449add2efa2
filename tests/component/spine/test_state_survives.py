# SPDX-License-Identifier: Apache-2.0
"""What was acknowledged is still there after eviction, and after the loss of the process that held it."""

from __future__ import annotations

from support.hosts import COUNTER, pool_config
from support.spine import running_spine

LIBRARIAN = "agentpool_agent.agents.librarian:Librarian"
LESSON = {
    "documents": [
        {"id": "returns", "text": "An order may be returned within thirty days of delivery."},
        {"id": "shipping", "text": "Parcels leave the warehouse every weekday at noon."},
    ]
}


async def test_taught_then_evicted_by_a_full_host_then_asked_again() -> None:
    config = pool_config(agent=LIBRARIAN, storage="Redis", instances_per_host=3)
    async with running_spine(config) as spine:
        first = await spine.answer("shop", LESSON)
        for number in range(4):
            await spine.answer(f"other-{number}", "anything?")
        listed = await spine.pods[0].client.listed()
        states = {one.project_id: (one.state, one.reason) for one in listed}
        assert states["shop"] == ("PAUSED", "Evicted")
        again = await spine.answer("shop", "How long may an order be returned?")
        assert "thirty days" in again["output"]["answer"]
        assert again["instance_id"] == first["instance_id"]


async def test_the_next_host_knows_what_a_killed_one_acknowledged() -> None:
    config = pool_config(agent=LIBRARIAN, storage="Redis")
    async with running_spine(config, hosts=2) as spine:
        taught = await spine.answer("shop", LESSON)
        await spine.pod(taught["pod"]).kill_host()
        again = await spine.answer("shop", "When do parcels leave the warehouse?")
        assert "noon" in again["output"]["answer"]
        assert again["pod"] != taught["pod"]


async def test_a_killed_worker_comes_back_with_its_state_and_without_its_neighbours_noticing() -> None:
    config = pool_config(agent=COUNTER, storage="Redis", spares=0)
    async with running_spine(config) as spine:
        await spine.answer("victim", "add")
        (victim,) = spine.workers(0)
        await spine.answer("neighbour", "add")
        neighbours = {worker.pid for worker in spine.workers(0)} - {victim.pid}
        victim.kill()
        victim.wait(10)
        assert (await spine.answer("neighbour", "add"))["output"] == 2
        assert (await spine.answer("victim", "add"))["output"] == 2
        assert neighbours <= {worker.pid for worker in spine.workers(0)}


async def test_a_restarted_store_gives_everything_back() -> None:
    config = pool_config(agent=COUNTER, storage="Redis", instances_per_host=1)
    async with running_spine(config) as spine:
        await spine.answer("kept", "add")
        await spine.answer("other", "add")
        spine.redis.stop()
        spine.redis.start()
        assert (await spine.answer("kept", "add"))["output"] == 2
