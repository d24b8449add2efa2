# SPDX-License-Identifier: Apache-2.0
"""A rollout through real gateways, hosts and Redis: the exact share, no state lost, flags that outlive every
part, and the published client of OpenFeature."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from openfeature import api
from openfeature.contrib.provider.ofrep import OFREPProvider
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import ErrorCode
from redis.asyncio import Redis

from agentpool_core.flags import POOL_FLAG, Flag, Strategy
from support.hosts import COUNTER, pool_config
from support.spine import Spine, running_spine
from support.waiting import eventually

FLAG = f"/api/v1/pool/flags/{POOL_FLAG}"


@pytest.fixture
async def spine() -> AsyncIterator[Spine]:
    async with running_spine(pool_config(agent=COUNTER, storage="Redis"), hosts=2, gateways=2) as running:
        yield running


async def change(spine: Spine, body: dict[str, Any], gateway: int = 0) -> dict[str, Any]:
    """Change the flag."""
    answer = await spine.gateways[gateway].client().patch(FLAG, json=body)
    assert answer.status_code == 200, answer.text
    changed: dict[str, Any] = answer.json()
    return changed


async def test_each_step_of_a_rollout_has_exactly_the_projects_that_the_flag_names_and_no_state_is_lost(
    spine: Spine,
) -> None:
    projects = [f"p{number}" for number in range(24)]
    for step, share in enumerate((0, 50, 100)):
        await change(spine, {"percentage": share})
        answers = await asyncio.gather(*(spine.answer(project, "add") for project in projects))
        flag = Flag(POOL_FLAG, True, Strategy.PERCENTAGE, share)
        expected = ["pool" if flag.on("acme", project, 0) else "one-shot" for project in projects]
        assert [answer["served_by"] for answer in answers] == expected
        assert {answer["output"] for answer in answers} == {step + 1}
    await change(spine, {"roll_back": True})
    answer = await spine.answer("p0", "add")
    assert (answer["served_by"], answer["output"]) == ("one-shot", 4)


async def test_a_rollback_outlives_gateways_hosts_and_the_data_of_redis(spine: Spine) -> None:
    await change(spine, {"roll_back": True})

    async def one_shot(gateway: int) -> bool:
        answer = await spine.invoke("p", "add", gateway=gateway)
        return bool(answer.status_code == 200 and answer.json()["served_by"] == "one-shot")

    await eventually(lambda: one_shot(1), 5)
    await spine.kill_gateway(0)
    await spine.restart_host(0)
    await spine.start_gateway(0)
    assert await one_shot(0)
    async with Redis.from_url(spine.redis.url) as raw:
        await raw.flushall()
    key = f"ap:{{{spine.config.uid}}}:flags"

    async def put_back() -> bool:
        async with Redis.from_url(spine.redis.url) as raw:
            return bool(await raw.exists(key))

    await eventually(put_back, 15)
    await eventually(lambda: one_shot(0), 20)
    flag = (await spine.gateways[1].client().get(FLAG)).json()
    assert (flag["enabled"], flag["strategy"]) == (False, "NONE")


async def test_the_published_client_of_openfeature_evaluates_flags_of_the_pool(spine: Spine) -> None:
    heads = spine.gateways[0].client()
    await heads.put("/api/v1/pool/flags/new-answer", json={"strategy": "ALLOWLIST", "tenants": ["acme"]})
    named = f"{spine.gateways[0].url}/api/v1/namespaces/{spine.config.namespace}/pools/{spine.config.name}"
    for number, base in enumerate((spine.gateways[0].url, named)):
        provider = OFREPProvider(base)
        domain = f"pool-{number}"
        await asyncio.to_thread(api.set_provider_and_wait, provider, domain)
        client = api.get_client(domain)

        def details(tenant: str, key: str, client: Any = client) -> Any:
            context = EvaluationContext(f"{tenant}/handbook", {"plan": "free"})
            return client.get_boolean_details(key, False, context)

        found = await asyncio.to_thread(details, "acme", "new-answer")
        assert (found.value, str(found.reason), found.variant) == (True, "TARGETING_MATCH", "on")
        assert found.flag_metadata == {"strategy": "ALLOWLIST", "origin": "set"}
        assert (await asyncio.to_thread(details, "other", "new-answer")).value is False
        missing = await asyncio.to_thread(details, "acme", "none-of-that-name")
        assert (missing.value, missing.error_code) == (False, ErrorCode.FLAG_NOT_FOUND)
        empty = await asyncio.to_thread(client.get_boolean_details, "new-answer", False)
        assert empty.error_code is ErrorCode.TARGETING_KEY_MISSING
        provider.session.close()
