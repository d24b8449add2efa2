# SPDX-License-Identifier: Apache-2.0
"""What one can do with a pool and its instances."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from typing import Protocol

import grpc.aio

from agentpool_core.errors import (
    AgentPoolError,
    InstanceDeclared,
    InstanceNotFound,
    NoHost,
)
from agentpool_core.lifecycle import PauseReason, State, Tier
from agentpool_core.names import InstanceKey
from agentpool_core.placement import Role
from agentpool_gateway.dispatch.archives import ArchiveCalls
from agentpool_gateway.dispatch.breakers import check_breaker
from agentpool_gateway.dispatch.call import (
    CANCELLED,
    SUCCESS,
    Ended,
    InvokeCall,
    InvokeProgress,
    Milestones,
    Started,
)
from agentpool_gateway.dispatch.flag_calls import FlagCalls
from agentpool_gateway.dispatch.forgetting import Forgetting, Forgotten
from agentpool_gateway.dispatch.host_call import HostCall, call_host
from agentpool_gateway.dispatch.journey import Journey
from agentpool_gateway.dispatch.leasing import LeaseObserver, Leasing
from agentpool_gateway.dispatch.lifecycle_calls import LifecycleCalls
from agentpool_gateway.dispatch.listing import Listing, ListQuery, Page
from agentpool_gateway.dispatch.overload import Overload, Ticket
from agentpool_gateway.dispatch.stats import PoolHealth, PoolStats, pool_health, pool_stats
from agentpool_gateway.dispatch.tracing import RequestTrace, placed
from agentpool_gateway.dispatch.ways import Ways
from agentpool_gateway.membership.base import PoolName
from agentpool_gateway.membership.table import PoolTable
from agentpool_gateway.membership.watcher import Fleet, HostLink
from agentpool_proto.v1.gateway_pb2 import Lease
from agentpool_proto.v1.host_pb2 import ActivateRequest, ImportTarget
from agentpool_proto.v1.types_pb2 import Accepted, Instance
from agentpool_rpc.leases import LeaseIds

DECLARED = "declared"
"""Origin of an instance that an AgentInstance object declares."""


class Observer(LeaseObserver, Protocol):
    """Told of every request's beginning and end, and of leases."""

    def request_began(self, pool: PoolName) -> None:
        """A request is worked on; its end follows."""

    def request_ended(self, pool: PoolName, status: str, seconds: float, marks: Milestones) -> None:
        """A request ended: `status` is `success`, `Cancelled` or an error's code."""


class PoolManager:
    """One pool, as applications use it.

    `get_stats` and `get_health` are synchronous; everything else is awaited. Every method may raise the
    errors of `agentpool_core.errors`.
    """

    def __init__(
        self,
        fleet: Fleet,
        table: PoolTable,
        observer: Observer,
        overload: Overload,
        wall_clock: Callable[[], float] = time.time,
        lease_ids: LeaseIds | None = None,
    ) -> None:
        self._fleet = fleet
        self.table = table
        self._observer = observer
        self._overload = overload
        self._wall_clock = wall_clock
        self._lifecycle = LifecycleCalls(fleet, table)
        self._listing = Listing(fleet, table)
        self._archives = ArchiveCalls(fleet, table)
        self.leasing = Leasing(fleet, table, self._activate, lease_ids, observer)
        self._ways = Ways(table, wall_clock)
        self.flags = FlagCalls(fleet, table)
        """The pool's feature flags."""
        self._forgetting = Forgetting(self._listing.page, self._lifecycle.terminate)

    def get_stats(self) -> PoolStats:
        """Statistics of the pool at this moment, without I/O."""
        now = self._wall_clock()
        return pool_stats(self.table, now, now - asyncio.get_running_loop().time())

    def get_health(self) -> PoolHealth:
        """Whether the pool can serve, without I/O."""
        return pool_health(self.table)

    def timeout_seconds(self, asked: float | None) -> float:
        """The time a request may take: as asked, at most the pool's limits.requestTimeoutSeconds."""
        limit = self.table.config.limits.request_timeout_seconds
        return limit if asked is None else min(asked, limit)

    async def get_or_create_instance(
        self, tenant_id: str, project_id: str, tier: Tier | None = None
    ) -> Instance:
        """The instance of a tenant's project, made resident; PoolDisabled where requests pass the pool by."""
        self._ways.require_pool(tenant_id, project_id)
        return await self._activate(tenant_id, project_id, self._ways.tier(tenant_id, project_id, tier))

    async def _activate(self, tenant_id: str, project_id: str, tier: Tier | None) -> Instance:
        """The same, for whoever has asked the flags already."""
        request = ActivateRequest(tenant_id=tenant_id, project_id=project_id, tier=tier or "")
        limits = self.table.config.limits
        return await self._lifecycle.activate(
            self.instance_id(tenant_id, project_id), request, tier, limits.creation_timeout_seconds
        )

    async def get_instance(self, instance_id: str) -> Instance:
        """One instance, wherever it is; InstanceNotFound."""
        found = self.table.instance(instance_id) or await self._listing.find(instance_id)
        if found is None:
            raise InstanceNotFound(f"The pool has no instance {instance_id}.")
        return found

    async def list_instances(self, query: ListQuery) -> Page:
        """Instances in the order of their ids, in pages."""
        return await self._listing.page(query)

    async def pause_instance(self, instance_id: str) -> Instance:
        """Keep its state, end its process, refuse requests until resumed; InstanceDeclared."""
        await self._undeclared(instance_id)
        return await self._lifecycle.pause(instance_id)

    async def resume_instance(self, instance_id: str) -> Instance:
        """Lift a pause; the instance is resident afterwards. InstanceDeclared."""
        await self._undeclared(instance_id)
        return await self._lifecycle.resume(instance_id)

    async def terminate_instance(self, instance_id: str) -> Instance:
        """End it and erase its state; InstanceDeclared."""
        await self._undeclared(instance_id)
        return await self._lifecycle.terminate(instance_id)

    async def move_instance(self, instance_id: str, tier: Tier | None) -> Instance:
        """Give it another tier, with its state, and keep it there whatever its traffic is; None: the present
        tier for now, which the pool may change. HOT is resident afterwards.

        Raises InstanceDeclared, InstanceNotFound, NoHost (no host takes the tier now), PoolExhausted,
        TierDisabled.
        """
        await self._undeclared(instance_id, "Set spec.tier of its AgentInstance with kubectl.")
        present = await self.get_instance(instance_id)
        if tier is Tier.HOT:
            self._ways.require_hot(present.tenant_id, present.project_id)
        if tier not in (None, present.tier) and not self._takes(instance_id, tier):
            raise NoHost(f"No ready host takes tier {tier}.", retry_after_seconds=1.0)
        moved = await self._lifecycle.move(instance_id, tier)
        if tier is not Tier.HOT or moved.state != State.PAUSED or moved.reason != PauseReason.EVICTED:
            return moved
        if not self._ways.pooled(present.tenant_id, present.project_id):
            return moved
        return await self.get_or_create_instance(moved.tenant_id, moved.project_id)

    def _takes(self, instance_id: str, tier: Tier) -> bool:
        free = (
            host
            for host in self.table.ready_hosts()
            if host.candidate is not None and tier in host.candidate.tiers
        )
        return any(
            host.role is Role.SHARED or not host.status.resident or instance_id in host.instances
            for host in free
        )

    def export_instance(self, instance_id: str) -> AsyncGenerator[bytes, None]:
        """The archive of its saved state in parts; raises InstanceNotFound, StateCorrupt before the first."""
        return self._archives.export(instance_id)

    async def import_instance(self, target: ImportTarget, archive: bytes) -> Instance:
        """An instance with the state of an archive; nobody holds it, its next request wakes it.

        Raises InvalidRequest, InstanceExists, InstanceDeclared.
        """
        instance_id = self.instance_id(target.tenant_id, target.project_id)
        await self._undeclared(
            instance_id, "Delete its AgentInstance, import, then apply the AgentInstance again."
        )
        return await self._archives.plant(instance_id, target, archive)

    async def forget_tenant(self, tenant_id: str, seconds: float) -> Forgotten:
        """Erase every instance of a tenant that no AgentInstance declares, for at most so many seconds."""
        return await self._forgetting.forget(tenant_id, seconds)

    async def acquire(
        self, tenant_id: str, project_id: str, tier: Tier | None = None, confirm: bool = False
    ) -> Lease:
        """A lease of the instance; DirectAccessOff where there are none, PoolDisabled where requests pass the
        pool by."""
        self._ways.require_pool(tenant_id, project_id)
        tier = self._ways.tier(tenant_id, project_id, tier)
        instance_id = self.instance_id(tenant_id, project_id)
        return await self.leasing.acquire(instance_id, tenant_id, project_id, tier, confirm)

    def instance_id(self, tenant_id: str, project_id: str) -> str:
        """The id of a tenant's project in this pool."""
        config = self.table.config
        return InstanceKey(config.namespace, config.name, tenant_id, project_id).instance_id

    async def invoke(
        self, call: InvokeCall, arrived: float, ticket: Ticket | None = None
    ) -> AsyncGenerator[InvokeProgress, None]:
        """Serve one request: events as they come, the last is `Ended`.

        Close the generator to cancel the request. `arrived`: on the event loop's clock; `ticket`: its own.
        """
        tier, marks = self._ways.of(call, arrived)
        journey = self._journey(call, tier, arrived)
        now, status, pool = asyncio.get_running_loop().time, CANCELLED, self.table.name
        tenant = (*pool, call.tenant_id)
        ticket = self._overload.enter(ticket, tenant)
        self._observer.request_began(pool)
        attempt: HostCall | None = None
        trace = RequestTrace(call.trace, pool, call, now) if call.trace is not None else None
        try:
            self._check_breaker(call, journey)
            request = call.request(tier, marks.served_by)
            while True:
                link, metadata = await placed(journey, trace)
                self._overload.placed(ticket, journey.direct)
                attempt = call_host(link, marks, request, metadata, journey, call.streamed)
                failure = None
                try:
                    while (event := await attempt.read()) is not None:
                        if type(event) is Ended:
                            status = SUCCESS
                        elif type(event) is Started:
                            self._started(ticket, marks.accepted, journey, link, call, event.accepted)
                        yield event
                        if status is SUCCESS:
                            return
                except grpc.aio.AioRpcError as exc:
                    failure = exc
                if not attempt.again:
                    await journey.failed(link, failure, attempt.accepted)
        except AgentPoolError as exc:
            status = exc.code
            raise
        finally:
            self._over(ticket, tenant, journey, attempt)
            self._observer.request_ended(pool, status, now() - arrived, marks)
            if trace is not None:
                trace.ended(status, marks.tier)

    def _check_breaker(self, call: InvokeCall, journey: Journey) -> None:
        if not call.idempotency_key:
            # One with a key may have its answer already, which the host gives whatever the breaker says.
            check_breaker(self.table, journey.instance_id, self._wall_clock())

    def _journey(self, call: InvokeCall, tier: Tier | None, arrived: float) -> Journey:
        return Journey(
            self._fleet,
            self.table,
            self.instance_id(call.tenant_id, call.project_id),
            deadline=arrived + call.timeout_seconds,
            tier=tier,
            repeatable=bool(call.idempotency_key),
            tenant_id=call.tenant_id,
        )

    def _over(
        self, ticket: Ticket, tenant: tuple[str, str, str], journey: Journey, attempt: HostCall | None
    ) -> None:
        self._overload.leave(ticket, tenant)
        journey.settled()
        if attempt is not None:
            attempt.close()

    def _started(
        self,
        ticket: Ticket,
        at: float,
        journey: Journey,
        link: HostLink,
        call: InvokeCall,
        accepted: Accepted,
    ) -> None:
        journey.settled()
        # A start takes its own time, and says nothing of how busy gateway and host are.
        self._overload.placed(ticket, not accepted.activated)
        self._overload.accepted(ticket, at)
        # The next request goes to the same host, even before the host's report arrives.
        if self.table.owner(accepted.instance_id) is not link.host:
            self.table.accepted(link.host, _resident(call, accepted))

    async def _undeclared(self, instance_id: str, remedy: str | None = None) -> None:
        # Two writers of one wish would undo each other for ever.
        instance = self.table.instance(instance_id)
        if instance is None or not instance.origin:
            instance = await self._listing.find(instance_id)
        if instance is not None and (instance.origin == DECLARED or instance.declared_uid):
            raise InstanceDeclared(f"An AgentInstance declares the instance {instance_id}.", remedy=remedy)


def _resident(call: InvokeCall, accepted: Accepted) -> Instance:
    return Instance(
        id=accepted.instance_id,
        tenant_id=call.tenant_id,
        project_id=call.project_id,
        tier=accepted.tier,
        state=State.READY,
        pod=accepted.pod,
        epoch=accepted.epoch,
    )
