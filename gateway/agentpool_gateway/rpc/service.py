# SPDX-License-Identifier: Apache-2.0
"""The gRPC service for applications: the same gate and the same managers as REST."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc.aio
import msgspec

from agentpool_core.errors import AgentPoolError, InvalidRequest, MalformedRequest, PayloadTooLarge
from agentpool_core.names import MAX_NAME_CHARS
from agentpool_gateway.admission.gate import Entry, Gate
from agentpool_gateway.dispatch.call import Ended, InvokeCall, InvokeProgress, Part, Started
from agentpool_gateway.dispatch.listing import ListQuery
from agentpool_gateway.rest.schemas import (
    parse_idempotency_key,
    parse_limit,
    parse_state,
    parse_strong,
    parse_tier,
)
from agentpool_gateway.settings import PoolVerb
from agentpool_proto.v1 import gateway_pb2, gateway_pb2_grpc, types_pb2

Context = grpc.aio.ServicerContext[Any, Any]
_raw = msgspec.json.Decoder(msgspec.Raw)


class GatewayService(gateway_pb2_grpc.AgentPoolGatewayServicer):
    """AgentPoolGateway of gateway.proto."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    async def Invoke(  # the name is the protocol's
        self, request: gateway_pb2.InvokeRequest, context: Context
    ) -> gateway_pb2.InvokeResponse:
        """One request, one answer."""
        arrived = asyncio.get_running_loop().time()
        entry, call = await self._call(request, context)
        answer: Ended | None = None
        async with aclosing(entry.pool.invoke(call, arrived)) as events:
            async for event in events:
                if type(event) is Ended:
                    answer = event
        if answer is None:
            raise AgentPoolError("The request ended without an answer.")
        return gateway_pb2.InvokeResponse(
            instance_id=answer.accepted.instance_id,
            tier=answer.accepted.tier,
            pod=answer.accepted.pod,
            output=answer.done.output,
            timing=answer.timing,
            stale=answer.done.stale,
            replayed=answer.done.replayed,
        )

    async def InvokeStream(
        self, request: gateway_pb2.InvokeRequest, context: Context
    ) -> AsyncIterator[types_pb2.InvokeEvent]:
        """One request, its events as they come."""
        arrived = asyncio.get_running_loop().time()
        entry, call = await self._call(request, context)
        async with aclosing(entry.pool.invoke(call, arrived)) as events:
            async for event in events:
                yield _event(event)

    async def _call(self, request: gateway_pb2.InvokeRequest, context: Context) -> tuple[Entry, InvokeCall]:
        metadata = _metadata(context)
        entry = await self._enter(request.pool, metadata, PoolVerb.INVOKE)
        limit = entry.pool.table.config.limits.input_bytes
        if len(request.input) > limit:
            raise PayloadTooLarge(f"The input has {len(request.input)} bytes; the pool takes {limit}.")
        _json(request.input)
        tier = await self._tier(entry, request.tenant_id, request.project_id, request.tier)
        return entry, InvokeCall(
            tenant_id=request.tenant_id,
            project_id=request.project_id,
            input=request.input,
            timeout_seconds=entry.pool.timeout_seconds(context.time_remaining()),
            tier=tier,
            idempotency_key=parse_idempotency_key(metadata.get("idempotency-key")),
            strong=parse_strong(request.consistency),
        )

    async def CreateInstance(
        self, request: gateway_pb2.CreateInstanceRequest, context: Context
    ) -> types_pb2.Instance:
        """Make an instance resident."""
        entry = await self._enter(request.pool, _metadata(context), PoolVerb.INVOKE)
        tier = await self._tier(entry, request.tenant_id, request.project_id, request.tier)
        return await entry.pool.get_or_create_instance(request.tenant_id, request.project_id, tier)

    async def GetInstance(
        self, request: gateway_pb2.PoolInstanceRequest, context: Context
    ) -> types_pb2.Instance:
        """One instance."""
        entry = await self._instance(request, context, PoolVerb.GET)
        return await entry.pool.get_instance(request.instance_id)

    async def ListInstances(
        self, request: gateway_pb2.ListInstancesRequest, context: Context
    ) -> gateway_pb2.ListInstancesResponse:
        """Instances in pages."""
        entry = await self._enter(request.pool, _metadata(context), PoolVerb.GET)
        query = ListQuery(
            tenant_id=request.tenant_id,
            project_id=request.project_id,
            tier=parse_tier(request.tier),
            state=parse_state(request.state),
            cursor=request.cursor,
            limit=parse_limit(str(request.limit or 100)),
            visible=entry.scope.visible,
        )
        await self._gate.may_list(entry, query.tenant_id)
        page = await entry.pool.list_instances(query)
        return gateway_pb2.ListInstancesResponse(instances=page.instances, cursor=page.cursor)

    async def PauseInstance(
        self, request: gateway_pb2.PoolInstanceRequest, context: Context
    ) -> types_pb2.Instance:
        """Pause an instance."""
        entry = await self._instance(request, context, PoolVerb.PAUSE)
        return await entry.pool.pause_instance(request.instance_id)

    async def ResumeInstance(
        self, request: gateway_pb2.PoolInstanceRequest, context: Context
    ) -> types_pb2.Instance:
        """Resume an instance."""
        entry = await self._instance(request, context, PoolVerb.PAUSE)
        return await entry.pool.resume_instance(request.instance_id)

    async def TerminateInstance(
        self, request: gateway_pb2.PoolInstanceRequest, context: Context
    ) -> types_pb2.Instance:
        """End an instance and erase its state."""
        entry = await self._instance(request, context, PoolVerb.TERMINATE)
        return await entry.pool.terminate_instance(request.instance_id)

    async def GetStats(
        self, request: gateway_pb2.StatsRequest, context: Context
    ) -> gateway_pb2.StatsResponse:
        """Statistics of the pool."""
        entry = await self._enter(request.pool, _metadata(context), PoolVerb.GET)
        return gateway_pb2.StatsResponse(json=msgspec.json.encode(entry.pool.get_stats()))

    async def _enter(self, pool: gateway_pb2.PoolRef, metadata: dict[str, str], verb: PoolVerb) -> Entry:
        return await self._gate.enter(metadata.get("authorization"), pool.namespace, pool.name, verb)

    async def _instance(
        self, request: gateway_pb2.PoolInstanceRequest, context: Context, verb: PoolVerb
    ) -> Entry:
        entry = await self._enter(request.pool, _metadata(context), verb)
        if not request.instance_id:
            raise InvalidRequest("instance_id is empty.")
        await self._gate.may_touch(entry, request.instance_id)
        return entry

    async def _tier(self, entry: Entry, tenant_id: str, project_id: str, tier: str) -> Any:
        _name("tenant_id", tenant_id)
        _name("project_id", project_id)
        await self._gate.may_act_for(entry, tenant_id)
        wanted = parse_tier(tier)
        if wanted is not None:
            await self._gate.may_place(entry, tenant_id)
        return wanted


def _metadata(context: Context) -> dict[str, str]:
    pairs = context.invocation_metadata() or ()
    return {str(key): value for key, value in pairs if isinstance(value, str)}


def _name(field: str, value: str) -> None:
    if not 0 < len(value) <= MAX_NAME_CHARS or any(char < " " or char == "\x7f" for char in value):
        raise InvalidRequest(
            f"{field} has to have 1 to {MAX_NAME_CHARS} characters, none of them control characters."
        )


def _json(text: bytes) -> None:
    try:
        if not text.isascii():
            text.decode()
        _raw.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise MalformedRequest("input is not valid JSON.", remedy="Send one JSON value as input.") from exc


def _event(event: InvokeProgress) -> types_pb2.InvokeEvent:
    if isinstance(event, Started):
        return types_pb2.InvokeEvent(accepted=event.accepted)
    if isinstance(event, Part):
        return types_pb2.InvokeEvent(chunk=types_pb2.ChunkEvent(data=event.data))
    return types_pb2.InvokeEvent(done=event.done)
