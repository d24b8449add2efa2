# SPDX-License-Identifier: Apache-2.0
"""Answers in parts: events, slow readers, callers that go away, and the end of the gateway."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc.aio
import httpx

from agentpool_core import errors
from agentpool_core.config import EffectivePool
from agentpool_proto.v1 import gateway_pb2, gateway_pb2_grpc, host_pb2, types_pb2
from support.callers import body
from support.fake_host import Context, FakeHost, chunk, done
from support.gateways import CallKeys, running_gateway
from support.waiting import eventually

Events = AsyncIterator[types_pb2.InvokeEvent]
SSE = {"accept": "text/event-stream"}
INVOKE = "/api/v1/pool/invoke"


def parse(text: str) -> list[tuple[str, Any]]:
    """Name and data of each event."""
    found = []
    for block in text.strip().split("\n\n"):
        lines = block.splitlines()
        name = next(line[7:] for line in lines if line.startswith("event: "))
        data = "\n".join(line[6:] for line in lines if line.startswith("data: "))
        found.append((name, json.loads(data)))
    return found


async def three_parts(host: FakeHost, request: host_pb2.HostInvokeRequest, context: Context) -> Events:
    """Two chunks, the second in several lines, then the answer."""
    yield host.accept(request)
    yield chunk(b'"one"')
    yield chunk(b'{"two":\n  2}')
    yield done(b"[1, 2]")


async def fail_late(host: FakeHost, request: host_pb2.HostInvokeRequest, context: Context) -> Events:
    """A chunk, then the agent fails."""
    yield host.accept(request)
    yield chunk(b'"one"')
    raise errors.AgentFailure("it broke")


async def test_events_come_in_order_and_end_with_done(
    tmp_path: Path, keys: CallKeys, pool: EffectivePool, start_host: Any
) -> None:
    host = await start_host()
    host.script = three_parts
    async with running_gateway(tmp_path, keys, [(pool, [host])]) as gateway:
        await gateway.sees(1)
        answer = await gateway.client().post(INVOKE, json=body(), headers=SSE)
        async with grpc.aio.insecure_channel(gateway.grpc_address) as channel:
            stub = gateway_pb2_grpc.AgentPoolGatewayStub(channel)
            message = gateway_pb2.InvokeRequest(tenant_id="t", project_id="p", input=b"1")
            kinds = [event.WhichOneof("event") async for event in stub.InvokeStream(message)]
    assert answer.headers["content-type"] == "text/event-stream"
    events = parse(answer.text)
    assert [name for name, _ in events] == ["accepted", "chunk", "chunk", "done"]
    assert [data for _, data in events[1:3]] == ["one", {"two": 2}]
    assert events[3][1]["output"] == [1, 2]
    assert kinds == ["accepted", "chunk", "chunk", "done"]


async def test_an_error_before_accepted_is_an_answer_and_after_it_an_event(
    tmp_path: Path, keys: CallKeys, pool: EffectivePool, start_host: Any
) -> None:
    host = await start_host()
    host.script = fail_late
    async with running_gateway(tmp_path, keys, [(pool, [host])]) as gateway:
        await gateway.sees(1)
        late = await gateway.client().post(INVOKE, json=body(), headers=SSE)
        host.refuse = errors.RateExceeded("too many", retry_after_seconds=1)
        early = await gateway.client().post(INVOKE, json=body(), headers=SSE)
    assert late.status_code == 200
    assert parse(late.text)[-1][0] == "error"
    assert parse(late.text)[-1][1]["code"] == "AgentFailed"
    assert (early.status_code, early.json()["code"]) == (429, "RateExceeded")


async def test_a_reader_that_does_not_read_stops_nobody_else(
    tmp_path: Path, keys: CallKeys, pool: EffectivePool, start_host: Any
) -> None:
    host = await start_host()
    sent = 0

    async def flood(host: FakeHost, request: host_pb2.HostInvokeRequest, context: Context) -> Events:
        nonlocal sent
        yield host.accept(request)
        if request.project_id == "slow":
            for _ in range(2000):
                yield chunk(b'"' + b"x" * 100_000 + b'"')
                sent += 1
        yield done(b"1")

    host.script = flood
    async with running_gateway(tmp_path, keys, [(pool, [host])]) as gateway:
        await gateway.sees(1)
        port = int(gateway.url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        text = json.dumps(body("slow")).encode()
        writer.write(
            b"POST /api/v1/pool/invoke HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\n"
            b"content-length: %d\r\n\r\n" % len(text) + text
        )
        await reader.readuntil(b"accepted")
        await asyncio.sleep(0.3)
        stuck = sent
        client = gateway.client()
        answers = [await client.post(INVOKE, json=body(f"p-{n}")) for n in range(50)]
        assert {answer.status_code for answer in answers} == {200}
        # Back-pressure reaches the host: what is under way is bounded, not all of the 200 MB.
        assert sent - stuck < 50 and sent < 500
        writer.close()


async def test_a_caller_that_goes_away_cancels_its_request(
    tmp_path: Path, keys: CallKeys, pool: EffectivePool, start_host: Any
) -> None:
    host = await start_host()
    cancelled = asyncio.Event()
    begun = asyncio.Event()

    async def wait(host: FakeHost, request: host_pb2.HostInvokeRequest, context: Context) -> Events:
        yield host.accept(request)
        begun.set()
        try:
            await asyncio.sleep(20)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    host.script = wait
    async with running_gateway(tmp_path, keys, [(pool, [host])]) as gateway:
        await gateway.sees(1)
        for headers in ({}, SSE):
            begun.clear()
            cancelled.clear()
            client = httpx.AsyncClient(base_url=gateway.url)
            call = asyncio.create_task(client.post(INVOKE, json=body(), headers=headers))
            await asyncio.wait_for(begun.wait(), 5)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
            await client.aclose()
            await asyncio.wait_for(cancelled.wait(), 5)
        assert "request_failed" not in gateway.log


async def test_with_a_delay_readiness_goes_first_and_requests_are_still_taken(
    tmp_path: Path, keys: CallKeys, pool: EffectivePool, start_host: Any
) -> None:
    host = await start_host()
    async with running_gateway(tmp_path, keys, [(pool, [host])], shutdown_delay_seconds=1.5) as gateway:
        await gateway.sees(1)
        client = gateway.client()
        assert (await client.get("/readyz")).status_code == 200
        gateway.process.terminate()

        async def not_ready() -> bool:
            return (await client.get("/readyz")).status_code == 503

        await eventually(not_ready)
        async with httpx.AsyncClient(base_url=gateway.url) as newcomer:
            assert (await newcomer.post(INVOKE, json=body())).status_code == 200
        assert await gateway.stop() == 0


async def test_on_sigterm_requests_in_flight_end_and_streams_are_told(
    tmp_path: Path, keys: CallKeys, pool: EffectivePool, start_host: Any
) -> None:
    host = await start_host()
    begun = asyncio.Semaphore(0)

    async def slow(host: FakeHost, request: host_pb2.HostInvokeRequest, context: Context) -> Events:
        yield host.accept(request)
        begun.release()
        await asyncio.sleep(0.5 if request.project_id == "short" else 30)
        yield done(b'"late"')

    host.script = slow
    async with running_gateway(tmp_path, keys, [(pool, [host])], shutdown_grace_seconds=1.0) as gateway:
        await gateway.sees(1)
        client = gateway.client()
        short = asyncio.create_task(client.post(INVOKE, json=body("short")))
        stream = asyncio.create_task(client.post(INVOKE, json=body("long"), headers=SSE))
        await begun.acquire()
        await begun.acquire()
        began = asyncio.get_running_loop().time()
        code = await gateway.stop()
        seconds = asyncio.get_running_loop().time() - began
        assert (await short).json()["output"] == "late"
        name, problem = parse((await stream).text)[-1]
    assert (name, problem["code"], problem["retryable"]) == ("error", "Unavailable", True)
    assert code == 0
    assert 0.9 < seconds < 4
