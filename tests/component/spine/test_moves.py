# SPDX-License-Identifier: Apache-2.0
"""An instance is moved between tiers under load: no request fails, and every increment is there once."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx

from agentpool_proto.v1 import host_pb2
from support.gateways import write_membership
from support.hosts import COUNTER, host_pod, instance_id, pool_config
from support.spine import Spine, running_spine
from support.waiting import eventually

ID = instance_id("acme", "counter")


async def move(spine: Spine, pod: str, tier: str) -> None:
    """Have the pod that holds the counter move it."""
    request = host_pb2.MoveRequest(instance_id=ID, tier=tier)
    await spine.pod(pod).client.call("Move", request)


async def add_until(spine: Spine, stop: asyncio.Event, answers: list[dict[str, Any]]) -> None:
    """One caller that adds without a pause; every request must be answered."""
    while not stop.is_set():
        answers.append(await spine.answer("counter", "add"))


async def seen(answers: list[dict[str, Any]], tier: str) -> str:
    """The pod of the first answer from a tier, once there is one at the end of the list."""
    await eventually(lambda: bool(answers) and answers[-1]["tier"] == tier, 30)
    return str(answers[-1]["pod"])


async def test_a_counter_under_load_goes_from_warm_to_cold_and_back_without_a_failed_request() -> None:
    config = pool_config(agent=COUNTER, storage="Redis")
    async with running_spine(config, hosts=2, generic=1) as spine:
        stop, answers = asyncio.Event(), list[dict[str, Any]]()
        callers = [asyncio.create_task(add_until(spine, stop, answers)) for _ in range(4)]
        try:
            warm = await seen(answers, "WARM")
            await move(spine, warm, "COLD")
            cold = await seen(answers, "COLD")
            await move(spine, cold, "WARM")
            await seen(answers, "WARM")
            await asyncio.sleep(0.2)
        finally:
            stop.set()
            await asyncio.gather(*callers)

    tiers = [answer["tier"] for answer in answers]
    assert {"WARM", "COLD"} == set(tiers)
    assert sorted(answer["output"] for answer in answers) == list(range(1, len(answers) + 1))


async def test_a_moved_instance_that_is_idle_is_found_in_its_new_tier() -> None:
    config = pool_config(agent=COUNTER, storage="Redis")
    async with running_spine(config, hosts=1, generic=1) as spine:
        first = await spine.answer("counter", "add")
        await move(spine, first["pod"], "HOT")
        again = await spine.answer("counter", "add")
        assert (again["output"], again["tier"]) == (2, "HOT")
        assert again["pod"] != first["pod"]


async def put_tier(spine: Spine, tier: str) -> httpx.Response:
    """Move the counter over REST."""
    async with httpx.AsyncClient(base_url=spine.gateways[0].url, timeout=60) as client:
        return await client.put(f"/api/v1/pool/instances/{ID}/tier", json={"tier": tier})


async def test_an_application_moves_a_busy_instance_to_hot_over_rest_and_frees_it_again() -> None:
    config = pool_config(agent=COUNTER, storage="Redis")
    async with running_spine(config, hosts=1, generic=1, gateways=2) as spine:
        stop, answers = asyncio.Event(), list[dict[str, Any]]()
        callers = [asyncio.create_task(add_until(spine, stop, answers)) for _ in range(3)]
        try:
            await seen(answers, "WARM")
            moved = await put_tier(spine, "HOT")
            assert moved.status_code == 200, moved.text
            assert (moved.json()["tier"], moved.json()["state"] in ("READY", "BUSY")) == ("HOT", True)
            hot = await seen(answers, "HOT")
            # The other gateway was told nothing and finds it all the same.
            assert (await spine.answer("counter", "get", gateway=1))["pod"] == hot
        finally:
            stop.set()
            await asyncio.gather(*callers)
        assert sorted(answer["output"] for answer in answers) == list(range(1, len(answers) + 1))
        stored = await spine.pod(hot).client.operate("Get", ID)
        assert stored.pinned
        freed = await put_tier(spine, "AUTO")
        assert (freed.status_code, freed.json()["tier"]) == (200, "HOT")
        assert not (await spine.pod(hot).client.operate("Get", ID)).pinned


async def test_a_tier_that_no_host_takes_is_refused_and_nothing_moves() -> None:
    config = pool_config(agent=COUNTER, storage="Redis")
    async with running_spine(config, hosts=1) as spine:
        await spine.answer("counter", "add")
        refused = await put_tier(spine, "HOT")
        assert (refused.status_code, refused.json()["code"]) == (503, "NoHost")
        assert int(refused.headers["retry-after"]) >= 1
        again = await spine.answer("counter", "add")
        assert (again["output"], again["tier"]) == (2, "WARM")


async def test_a_new_hot_instance_that_no_host_takes_is_announced_and_refused_for_now() -> None:
    config = pool_config(agent=COUNTER, storage="Redis")
    async with running_spine(config, hosts=1) as spine:
        refused = await spine.invoke("counter", "add", tier="HOT")
        assert (refused.status_code, refused.json()["code"]) == (503, "NoHost")
        assert int(refused.headers["retry-after"]) >= 1
        async for status in spine.pods[0].statuses():
            assert [one.instance_id for one in status.awaited] == [ID]
            break


async def test_a_new_hot_instance_is_served_once_its_pod_is_there_while_its_request_waits() -> None:
    config = pool_config(agent=COUNTER, storage="Redis")
    async with running_spine(config, hosts=1) as spine:
        request = asyncio.create_task(spine.invoke("counter", "add", tier="HOT"))
        own = {"role": "Generic", "tiers": "HOT", "reserved_for": ID}
        async with host_pod(config, redis_url=spine.redis.url, **own) as pod:
            spine.pods.append(pod)
            write_membership(spine.gateways[0].membership_file, [(config, spine.entries())])
            answer = await request
            if answer.status_code == 503:
                # The machine was slow to start the pod; its caller comes back as told.
                answer = await spine.invoke("counter", "add", tier="HOT")
            assert (answer.json()["output"], answer.json()["pod"]) == (1, pod.name)
