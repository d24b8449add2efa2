# SPDX-License-Identifier: Apache-2.0
"""A host without agents: the real protocol on a real port, and answers that a test chooses."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, MutableMapping
from typing import Any

import grpc
import grpc.aio

from agentpool_core.config import EffectivePool
from agentpool_core.errors import AgentPoolError, InstanceNotFound, NotOwner
from agentpool_core.names import Incarnation, InstanceKey
from agentpool_proto.v1 import host_pb2, host_pb2_grpc, types_pb2
from agentpool_rpc.acceptance import answer_of
from agentpool_rpc.channels import make_server
from agentpool_rpc.status import ErrorInterceptor
from agentpool_rpc.tokens import CallClaims, TokenVerifier, Verb

Context = grpc.aio.ServicerContext[Any, Any]
Script = Callable[["FakeHost", host_pb2.HostInvokeRequest, Context], AsyncIterator[types_pb2.InvokeEvent]]


class Ownership:
    """What a shared store would hold.

    Attributes:
        owners: of instances.
        records: instances as they were when they were claimed.
        shelf: instances that nobody holds.
    """

    def __init__(self) -> None:
        self.owners: dict[str, Incarnation] = {}
        self.answers: dict[str, bytes] = {}
        self.records: dict[str, types_pb2.Instance] = {}
        self.shelf: MutableMapping[str, types_pb2.Instance] = {}
        self.flags = host_pb2.FeatureFlags()

    def claim(self, instance_id: str, host: FakeHost, ended: frozenset[Incarnation]) -> None:
        """Take an instance, or NotOwner."""
        owner = self.owners.get(instance_id)
        proven = owner in ended or (owner is not None and owner.pod_uid == host.incarnation.pod_uid)
        if owner is not None and owner != host.incarnation and not proven:
            raise NotOwner(str(owner))
        self.owners[instance_id] = host.incarnation


async def echo(
    host: FakeHost, request: host_pb2.HostInvokeRequest, context: Context
) -> AsyncIterator[types_pb2.InvokeEvent]:
    """Accept and answer with the input."""
    yield host.accept(request)
    yield done(request.input)


def done(output: bytes) -> types_pb2.InvokeEvent:
    """A final event."""
    return types_pb2.InvokeEvent(done=types_pb2.Done(output=output, timing=types_pb2.Timing(done_ms=0.01)))


def chunk(data: bytes) -> types_pb2.InvokeEvent:
    """A part of an answer."""
    return types_pb2.InvokeEvent(chunk=types_pb2.ChunkEvent(data=data))


class FakeHost(host_pb2_grpc.AgentHostServicer):
    """One host process's stand-in.

    Attributes:
        script: what a request does; tests replace it.
        refuse: raised by every call but Watch, when set.
        invoked: requests that came in, in order; `methods`: by which they came.
        unary: whether it knows InvokeUnary.
        archive: what Export sends, in parts; None breaks the call off.
        imported: what Import was given.
    """

    def __init__(
        self,
        pool: EffectivePool,
        verifier: TokenVerifier,
        *,
        pod: str = "pod-a",
        store: Ownership | None = None,
        role: str = "Shared",
        tiers: tuple[str, ...] = ("WARM",),
        nonce: int | None = None,
        pod_uid: str = "",
    ) -> None:
        self.pool = pool
        self.pod = pod
        self.incarnation = Incarnation.draw(pod_uid or f"uid-{pod}", nonce or time.time_ns(), b"rand")
        self.store = store or Ownership()
        self.script: Script = echo
        self.refuse: AgentPoolError | None = None
        self.invoked: list[host_pb2.HostInvokeRequest] = []
        self.methods: list[str] = []
        self.claims: list[CallClaims] = []
        self.calls: list[str] = []
        self.instances: dict[str, types_pb2.Instance] = {}
        self.indexed: dict[str, types_pb2.Instance] = {}
        self.archive: list[bytes | None] = [b"archive"]
        self.imported: list[tuple[host_pb2.ImportTarget, bytes]] = []
        self.status = host_pb2.HostStatus(
            incarnation=str(self.incarnation),
            pod=pod,
            role=role,
            tiers=tiers,
            ready=True,
            capacity=50,
            counters=host_pb2.HostCounters(),
        )
        self.address, self.port, self.silent, self.unary = "", 0, False, True
        self._verifier = verifier
        self._watchers: set[asyncio.Queue[host_pb2.WatchDelta]] = set()
        self._server: grpc.aio.Server | None = None
        self._stopping: asyncio.Task[None] | None = None

    @property
    def pod_uid(self) -> str:
        """Its pod's UID."""
        return self.incarnation.pod_uid

    async def start(self, port: int = 0, ip: str = "127.0.0.1") -> FakeHost:
        """Listen on loopback."""
        self._server = make_server([ErrorInterceptor()])
        host_pb2_grpc.add_AgentHostServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port(f"{ip}:{port}")
        self.address = f"{ip}:{self.port}"
        await self._server.start()
        return self

    async def stop(self) -> None:
        """Break every connection, like a process that is killed."""
        if self._server is not None:
            # A script that stops its own host is cancelled by that; the stop itself must go on.
            self._stopping = asyncio.create_task(self._server.stop(None))
            self._server = None
        if self._stopping is not None:
            await asyncio.shield(self._stopping)

    def key_id(self, tenant_id: str, project_id: str) -> str:
        """The id of an instance of the pool."""
        return InstanceKey(self.pool.namespace, self.pool.name, tenant_id, project_id).instance_id

    def accept(self, request: host_pb2.HostInvokeRequest) -> types_pb2.InvokeEvent:
        """Own and hold the instance; the event that says so."""
        one = self.hold(request.tenant_id, request.project_id, tier=request.tier or "WARM")
        return types_pb2.InvokeEvent(
            accepted=types_pb2.Accepted(
                instance_id=one.id,
                pod=self.pod,
                incarnation=str(self.incarnation),
                epoch=one.epoch,
                tier=one.tier,
                one_shot=request.one_shot,
            )
        )

    def hold(
        self, tenant_id: str, project_id: str, tier: str = "WARM", state: str = "READY"
    ) -> types_pb2.Instance:
        """Have an instance, and tell the watchers when it is new."""
        instance_id = self.key_id(tenant_id, project_id)
        one = self.instances.get(instance_id)
        if one is None:
            self.store.claim(instance_id, self, self.claims[-1].ended if self.claims else frozenset())
            one = types_pb2.Instance(
                id=instance_id,
                tenant_id=tenant_id,
                project_id=project_id,
                tier=tier,
                state=state,
                pod=self.pod,
                epoch=time.time_ns(),
                origin="observed",
            )
            self.instances[instance_id] = one
            self.status.resident = len(self.instances)
            self.report(host_pb2.WatchDelta(host=self.status, changed=[one]))
        return one

    def drop(self, instance_id: str) -> None:
        """Let an instance go, ownership included."""
        self.instances.pop(instance_id, None)
        self.store.owners.pop(instance_id, None)
        self.status.resident = len(self.instances)
        self.report(host_pb2.WatchDelta(host=self.status, gone=[instance_id]))

    def report(self, delta: host_pb2.WatchDelta) -> None:
        """Tell the watchers."""
        if self.silent:
            return
        for queue in self._watchers:
            queue.put_nowait(delta)

    def report_status(self, **fields: Any) -> None:
        """Change the host's status and tell."""
        for name, value in fields.items():
            setattr(self.status, name, value)
        self.report(host_pb2.WatchDelta(host=self.status))

    def _check(
        self,
        context: Context,
        verb: Verb,
        audience: str | None = None,
        instance: Callable[[], str] | None = None,
    ) -> None:
        metadata = dict(context.invocation_metadata() or ())
        authorization = metadata.get("authorization")
        claims = self._verifier.verify(str(authorization), audience or str(self.incarnation), verb, instance)
        self.claims.append(claims)
        self.calls.append(str(verb))
        if self.refuse is not None and verb is not Verb.WATCH:
            raise self.refuse

    async def Watch(  # the name is the protocol's
        self, request: host_pb2.WatchRequest, context: Context
    ) -> AsyncIterator[host_pb2.WatchEvent]:
        """A snapshot, then deltas."""
        self._check(context, Verb.WATCH, self.incarnation.pod_uid)
        queue: asyncio.Queue[host_pb2.WatchDelta] = asyncio.Queue(1000)
        self._watchers.add(queue)
        try:
            snapshot = host_pb2.WatchSnapshot(host=self.status, instances=self.instances.values())
            yield host_pb2.WatchEvent(sequence=1, snapshot=snapshot, sent_at=time.time())
            sequence = 1
            while True:
                delta = await queue.get()
                sequence += 1
                yield host_pb2.WatchEvent(sequence=sequence, delta=delta, sent_at=time.time())
        finally:
            self._watchers.discard(queue)

    async def Invoke(
        self, request: host_pb2.HostInvokeRequest, context: Context
    ) -> AsyncIterator[types_pb2.InvokeEvent]:
        """Whatever the script does."""
        async for event in self._scripted("Invoke", request, context):
            yield event

    async def InvokeUnary(
        self, request: host_pb2.HostInvokeRequest, context: Context
    ) -> host_pb2.HostInvokeResponse:
        """The same; a host of an earlier release does not know it."""
        if not self.unary:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
        return await answer_of(self._scripted("InvokeUnary", request, context), context)

    def _scripted(
        self, method: str, request: host_pb2.HostInvokeRequest, context: Context
    ) -> AsyncIterator[types_pb2.InvokeEvent]:
        self._check(context, Verb.INVOKE, instance=lambda: self.key_id(request.tenant_id, request.project_id))
        self.invoked.append(request)
        self.methods.append(method)
        return self.script(self, request, context)

    async def Activate(self, request: host_pb2.ActivateRequest, context: Context) -> types_pb2.Instance:
        """Hold it."""
        self._check(context, Verb.ACTIVATE)
        return self.hold(request.tenant_id, request.project_id, request.tier or "WARM")

    async def Pause(self, request: host_pb2.InstanceRequest, context: Context) -> types_pb2.Instance:
        """Show it as paused."""
        self._check(context, Verb.PAUSE)
        return self._changed(request.instance_id, "PAUSED")

    async def Resume(self, request: host_pb2.InstanceRequest, context: Context) -> types_pb2.Instance:
        """Show it as ready."""
        self._check(context, Verb.RESUME)
        return self._changed(request.instance_id, "READY")

    async def Terminate(self, request: host_pb2.InstanceRequest, context: Context) -> types_pb2.Instance:
        """Let it go."""
        self._check(context, Verb.TERMINATE)
        one = self._changed(request.instance_id, "TERMINATED")
        self.drop(request.instance_id)
        return one

    async def Move(self, request: host_pb2.MoveRequest, context: Context) -> types_pb2.Instance:
        """Show it in the tier."""
        self._check(context, Verb.MOVE)
        one = self._known(request.instance_id)
        one.tier, one.pinned = request.tier or one.tier, request.pinned
        return one

    async def SetFlags(
        self, request: host_pb2.SetFlagsRequest, context: Context
    ) -> host_pb2.SetFlagsResponse:
        """Keep the flags, and tell the watchers."""
        self._check(context, Verb.FLAGS)
        kept = self.store.flags
        if done := kept.version <= request.base.version:
            version = max(request.base.version + 1, time.time_ns() // 1000)
            kept = self.store.flags = host_pb2.FeatureFlags(version=version, document=request.document)
            self.report_flags()
        return host_pb2.SetFlagsResponse(flags=kept, done=done)

    def report_flags(self) -> None:
        """Tell the watchers of the flags in the store."""
        self.status.flags.CopyFrom(self.store.flags)
        self.report(host_pb2.WatchDelta(host=self.status))

    async def Export(
        self, request: host_pb2.InstanceRequest, context: Context
    ) -> AsyncIterator[host_pb2.ArchiveChunk]:
        """The parts of `archive`, one a message."""
        self._check(context, Verb.EXPORT)
        self._known(request.instance_id)
        for part in self.archive:
            if part is None:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "broke off")
            yield host_pb2.ArchiveChunk(data=part)

    async def Import(
        self, request_iterator: AsyncIterator[host_pb2.ImportRequest], context: Context
    ) -> types_pb2.Instance:
        """Keep what came in `imported`."""
        self._check(context, Verb.IMPORT)
        messages = [message async for message in request_iterator]
        target = messages[0].target
        self.imported.append((target, b"".join(message.data for message in messages)))
        return types_pb2.Instance(
            id=self.key_id(target.tenant_id, target.project_id),
            tenant_id=target.tenant_id,
            project_id=target.project_id,
            tier=target.tier or "WARM",
            state="PAUSED",
            reason="Evicted",
        )

    def _known(self, instance_id: str) -> types_pb2.Instance:
        one = self.instances.get(instance_id) or self.indexed.get(instance_id)
        if one is None:
            raise InstanceNotFound(f"no {instance_id}")
        return one

    def _changed(self, instance_id: str, state: str) -> types_pb2.Instance:
        one = self._known(instance_id)
        one.state = state
        self.report(host_pb2.WatchDelta(changed=[one]))
        return one

    async def List(self, request: host_pb2.ListRequest, context: Context) -> host_pb2.ListResponse:
        """The index, in pages."""
        self._check(context, Verb.GET)
        known = {**self.indexed, **self.instances}
        ids = sorted(one for one in known if one > request.cursor)
        limit = request.limit or 100
        cursor = ids[limit - 1] if len(ids) > limit else ""
        return host_pb2.ListResponse(instances=[known[one] for one in ids[:limit]], cursor=cursor)

    async def Get(self, request: host_pb2.InstanceRequest, context: Context) -> types_pb2.Instance:
        """One of the index."""
        self._check(context, Verb.GET)
        found = {**self.indexed, **self.instances}.get(request.instance_id)
        if found is None:
            raise InstanceNotFound(f"no {request.instance_id}")
        return found
