# SPDX-License-Identifier: Apache-2.0
"""The gRPC service for applications: the same gate and the same managers as REST. What is done to state as a
whole is in `state`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, aclosing, nullcontext
from typing import Any

import grpc.aio
import msgspec

from agentpool_core.errors import InvalidRequest, MalformedRequest, PayloadTooLarge
from agentpool_core.lifecycle import Tier
from agentpool_gateway.admission.audit import AuditLine
from agentpool_gateway.admission.gate import Entry, Gate
from agentpool_gateway.dispatch.call import Ended, InvokeCall, InvokeProgress, Part, ServedBy, Started
from agentpool_gateway.dispatch.listing import ListQuery
from agentpool_gateway.dispatch.overload import Overload
from agentpool_gateway.dispatch.retry import outcome_unknown
from agentpool_gateway.rest.handlers import REQUEST
from agentpool_gateway.rest.parsing import (
    parse_idempotency_key,
    parse_limit,
    parse_moved_tier,
    parse_name,
    parse_state,
    parse_strong,
    parse_tier,
)
from agentpool_gateway.settings import PoolVerb
from agentpool_proto.v1 import gateway_pb2, gateway_pb2_grpc, types_pb2
from agentpool_rpc.leases import LeaseReport
from agentpool_rpc.tracing import Span, Tracing

Context = grpc.aio.ServicerContext[Any, Any]
_OFF: AbstractContextManager[None] = nullcontext()
OfInstance = (
    gateway_pb2.InvokeRequest
    | gateway_pb2.CreateInstanceRequest
    | gateway_pb2.AcquireRequest
    | gateway_pb2.ImportInstanceRequest
)
"""What names an instance by tenant and project, and perhaps its tier."""
_raw = msgspec.json.Decoder(msgspec.Raw)


class GatewayService(gateway_pb2_grpc.AgentPoolGatewayServicer):
    """AgentPoolGateway of gateway.proto."""

    def __init__(self, gate: Gate, overload: Overload, tracing: Tracing | None = None) -> None:
        self._gate = gate
        self._overload = overload
        self._tracing = tracing

    async def Invoke(  # the name is the protocol's
        self, request: gateway_pb2.InvokeRequest, context: Context
    ) -> gateway_pb2.InvokeResponse:
        """One request, one answer."""
        arrived = asyncio.get_running_loop().time()
        answer: Ended | None = None
        line = line_of(context, "invoke", PoolVerb.INVOKE, privileged=False)
        with self._overload.ticket() as ticket, self._span("Invoke", context, arrived) as span, line:
            entry, call = await self._call(request, context, line, span, streamed=False)
            async with aclosing(entry.pool.invoke(call, arrived, ticket)) as events:
                async for event in events:
                    if type(event) is Ended:
                        answer = event
        if answer is None:
            raise outcome_unknown()
        return gateway_pb2.InvokeResponse(
            instance_id=answer.accepted.instance_id,
            tier=answer.accepted.tier,
            pod=answer.accepted.pod,
            output=answer.done.output,
            timing=answer.timing,
            stale=answer.done.stale,
            replayed=answer.done.replayed,
            served_by=ServedBy.of(answer.accepted),
        )

    async def InvokeStream(
        self, request: gateway_pb2.InvokeRequest, context: Context
    ) -> AsyncIterator[types_pb2.InvokeEvent]:
        """One request, its events as they come."""
        arrived = asyncio.get_running_loop().time()
        line = line_of(context, "invoke", PoolVerb.INVOKE, privileged=False)
        with self._overload.ticket() as ticket, self._span("InvokeStream", context, arrived) as span, line:
            entry, call = await self._call(request, context, line, span, streamed=True)
            async with aclosing(entry.pool.invoke(call, arrived, ticket)) as events:
                async for event in events:
                    yield _event(event)

    async def _call(
        self,
        request: gateway_pb2.InvokeRequest,
        context: Context,
        line: AuditLine,
        trace: Span | None,
        streamed: bool,
    ) -> tuple[Entry, InvokeCall]:
        metadata, pool = metadata_of(context), request.pool
        authorization = metadata.get("authorization")
        entry = await self._gate.enter(authorization, pool.namespace, pool.name, PoolVerb.INVOKE, line)
        limit = entry.pool.table.config.limits.input_bytes
        if len(request.input) > limit:
            raise PayloadTooLarge(f"The input has {len(request.input)} bytes; the pool takes {limit}.")
        _json(request.input)
        tier = await self._tier(entry, request, line)
        if trace is not None and self._tracing is not None:
            self._tracing.whose(trace, request.tenant_id, request.project_id)
        return entry, InvokeCall(
            tenant_id=request.tenant_id,
            project_id=request.project_id,
            input=request.input,
            timeout_seconds=entry.pool.timeout_seconds(context.time_remaining()),
            tier=tier,
            idempotency_key=parse_idempotency_key(metadata.get("idempotency-key")),
            strong=parse_strong(request.consistency),
            streamed=streamed,
            trace=trace,
        )

    def _span(self, method: str, context: Context, arrived: float) -> AbstractContextManager[Span | None]:
        if self._tracing is None:
            return _OFF
        about = {"rpc.system": "grpc", "rpc.method": method}
        return self._tracing.serving(REQUEST, metadata_of(context).get, arrived, about)

    async def CreateInstance(
        self, request: gateway_pb2.CreateInstanceRequest, context: Context
    ) -> types_pb2.Instance:
        """Make an instance resident."""
        with line_of(context, "create_instance", PoolVerb.INVOKE) as line:
            entry = await self._enter(request.pool, context, PoolVerb.INVOKE, line)
            tier = await self._tier(entry, request, line)
            created = await entry.pool.get_or_create_instance(request.tenant_id, request.project_id, tier)
            return line.about(created)

    async def GetInstance(
        self, request: gateway_pb2.PoolInstanceRequest, context: Context
    ) -> types_pb2.Instance:
        """One instance."""
        with line_of(context, "get_instance", PoolVerb.GET, privileged=False) as line:
            entry = await self._instance(request, context, PoolVerb.GET, line)
            return await entry.pool.get_instance(request.instance_id)

    async def ListInstances(
        self, request: gateway_pb2.ListInstancesRequest, context: Context
    ) -> gateway_pb2.ListInstancesResponse:
        """Instances in pages."""
        line = line_of(context, "list_instances", PoolVerb.GET, privileged=False)
        entry = await self._enter(request.pool, context, PoolVerb.GET, line)
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
        with line_of(context, "pause_instance", PoolVerb.PAUSE) as line:
            entry = await self._instance(request, context, PoolVerb.PAUSE, line)
            return line.about(await entry.pool.pause_instance(request.instance_id))

    async def ResumeInstance(
        self, request: gateway_pb2.PoolInstanceRequest, context: Context
    ) -> types_pb2.Instance:
        """Resume an instance."""
        with line_of(context, "resume_instance", PoolVerb.PAUSE) as line:
            entry = await self._instance(request, context, PoolVerb.PAUSE, line)
            return line.about(await entry.pool.resume_instance(request.instance_id))

    async def TerminateInstance(
        self, request: gateway_pb2.PoolInstanceRequest, context: Context
    ) -> types_pb2.Instance:
        """End an instance and erase its state."""
        with line_of(context, "terminate_instance", PoolVerb.TERMINATE) as line:
            entry = await self._instance(request, context, PoolVerb.TERMINATE, line)
            return line.about(await entry.pool.terminate_instance(request.instance_id))

    async def MoveInstance(
        self, request: gateway_pb2.MoveInstanceRequest, context: Context
    ) -> types_pb2.Instance:
        """Give an instance another tier."""
        with line_of(context, "move_instance", PoolVerb.PLACE) as line:
            line.names(tier=request.tier)
            entry = await self._instance(request, context, PoolVerb.PLACE, line)
            tier = parse_moved_tier(request.tier)
            return line.about(await entry.pool.move_instance(request.instance_id, tier))

    async def GetStats(
        self, request: gateway_pb2.StatsRequest, context: Context
    ) -> gateway_pb2.StatsResponse:
        """Statistics of the pool."""
        line = line_of(context, "get_stats", PoolVerb.GET, privileged=False)
        entry = await self._enter(request.pool, context, PoolVerb.GET, line)
        return gateway_pb2.StatsResponse(json=msgspec.json.encode(entry.pool.get_stats()))

    async def Acquire(self, request: gateway_pb2.AcquireRequest, context: Context) -> gateway_pb2.Lease:
        """Give a lease of an instance."""
        with line_of(context, "acquire_lease", PoolVerb.INVOKE) as line:
            entry = await self._enter(request.pool, context, PoolVerb.INVOKE, line)
            tier = await self._tier(entry, request, line)
            lease = await entry.pool.acquire(request.tenant_id, request.project_id, tier, request.confirm)
            line.names(instance=lease.instance_id)
            return lease

    async def Release(
        self, request: gateway_pb2.ReleaseRequest, context: Context
    ) -> gateway_pb2.ReleaseResponse:
        """Take the report of a lease."""
        line = line_of(context, "release_lease", PoolVerb.INVOKE, privileged=False)
        entry = await self._enter(request.pool, context, PoolVerb.INVOKE, line)
        claims = entry.pool.leasing.lease(request.lease_id)
        await self._gate.may_act_for(entry, claims.tenant_id)
        report = LeaseReport(request.requests, request.failures, request.held_seconds)
        return gateway_pb2.ReleaseResponse(counted=entry.pool.leasing.release(claims, report))

    async def _enter(
        self, pool: gateway_pb2.PoolRef, context: Context, verb: PoolVerb, line: AuditLine
    ) -> Entry:
        authorization = metadata_of(context).get("authorization")
        return await self._gate.enter(authorization, pool.namespace, pool.name, verb, line)

    async def _instance(
        self,
        request: gateway_pb2.PoolInstanceRequest | gateway_pb2.MoveInstanceRequest,
        context: Context,
        verb: PoolVerb,
        line: AuditLine,
    ) -> Entry:
        line.names(instance=request.instance_id)
        entry = await self._enter(request.pool, context, verb, line)
        if not request.instance_id:
            raise InvalidRequest("instance_id is empty.")
        known = entry.pool.table.instance(request.instance_id)
        if known is not None:
            line.names(tenant=known.tenant_id, project=known.project_id)
        await self._gate.may_touch(entry, request.instance_id)
        return entry

    async def _tier(
        self,
        entry: Entry,
        request: OfInstance,
        line: AuditLine,
    ) -> Tier | None:
        parse_name("tenant_id", request.tenant_id)
        parse_name("project_id", request.project_id)
        line.names(tenant=request.tenant_id, project=request.project_id, tier=request.tier)
        # To choose where something runs is privileged, also on the way of a request.
        line.privileged |= bool(request.tier)
        await self._gate.may_act_for(entry, request.tenant_id)
        wanted = parse_tier(request.tier)
        if wanted is not None:
            await self._gate.may_place(entry, request.tenant_id)
        return wanted


def line_of(context: Context, operation: str, verb: PoolVerb, *, privileged: bool = True) -> AuditLine:
    given = metadata_of(context).get("x-request-id", "")
    return AuditLine(given, operation, verb, privileged)


def metadata_of(context: Context) -> dict[str, str]:
    pairs = context.invocation_metadata() or ()
    return {str(key): value for key, value in pairs if isinstance(value, str)}


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
