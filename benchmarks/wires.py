# SPDX-License-Identifier: Apache-2.0
"""How a driver sends one request and understands its end, by REST or gRPC."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import grpc
import grpc.aio
import msgspec

from agentpool_proto.v1.gateway_pb2 import InvokeRequest
from agentpool_proto.v1.gateway_pb2_grpc import AgentPoolGatewayStub
from agentpool_rpc.status import from_rpc_error
from benchmarks.plans import Kind, Plan, Protocol

REQUEST_SECONDS = 30.0
CHANNELS = 4
"""Of one driver: a single HTTP/2 connection is a bottleneck of its own."""
CHUNKS_BEFORE_LEAVING = 2
REFUSALS = frozenset({429, 503})
DETAIL_CHARACTERS = 80
"""Of what gRPC says about an end that is none of ours."""


@dataclass(frozen=True, slots=True)
class End:
    """How a request ended."""

    kind: Kind
    code: str = ""
    says_when: bool = False


class Problem(msgspec.Struct):
    """Of a problem document, the code."""

    code: str = ""


Send = Callable[[tuple[str, str], bool], Awaitable[End]]
"""Ask one instance, by tenant and project; whether to leave the stream midway."""


@asynccontextmanager
async def open_wire(plan: Plan) -> AsyncIterator[Send]:
    """Connections of a driver for as long as the block lasts."""
    if plan.protocol is Protocol.REST:
        timeout = aiohttp.ClientTimeout(total=REQUEST_SECONDS)
        connector = aiohttp.TCPConnector(limit=plan.bound)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            yield _Rest(session, plan)
        return
    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.insecure_channel(plan.address, options=options) for _ in range(CHANNELS)]
    try:
        yield _Grpc([AgentPoolGatewayStub(channel) for channel in channels], plan)
    finally:
        for channel in channels:
            await channel.close()


class _Rest:
    def __init__(self, session: aiohttp.ClientSession, plan: Plan) -> None:
        self._session = session
        self._stream = plan.stream
        self._url = f"{plan.address}{plan.path}/invoke"
        self._headers = {"content-type": "application/json"}
        if plan.stream:
            self._headers["accept"] = "text/event-stream"
        self._bodies = {
            who: b'{"tenant_id":%s,"project_id":%s,"input":%s}'
            % (json.dumps(who[0]).encode(), json.dumps(who[1]).encode(), plan.body.encode())
            for who in plan.projects
        }

    async def __call__(self, who: tuple[str, str], cancel: bool) -> End:
        try:
            async with self._session.post(self._url, data=self._bodies[who], headers=self._headers) as answer:
                if answer.status == 200 and self._stream:
                    return await self._events(answer, cancel)
                text = await answer.read()
                if answer.status == 200:
                    return End(Kind.ANSWERED)
                kind = Kind.REFUSED if answer.status in REFUSALS else Kind.FAILED
                code = msgspec.json.decode(text, type=Problem).code
                return End(kind, f"{answer.status} {code}", "retry-after" in answer.headers)
        except (aiohttp.ClientError, TimeoutError, msgspec.DecodeError) as exc:
            return End(Kind.FAILED, type(exc).__name__)

    async def _events(self, answer: aiohttp.ClientResponse, cancel: bool) -> End:
        seen = 0
        async for line in answer.content:
            if line.startswith(b"event: done"):
                await answer.read()
                return End(Kind.ANSWERED)
            if line.startswith(b"event: error"):
                return End(Kind.FAILED, "error after it began")
            seen += line.startswith(b"event: chunk")
            if cancel and seen == CHUNKS_BEFORE_LEAVING:
                answer.close()
                return End(Kind.CANCELLED)
        return End(Kind.FAILED, "no end")


class _Grpc:
    def __init__(self, stubs: list[Any], plan: Plan) -> None:
        self._stubs = itertools.cycle(stubs)
        self._stream = plan.stream
        self._requests = {
            who: InvokeRequest(tenant_id=who[0], project_id=who[1], input=plan.body.encode())
            for who in plan.projects
        }

    async def __call__(self, who: tuple[str, str], cancel: bool) -> End:
        stub = next(self._stubs)
        try:
            if self._stream:
                return await self._events(
                    stub.InvokeStream(self._requests[who], timeout=REQUEST_SECONDS), cancel
                )
            await stub.Invoke(self._requests[who], timeout=REQUEST_SECONDS)
        except grpc.aio.AioRpcError as exc:
            return _end_of(exc)
        return End(Kind.ANSWERED)

    async def _events(self, call: Any, cancel: bool) -> End:
        seen = 0
        async for event in call:
            if event.HasField("done"):
                return End(Kind.ANSWERED)
            seen += event.HasField("chunk")
            if cancel and seen == CHUNKS_BEFORE_LEAVING:
                call.cancel()
                return End(Kind.CANCELLED)
        return End(Kind.FAILED, "no end")


def _end_of(exc: grpc.aio.AioRpcError) -> End:
    status, error = exc.code().name, from_rpc_error(exc)
    if error is None:
        return End(Kind.FAILED, f"{status} {exc.details() or ''}"[:DETAIL_CHARACTERS].rstrip())
    kind = Kind.REFUSED if error.http_status in REFUSALS else Kind.FAILED
    return End(kind, f"{status} {error.code}", error.retry_after_seconds is not None)
