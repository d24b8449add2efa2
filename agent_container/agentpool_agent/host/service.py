# SPDX-License-Identifier: Apache-2.0
"""The gRPC face of the host: check the token, call, translate. Nothing is decided here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import grpc.aio
import pydantic
import structlog

from agentpool_agent.host.activation import Activations, Wanted
from agentpool_agent.host.archive import Archives, chunks
from agentpool_agent.host.flags import HostFlags
from agentpool_agent.host.invoke import Call, Requests, check_identity, tier_of
from agentpool_agent.host.leased import check_leased
from agentpool_agent.host.moving import Change, Moves
from agentpool_agent.host.operations import Operations
from agentpool_agent.host.state import Host
from agentpool_agent.host.table import RESIDENT
from agentpool_agent.host.upkeep import Upkeep
from agentpool_agent.host.views import entry_view, record_view
from agentpool_agent.host.watch import WatchHub
from agentpool_agent.store import KeptFlags
from agentpool_core.config import EffectivePool
from agentpool_core.errors import DeadlineExceeded, InstanceNotFound, InvalidRequest
from agentpool_core.lifecycle import State
from agentpool_proto.v1 import host_pb2, host_pb2_grpc
from agentpool_proto.v1.types_pb2 import Instance, InvokeEvent
from agentpool_rpc.acceptance import answer_of
from agentpool_rpc.tokens import CallClaims, TokenVerifier, Verb

log = structlog.get_logger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]
T = TypeVar("T")

OPERATION_SECONDS = 60.0
"""Longest unary call; the caller's own deadline can be shorter."""
MAX_PAGE = 1000


class AgentHostService(host_pb2_grpc.AgentHostServicer):
    """All calls of `AgentHost`."""

    def __init__(
        self,
        host: Host,
        verifier: TokenVerifier,
        requests: Requests,
        activations: Activations,
        operations: Operations,
        moves: Moves,
        archives: Archives,
        upkeep: Upkeep,
        flags: HostFlags,
        hub: WatchHub,
        configure: Callable[[EffectivePool], Awaitable[int]],
        changed: Callable[[], None],
    ) -> None:
        self._host = host
        self._verifier = verifier
        self._requests = requests
        self._activations = activations
        self._operations = operations
        self._moves = moves
        self._archives = archives
        self._upkeep = upkeep
        self._flags = flags
        self._hub = hub
        self._configure = configure
        self._changed = changed
        self._audience = str(host.incarnation)

    def _claims(self, context: Context, verb: Verb, instance: Callable[[], str] | None = None) -> CallClaims:
        authorization: str | None = None
        for key, value in context.invocation_metadata() or ():
            if key == "authorization":
                authorization = str(value)
        # A watcher learns the incarnation from the first event; the pod's UID is what it knows before.
        audience = self._host.incarnation.pod_uid if verb is Verb.WATCH else self._audience
        claims = self._verifier.verify(authorization, audience, verb, instance)
        if claims.ended:
            self._upkeep.reap(claims.ended)
        return claims

    async def Invoke(
        self, request: host_pb2.HostInvokeRequest, context: Context
    ) -> AsyncIterator[InvokeEvent]:
        """See host.proto."""
        async for event in self._requests.serve(self._call(request, context)):
            yield event

    async def InvokeUnary(
        self, request: host_pb2.HostInvokeRequest, context: Context
    ) -> host_pb2.HostInvokeResponse:
        """See host.proto."""
        return await answer_of(self._requests.serve(self._call(request, context)), context)

    def _call(self, request: host_pb2.HostInvokeRequest, context: Context) -> Call:
        claims = self._claims(
            context, Verb.INVOKE, lambda: self._host.key(request.tenant_id, request.project_id).instance_id
        )
        if claims.instance:
            check_leased(request)
            self._flags.check_leased(request.tenant_id, request.project_id)
        call = self._requests.call(request, claims.ended, context.time_remaining())
        if self._requests.tracing is not None:
            self._requests.trace(self._requests.tracing, call, context.invocation_metadata() or ())
        # A cancelled call does not close the generators of its events at once.
        context.add_done_callback(call.abandon)  # type: ignore[arg-type]  # a function will do
        return call

    async def Activate(self, request: host_pb2.ActivateRequest, context: Context) -> Instance:
        """See host.proto."""
        claims = self._claims(context, Verb.ACTIVATE)
        check_identity(request.tenant_id, request.project_id)
        self._host.admit()
        key = self._host.key(request.tenant_id, request.project_id)
        resident = self._host.residents.get(key.instance_id)
        if resident is None:
            wanted = Wanted(key, tier_of(request.tier), claims.ended, declared_uid=request.declared_uid)
            resident = await _bounded(self._activations.activate(wanted))
        return entry_view(self._host, resident.entry)

    async def Pause(self, request: host_pb2.InstanceRequest, context: Context) -> Instance:
        """See host.proto."""
        claims = self._claims(context, Verb.PAUSE)
        view = await _bounded(self._operations.pause(request.instance_id, claims.ended))
        _audit(claims, "pause", view)
        return view

    async def Resume(self, request: host_pb2.InstanceRequest, context: Context) -> Instance:
        """See host.proto."""
        claims = self._claims(context, Verb.RESUME)
        self._host.admit()
        view = await _bounded(self._operations.resume(request.instance_id, claims.ended))
        _audit(claims, "resume", view)
        return view

    async def Terminate(self, request: host_pb2.InstanceRequest, context: Context) -> Instance:
        """See host.proto."""
        claims = self._claims(context, Verb.TERMINATE)
        view = await _bounded(self._operations.terminate(request.instance_id, claims.ended))
        _audit(claims, "terminate", view)
        return view

    async def Move(self, request: host_pb2.MoveRequest, context: Context) -> Instance:
        """See host.proto."""
        claims = self._claims(context, Verb.MOVE)
        pinned = request.pinned if request.HasField("pinned") else None
        change = Change(tier_of(request.tier), request.declared_uid, pinned, request.elsewhere)
        view = await _bounded(self._moves.move(request.instance_id, change, claims.ended))
        _audit(claims, "move", view)
        return view

    async def Export(
        self, request: host_pb2.InstanceRequest, context: Context
    ) -> AsyncIterator[host_pb2.ArchiveChunk]:
        """See host.proto."""
        claims = self._claims(context, Verb.EXPORT)
        archive = await _bounded(self._archives.export(request.instance_id, claims.ended))
        for chunk in chunks(archive):
            yield chunk

    async def Import(
        self, request_iterator: AsyncIterator[host_pb2.ImportRequest], context: Context
    ) -> Instance:
        """See host.proto."""
        claims = self._claims(context, Verb.IMPORT)
        view = await _bounded(self._archives.plant(request_iterator, claims.ended))
        _audit(claims, "import", view)
        return view

    async def Retire(self, request: host_pb2.RetireRequest, context: Context) -> host_pb2.RetireResponse:
        """See host.proto."""
        self._claims(context, Verb.RETIRE)
        self._operations.retire()
        self._changed()
        return host_pb2.RetireResponse(retired=True)

    async def Configure(
        self, request: host_pb2.ConfigureRequest, context: Context
    ) -> host_pb2.ConfigureResponse:
        """See host.proto."""
        self._claims(context, Verb.CONFIGURE)
        try:
            config = EffectivePool.model_validate_json(request.config)
        except pydantic.ValidationError as exc:
            first = exc.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise InvalidRequest(f"config.{where}: {first['msg']}") from exc
        if request.generation:
            config = config.model_copy(update={"generation": request.generation})
        return host_pb2.ConfigureResponse(generation=await _bounded(self._configure(config)))

    async def SetFlags(
        self, request: host_pb2.SetFlagsRequest, context: Context
    ) -> host_pb2.SetFlagsResponse:
        """See host.proto."""
        claims = self._claims(context, Verb.FLAGS)
        base = KeptFlags(request.base.version, request.base.document)
        kept, done = await _bounded(self._flags.replace(base, request.document))
        log.info("flags_set", by=claims.issuer, version=kept.version, done=done)
        flags = host_pb2.FeatureFlags(version=kept.version, document=kept.document)
        return host_pb2.SetFlagsResponse(flags=flags, done=done)

    async def Watch(
        self, request: host_pb2.WatchRequest, context: Context
    ) -> AsyncIterator[host_pb2.WatchEvent]:
        """See host.proto."""
        self._claims(context, Verb.WATCH)
        async for event in self._hub.events():
            yield event

    async def List(self, request: host_pb2.ListRequest, context: Context) -> host_pb2.ListResponse:
        """See host.proto."""
        self._claims(context, Verb.GET)
        _, store = self._host.configured()
        page = await _bounded(store.list(request.cursor, min(request.limit or 100, MAX_PAGE)))
        found = []
        for record in page.records:
            entry = self._host.table.get(record.key.instance_id)
            mine = entry is not None and entry.state in RESIDENT | {State.ERROR}
            found.append(entry_view(self._host, entry) if entry and mine else record_view(self._host, record))
        return host_pb2.ListResponse(instances=found, cursor=page.cursor)

    async def Get(self, request: host_pb2.InstanceRequest, context: Context) -> Instance:
        """See host.proto."""
        self._claims(context, Verb.GET)
        _, store = self._host.configured()
        entry = self._host.table.get(request.instance_id)
        if entry is not None and entry.state in RESIDENT:
            return entry_view(self._host, entry)
        record = await _bounded(store.get(request.instance_id))
        if record is None:
            raise InstanceNotFound(f"No instance {request.instance_id[:64]} in this pool.")
        if (
            entry is not None
            and entry.state is State.ERROR
            and record.owner in (None, self._host.incarnation)
        ):
            return entry_view(self._host, entry)
        return record_view(self._host, record)


async def _bounded(awaited: Awaitable[T]) -> T:
    try:
        async with asyncio.timeout(OPERATION_SECONDS):
            return await awaited
    except TimeoutError:
        raise DeadlineExceeded(f"The operation did not end within {OPERATION_SECONDS:g} s.") from None


def _audit(claims: CallClaims, operation: str, view: Instance) -> None:
    log.info("instance_operated", operation=operation, by=claims.issuer, instance=view.id, state=view.state)
