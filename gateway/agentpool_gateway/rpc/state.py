# SPDX-License-Identifier: Apache-2.0
"""The part of the gRPC service for state as a whole: archives out and in, and the end of a tenant."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

from agentpool_core.archive import archive_bytes
from agentpool_core.errors import MalformedRequest, PayloadTooLarge
from agentpool_core.shares import Shares
from agentpool_gateway.admission.gate import Entry, Gate
from agentpool_gateway.dispatch.in_flight import take_place
from agentpool_gateway.dispatch.overload import Overload
from agentpool_gateway.rest.handlers import ARCHIVE_SECONDS, FORGET_SECONDS, MAX_FORGET_SECONDS
from agentpool_gateway.rest.parsing import parse_name
from agentpool_gateway.rpc.service import Context, GatewayService, line_of
from agentpool_gateway.settings import PoolVerb
from agentpool_proto.v1 import gateway_pb2, types_pb2
from agentpool_proto.v1.host_pb2 import ImportTarget
from agentpool_rpc.tracing import Tracing

Parts = AsyncIterator[gateway_pb2.ImportInstanceRequest]


class StateService(GatewayService):
    """AgentPoolGateway of gateway.proto, complete.

    Args:
        imports: bounds the archives that are held in memory at one time.
    """

    def __init__(
        self, gate: Gate, imports: Shares, overload: Overload, tracing: Tracing | None = None
    ) -> None:
        super().__init__(gate, overload, tracing)
        self._imports = imports

    async def ExportInstance(  # the name is the protocol's
        self, request: gateway_pb2.PoolInstanceRequest, context: Context
    ) -> AsyncIterator[gateway_pb2.ExportPart]:
        """The archive in parts; one that breaks off ends with an error."""
        with line_of(context, "export_instance", PoolVerb.EXPORT) as line:
            entry = await self._instance(request, context, PoolVerb.EXPORT, line)
            async with (
                asyncio.timeout(ARCHIVE_SECONDS),
                aclosing(entry.pool.export_instance(request.instance_id)) as parts,
            ):
                async for part in parts:
                    yield gateway_pb2.ExportPart(data=part)

    async def ImportInstance(self, request_iterator: Parts, context: Context) -> types_pb2.Instance:
        """An instance from an archive."""
        with line_of(context, "import_instance", PoolVerb.IMPORT) as line:
            first = await anext(request_iterator, None)
            if first is None:
                raise MalformedRequest("There is no message that says where the archive goes.")
            entry = await self._enter(first.pool, context, PoolVerb.IMPORT, line)
            tier = await self._tier(entry, first, line)
            target = ImportTarget(
                tenant_id=first.tenant_id,
                project_id=first.project_id,
                tier=tier or "",
                replace=first.replace,
            )
            take_place(self._imports)
            try:
                archive = await _collected(first.data, request_iterator, entry)
                return line.about(await entry.pool.import_instance(target, archive))
            finally:
                self._imports.give()

    async def ForgetTenant(
        self, request: gateway_pb2.ForgetTenantRequest, context: Context
    ) -> gateway_pb2.ForgetTenantResponse:
        """Erase everything of a tenant."""
        with line_of(context, "forget_tenant", PoolVerb.FORGET) as line:
            entry = await self._enter(request.pool, context, PoolVerb.FORGET, line)
            tenant_id = parse_name("tenant_id", request.tenant_id)
            line.names(tenant=tenant_id)
            await self._gate.may_act_for(entry, tenant_id)
            left = context.time_remaining()
            seconds = FORGET_SECONDS if left is None else min(left, MAX_FORGET_SECONDS)
            found = await entry.pool.forget_tenant(tenant_id, seconds)
            declared = len(found.declared)
            line.counted(erased=found.erased, remaining=found.remaining, declared=declared)
        return gateway_pb2.ForgetTenantResponse(
            complete=not found.remaining and not declared,
            erased=found.erased,
            remaining=found.remaining,
            busy=found.busy,
            declared=declared,
        )


async def _collected(first: bytes, following: Parts, entry: Entry) -> bytes:
    """The whole archive; PayloadTooLarge over the pool's limit, without reading on."""
    limit = archive_bytes(entry.pool.table.config.limits.state_bytes)
    parts, size = [first], len(first)
    try:
        async with asyncio.timeout(ARCHIVE_SECONDS):
            while size <= limit and (message := await anext(following, None)) is not None:
                parts.append(message.data)
                size += len(message.data)
    except TimeoutError as exc:
        raise MalformedRequest("The archive did not arrive in time.") from exc
    if size > limit:
        raise PayloadTooLarge(
            f"The archive has more than {limit} bytes.", remedy="Raise limits.stateBytes of the pool."
        )
    return b"".join(parts)
