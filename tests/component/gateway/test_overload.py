# SPDX-License-Identifier: Apache-2.0
"""A flooded gateway: what it takes is served, the rest is told so in full, and its own doors stay open."""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import httpx

from agentpool_core.config import EffectivePool
from agentpool_core.errors import CircuitOpen, Overloaded, PoolExhausted
from agentpool_proto.v1 import gateway_pb2, gateway_pb2_grpc, host_pb2, types_pb2
from agentpool_rpc.status import from_rpc_error
from support.builders import effective_pool
from support.callers import body
from support.fake_host import Context, FakeHost, done
from support.gateways import CallKeys, GatewayProcess, running_gateway
from support.waiting import eventually

INVOKE = "/api/v1/pool/invoke"
SECONDS = 3.0
CALLERS = 40
SETTINGS = {"max_pending": 24, "min_pending": 2}


async def slow(
    host: FakeHost, request: host_pb2.HostInvokeRequest, context: Context
) -> AsyncIterator[types_pb2.InvokeEvent]:
    """A host that takes its time to accept anything, as one that is overloaded does: more than any other one
    on a busy machine, which is what the gateway has to tell it by."""
    await asyncio.sleep(0.08)
    yield host.accept(request)
    yield done(request.input)


async def flood(one: Callable[[int], Awaitable[None]]) -> None:
    """Callers that ask again as soon as they are answered, for some seconds."""
    end = time.monotonic() + SECONDS

    async def caller(number: int) -> None:
        while time.monotonic() < end:
            await one(number)

    await asyncio.gather(*(caller(number) for number in range(CALLERS)))


async def settled(gateway: GatewayProcess, host: FakeHost) -> httpx.AsyncClient:
    """The gateway with every instance resident, and the host slow from now on."""
    await gateway.sees(1)
    client = gateway.client()
    for number in range(CALLERS):
        answer = await client.post(INVOKE, json=body(tenant=f"t-{number}"))
        assert answer.status_code == 200
    host.script = slow
    return client


def is_a_whole_refusal(answer: httpx.Response) -> None:
    """It has all that a client needs to do better."""
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (503, "Overloaded")
    assert int(answer.headers["retry-after"]) == math.ceil(problem["retry_after_seconds"])
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["instance"] == answer.headers["x-request-id"]


def gauge(text: str, name: str) -> float:
    found = re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
    assert found is not None, name
    return float(found[1])


async def test_a_flood_over_rest(
    tmp_path: Path, keys: CallKeys, pool: EffectivePool, start_host: Any
) -> None:
    host = await start_host()
    async with running_gateway(tmp_path, keys, [(pool, [host])], **SETTINGS) as gateway:
        client = await settled(gateway, host)
        seen: Counter[int] = Counter()
        watched: list[str] = []

        async def ask(number: int) -> None:
            answer = await client.post(INVOKE, json=body(tenant=f"t-{number}"))
            seen[answer.status_code] += 1
            if answer.status_code != 200:
                is_a_whole_refusal(answer)

        async def watch() -> None:
            while True:
                for path in ("/healthz", "/readyz", "/health", "/api/v1/pool/health", "/metrics"):
                    answer = await client.get(path)
                    assert answer.status_code == 200, path
                watched.append(answer.text)
                await asyncio.sleep(0.1)

        watching = asyncio.create_task(watch())
        await flood(ask)
        assert not watching.done()
        watching.cancel()
        assert seen.keys() == {200, 503}
        for text in watched:
            assert gauge(text, "agent_pool_gateway_pending") <= SETTINGS["max_pending"]
        assert (
            min(gauge(text, "agent_pool_gateway_pending_limit") for text in watched) < SETTINGS["max_pending"]
        )
        refusals = re.findall(r"^agent_pool_gateway_shed_total\{.*\} (\S+)$", watched[-1], re.MULTILINE)
        assert sum(map(float, refusals)) > 0

        await eventually(lambda: serves(client))
        assert gauge((await client.get("/metrics")).text, "agent_pool_gateway_pending") == 0
        assert "request_failed" not in gateway.log


async def test_a_flood_over_grpc(
    tmp_path: Path, keys: CallKeys, pool: EffectivePool, start_host: Any
) -> None:
    host = await start_host()
    async with (
        running_gateway(tmp_path, keys, [(pool, [host])], **SETTINGS) as gateway,
        grpc.aio.insecure_channel(gateway.grpc_address) as channel,
    ):
        await settled(gateway, host)
        stub = gateway_pb2_grpc.AgentPoolGatewayStub(channel)
        seen: Counter[str] = Counter()

        async def ask(number: int) -> None:
            request = gateway_pb2.InvokeRequest(tenant_id=f"t-{number}", project_id="project", input=b'"x"')
            try:
                if number % 2:
                    await stub.Invoke(request, timeout=20)
                else:
                    async for _ in stub.InvokeStream(request, timeout=20):
                        pass
                seen["served"] += 1
            except grpc.aio.AioRpcError as exc:
                error = from_rpc_error(exc)
                assert isinstance(error, Overloaded), exc
                assert exc.code() is grpc.StatusCode.UNAVAILABLE
                assert error.retry_after_seconds == 1.0
                seen["refused"] += 1

        await flood(ask)
        assert seen["served"] and seen["refused"]


async def test_a_refusal_looks_at_nothing(
    tmp_path: Path, keys: CallKeys, pool: EffectivePool, start_host: Any
) -> None:
    host = await start_host()
    async with running_gateway(tmp_path, keys, [(pool, [host])], max_pending=1) as gateway:
        client = await settled(gateway, host)

        async def never(
            fake: FakeHost, request: host_pb2.HostInvokeRequest, context: Context
        ) -> AsyncIterator[types_pb2.InvokeEvent]:
            await asyncio.sleep(0.08)
            yield fake.accept(request)
            yield done(request.input)

        host.script = never
        first = asyncio.create_task(client.post(INVOKE, json=body(tenant="t-0")))
        await asyncio.sleep(0.05)
        refused = await client.post(INVOKE, content=b"not even JSON", headers={"x-request-id": "mine"})
        assert (refused.status_code, refused.json()["code"]) == (503, "Overloaded")
        assert refused.json()["instance"] == refused.headers["x-request-id"] == "mine"
        assert (await first).status_code == 200


async def test_an_open_breaker_costs_no_hop(
    tmp_path: Path, keys: CallKeys, pool: EffectivePool, start_host: Any
) -> None:
    host = await start_host()
    async with running_gateway(tmp_path, keys, [(pool, [host])]) as gateway:
        await gateway.sees(1)
        client = gateway.client()
        instance = (await client.post(INVOKE, json=body())).json()["instance_id"]
        one = f"/api/v1/pool/instances/{instance}"
        assert (await client.get(one)).json()["breaker"]["state"] == "CLOSED"

        def tell(seconds: float) -> None:
            opened = types_pb2.Breaker(state="OPEN", consecutive_failures=5, open_until=time.time() + seconds)
            host.instances[instance].breaker.CopyFrom(opened)
            host.report(host_pb2.WatchDelta(changed=[host.instances[instance]]))

        tell(20)

        async def shown() -> bool:
            return bool((await client.get(one)).json()["breaker"]["state"] == "OPEN")

        await eventually(shown)
        before = len(host.invoked)
        refused = await client.post(INVOKE, json=body())
        assert (refused.status_code, refused.json()["code"]) == (503, CircuitOpen.code)
        assert 15 < int(refused.headers["retry-after"]) <= 20
        assert len(host.invoked) == before
        keyed = await client.post(INVOKE, json=body(), headers={"idempotency-key": "k"})
        assert (keyed.status_code, len(host.invoked)) == (200, before + 1), "its answer may be kept"
        stats = (await client.get("/api/v1/pool/stats")).json()
        assert stats["circuit_breakers"] == {"CLOSED": 0, "OPEN": 1, "HALF_OPEN": 0}
        assert (
            'agent_pool_circuit_breakers{namespace="default",pool="support",state="OPEN"} 1.0'
            in (await client.get("/metrics")).text
        )
        tell(-1)

        await eventually(lambda: serves(client))


async def serves(client: httpx.AsyncClient) -> bool:
    """Whether a request is answered."""
    return (await client.post(INVOKE, json=body())).status_code == 200


async def is_counted(client: httpx.AsyncClient) -> None:
    """Statistics and metrics have the open breaker."""
    stats = (await client.get("/api/v1/pool/stats")).json()
    assert stats["circuit_breakers"] == {"CLOSED": 0, "OPEN": 1, "HALF_OPEN": 0}
    text = (await client.get("/metrics")).text
    assert 'agent_pool_circuit_breakers{namespace="default",pool="support",state="OPEN"} 1.0' in text


async def test_a_full_pool_is_waited_for_and_is_no_broken_circuit(
    tmp_path: Path, keys: CallKeys, start_host: Any
) -> None:
    pool = effective_pool({"limits": {"queueSeconds": 0.5, "capacityQueueLength": 1}})
    host = await start_host(of=pool)
    async with running_gateway(tmp_path, keys, [(pool, [host])]) as gateway:
        await gateway.sees(1)
        client = gateway.client()
        host.refuse = PoolExhausted("full", retry_after_seconds=1.0)
        began = time.monotonic()
        answers = await asyncio.gather(*(client.post(INVOKE, json=body(f"p{n}")) for n in range(2)))
        assert {answer.json()["code"] for answer in answers} == {"PoolExhausted"}
        assert all("retry-after" in answer.headers for answer in answers)
        assert 0.4 < time.monotonic() - began < 5
        waiting = asyncio.create_task(client.post(INVOKE, json=body()))
        await asyncio.sleep(0.08)
        host.refuse = None
        assert (await waiting).status_code == 200, "room came in time"
