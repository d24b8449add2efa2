# SPDX-License-Identifier: Apache-2.0
"""Tenants of one pool: each has its limits, and none takes another one's turn."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import httpx

from support.hosts import COUNTER, pool_config
from support.spine import running_spine
from support.traffic import Traffic, report


async def test_a_tenant_has_no_more_instances_than_it_may_and_the_others_notice_nothing() -> None:
    config = pool_config(
        agent=COUNTER, storage="Redis", instances_per_host=10, limits={"max_instances_per_tenant": 2}
    )
    async with running_spine(config, hosts=2) as spine:
        for project in ("one", "two"):
            await spine.answer(project, "add", tenant="acme")
        refused = await spine.invoke("three", "add", tenant="acme")
        problem = refused.json()
        assert (refused.status_code, problem["code"], problem["retryable"]) == (503, "PoolExhausted", True)
        assert "tenant" in problem["detail"]
        assert refused.headers["retry-after"]
        for project in ("one", "two"):
            assert (await spine.answer(project, "add", tenant="other"))["output"] == 1
        assert (await spine.answer("one", "add", tenant="acme"))["output"] == 2, "its instances go on"
        async with httpx.AsyncClient(base_url=spine.gateways[0].url, timeout=20) as client:
            made = await spine.answer("two", "get", tenant="acme")
            await client.delete(f"/api/v1/pool/instances/{made['instance_id']}")
        assert (await spine.answer("three", "add", tenant="acme"))["output"] == 1, "there is room again"


async def test_a_flood_of_one_tenant_does_not_hold_up_the_first_request_of_another() -> None:
    config = pool_config(agent=COUNTER, storage="Redis", instances_per_host=300, spares=2)
    projects = [f"flood-{number}" for number in range(100)]
    async with running_spine(config) as spine, httpx.AsyncClient(timeout=60) as client:
        flood, calm = (
            Traffic([spine.gateways[0].url], more={"tenant_id": tenant}) for tenant in ("flood", "calm")
        )
        began = asyncio.get_running_loop().time()
        async with asyncio.TaskGroup() as tasks:
            for project in projects:
                tasks.create_task(flood.send(client, project))
            await asyncio.sleep(0.1)
            await calm.send(client, "first")
        (answered,) = calm.seen["first"].answered
        ends = sorted(seen.answered[0] for seen in flood.seen.values())
        assert len(ends) == len(projects)
        report(f"100 first requests: {ends[-1] - began:.2f} s; another tenant's: {answered - began:.2f} s")
        assert sum(end < answered for end in ends) < 70, "it does not wait for the flood to pass"


async def test_permits_and_rate_of_one_project_are_nobody_elses() -> None:
    config = pool_config(agent=COUNTER, storage="Redis", concurrent=2, per_minute=20)
    async with running_spine(config) as spine:
        slow = [asyncio.create_task(spine.invoke("busy", {"sleep": 2})) for _ in range(2)]
        await asyncio.sleep(0.7)
        refused = await spine.invoke("busy", "get")
        assert (refused.status_code, refused.json()["code"]) == (429, "ConcurrencyExceeded")
        assert (await spine.invoke("calm", "get")).status_code == 200
        assert [(await one).status_code for one in slow] == [200, 200]
        codes = [(await spine.invoke("eager", "get")).status_code for _ in range(22)]
        assert (codes.count(200), codes.count(429)) == (20, 2)
        assert codes_of(await asyncio.gather(*(spine.invoke("calm", "get") for _ in range(2)))) == [200, 200]


def codes_of(answers: Sequence[httpx.Response]) -> list[int]:
    return [answer.status_code for answer in answers]
