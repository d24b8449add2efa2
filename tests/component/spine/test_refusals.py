# SPDX-License-Identifier: Apache-2.0
"""Refusals of a real system, over REST and gRPC: status, code, remedy, and when to come back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import httpx
import msgspec
import pytest

from agentpool_core.errors import AgentPoolError
from agentpool_proto.v1 import gateway_pb2, gateway_pb2_grpc
from agentpool_rpc.status import from_rpc_error
from support.hosts import COUNTER, pool_config
from support.spine import Spine, running_spine


@pytest.fixture
async def spine() -> AsyncIterator[Spine]:
    config = pool_config(
        agent=COUNTER, storage="Redis", concurrent=1, per_minute=30, instances_per_host=2, max_instances=50
    )
    async with running_spine(config) as running:
        yield running


async def by_grpc(spine: Spine, project: str, body: object) -> AgentPoolError:
    """The error of one request over gRPC."""
    async with grpc.aio.insecure_channel(spine.gateways[0].grpc_address) as channel:
        stub: Any = gateway_pb2_grpc.AgentPoolGatewayStub(channel)
        request = gateway_pb2.InvokeRequest(
            tenant_id="acme", project_id=project, input=msgspec.json.encode(body)
        )
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Invoke(request, timeout=20)
    error = from_rpc_error(caught.value)
    assert error is not None
    assert caught.value.code().name == error.grpc_status
    return error


def problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The problem document, checked for what every one has."""
    assert response.headers["content-type"].startswith("application/problem+json")
    document: dict[str, Any] = response.json()
    assert (response.status_code, document["code"]) == (status, code), response.text
    assert document["remedy"]
    return document


async def test_an_empty_rate_bucket_says_when_to_come_back(spine: Spine) -> None:
    responses = [await spine.invoke("eager", "add") for _ in range(31)]
    assert [response.status_code for response in responses] == [200] * 30 + [429]
    problem(responses[-1], 429, "RateExceeded")
    assert 1 <= int(responses[-1].headers["retry-after"]) <= 60
    assert (await by_grpc(spine, "eager", "add")).code == "RateExceeded"
    # Its neighbour has a bucket of its own.
    assert (await spine.invoke("calm", "add")).status_code == 200


async def test_eviction_does_not_refill_the_bucket(spine: Spine) -> None:
    began = time.monotonic()
    for _ in range(30):
        await spine.answer("eager", "add")
    for other in ("a", "b", "c"):
        await spine.answer(other, "add")
    served = 0
    while (response := await spine.invoke("eager", "add")).status_code == 200:
        served += 1
    problem(response, 429, "RateExceeded")
    # What time has added, and not a bucket's worth.
    assert served <= 1 + (time.monotonic() - began) / 2


async def test_all_permits_taken(spine: Spine) -> None:
    slow = asyncio.create_task(spine.invoke("busy", {"sleep": 6}))
    await asyncio.sleep(0.5)
    problem(await spine.invoke("busy", "get"), 429, "ConcurrencyExceeded")
    assert (await by_grpc(spine, "busy", "get")).code == "ConcurrencyExceeded"
    assert (await slow).status_code == 200


async def test_a_pool_full_of_busy_instances(spine: Spine) -> None:
    slow = [asyncio.create_task(spine.invoke(f"busy-{number}", {"sleep": 7})) for number in range(2)]
    await asyncio.sleep(0.7)
    document = problem(await spine.invoke("third", "get"), 503, "PoolExhausted")
    assert document["retryable"]
    assert (await by_grpc(spine, "third", "get")).code == "PoolExhausted"
    assert {response.status_code for response in await asyncio.gather(*slow)} == {200}
    assert (await spine.invoke("third", "get")).status_code == 200


async def test_the_store_away_refuses_changes_and_serves_on_what_changes_nothing(spine: Spine) -> None:
    await spine.answer("steady", "add")
    spine.redis.freeze()
    try:
        problem(await spine.invoke("steady", "add"), 502, "OutcomeUnknown")
        await asyncio.sleep(2.5)
        answer = await spine.answer("steady", "get")
        assert (answer["output"], answer["stale"]) == (1, True)
        problem(await spine.invoke("steady", "get", consistency="strong"), 503, "ConsistencyUnavailable")
        assert (await by_grpc(spine, "steady", "add")).code == "StoreUnavailable"
    finally:
        spine.redis.thaw()
    async with asyncio.timeout(15):
        while (await spine.invoke("steady", "add")).status_code != 200:  # noqa: ASYNC110  # a poll of a server
            await asyncio.sleep(0.1)
    # The first change may have reached the store unheard; the second was never sent.
    assert (await spine.answer("steady", "get"))["output"] in (2, 3)


async def test_the_lifecycle_over_rest(spine: Spine) -> None:
    made = await spine.answer("life", "add")
    async with httpx.AsyncClient(base_url=spine.gateways[0].url, timeout=20) as client:
        path = f"/api/v1/pool/instances/{made['instance_id']}"
        paused = await client.post(f"{path}/pause")
        assert (paused.status_code, paused.json()["state"]) == (200, "PAUSED")
        problem(await client.post(f"{path}/pause"), 409, "IllegalTransition")
        problem(await spine.invoke("life", "get"), 409, "InstancePaused")
        resumed = await client.post(f"{path}/resume")
        assert (resumed.status_code, resumed.json()["state"]) == (200, "READY")
        problem(await client.post(f"{path}/resume"), 409, "IllegalTransition")
        assert (await spine.answer("life", "get"))["output"] == 1
        assert (await client.delete(path)).status_code in (200, 204)
        problem(await client.get(path), 404, "InstanceNotFound")
    assert (await spine.answer("life", "get"))["output"] == 0
