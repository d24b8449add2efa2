# SPDX-License-Identifier: Apache-2.0
"""What each operation of the REST interface does."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass

import msgspec

from agentpool_core.archive import MEDIA_TYPE, archive_bytes
from agentpool_core.lifecycle import Tier
from agentpool_core.shares import Shares
from agentpool_gateway.admission.gate import Entry, Gate
from agentpool_gateway.dispatch.call import Ended, InvokeCall
from agentpool_gateway.dispatch.in_flight import take_place
from agentpool_gateway.dispatch.retry import outcome_unknown
from agentpool_gateway.metrics import CONTENT_TYPE, Metrics
from agentpool_gateway.rest import parsing, schemas
from agentpool_gateway.rest.events import SlowReader, stream_events
from agentpool_gateway.rest.exchange import JSON, Exchange
from agentpool_gateway.settings import PoolVerb
from agentpool_proto.v1.types_pb2 import Instance
from agentpool_rpc.leases import LeaseReport
from agentpool_rpc.metrics import process_text
from agentpool_rpc.tracing import Span, Tracing

REQUEST = "gateway.invoke"
"""Name of a request's span, by whichever interface it came."""
CREATED = 201
ACCEPTED = 202
UNAVAILABLE = 503
ARCHIVE_SECONDS = 120.0
"""How long a client may take to send or read an archive."""
FORGET_SECONDS = 60.0
MAX_FORGET_SECONDS = 300.0
STREAM_GRACE_SECONDS = 30.0
"""How long after its deadline a stream may take to be read to its end."""


@dataclass(frozen=True, slots=True)
class Handlers:
    """The operations, with what they work on.

    `stopping` is set when the gateway stops and the grace time of requests is over; `imports` bounds the
    archives that are held in memory at one time; `tracing` is None where traces are off.
    """

    gate: Gate
    metrics: Metrics
    stopping: asyncio.Event
    imports: Shares
    tracing: Tracing | None = None

    async def enter(self, exchange: Exchange, verb: PoolVerb) -> Entry:
        """Let the caller do `verb` with the pool that the path names."""
        params = exchange.path_params
        return await self.gate.enter(
            exchange.header(b"authorization"),
            params.get("namespace", ""),
            params.get("pool", ""),
            verb,
            exchange.audit,
        )

    async def invoke(self, exchange: Exchange) -> None:
        """Serve one request of an agent."""
        if self.tracing is None:
            await self._invoke(exchange)
            return
        about = {"http.request.method": "POST", "url.path": str(exchange.scope["path"])}
        with self.tracing.serving(REQUEST, exchange.text, exchange.arrived, about) as span:
            await self._invoke(exchange, span)

    async def _invoke(self, exchange: Exchange, trace: Span | None = None) -> None:
        entry = await self.enter(exchange, PoolVerb.INVOKE)
        streamed = "text/event-stream" in (exchange.header(b"accept") or "")
        call = await self._call(exchange, entry, trace, streamed)
        async with (
            exchange.while_connected(),
            aclosing(entry.pool.invoke(call, exchange.arrived, exchange.ticket)) as events,
        ):
            if streamed:
                seconds = call.timeout_seconds + STREAM_GRACE_SECONDS
                await stream_events(exchange, events, self.stopping, seconds)
                return
            answer: Ended | None = None
            async for event in events:
                if type(event) is Ended:
                    answer = event
        if answer is None:
            raise outcome_unknown()
        await exchange.reply(schemas.invoke_answer(answer))

    async def _call(self, exchange: Exchange, entry: Entry, trace: Span | None, streamed: bool) -> InvokeCall:
        limit = entry.pool.table.config.limits.input_bytes
        asked = parsing.parse_timeout(exchange.header(b"x-request-timeout"))
        key = parsing.parse_idempotency_key(exchange.header(b"idempotency-key"))
        query = exchange.query(("consistency",))
        body = parsing.parse_invoke(await exchange.body(limit + parsing.ENVELOPE_BYTES), limit)
        await self._may_use(exchange, entry, body.tenant_id, body.project_id, body.tier)
        if trace is not None and self.tracing is not None:
            self.tracing.whose(trace, body.tenant_id, body.project_id)
        return InvokeCall(
            tenant_id=body.tenant_id,
            project_id=body.project_id,
            input=bytes(body.input),
            timeout_seconds=entry.pool.timeout_seconds(asked),
            tier=body.tier,
            idempotency_key=key,
            strong=parsing.parse_strong(query.get("consistency", body.consistency)),
            streamed=streamed,
            trace=trace,
        )

    async def _may_use(
        self, exchange: Exchange, entry: Entry, tenant_id: str, project_id: str, tier: Tier | None
    ) -> None:
        exchange.audit.names(tenant=tenant_id, project=project_id, tier=tier or "")
        # To choose where something runs is privileged, also on the way of a request.
        exchange.audit.privileged |= tier is not None
        await self.gate.may_act_for(entry, tenant_id)
        if tier is not None:
            await self.gate.may_place(entry, tenant_id)

    async def stats(self, exchange: Exchange) -> None:
        """Statistics of the pool."""
        entry = await self.enter(exchange, PoolVerb.GET)
        exchange.query(())
        await exchange.reply(entry.pool.get_stats())

    async def health(self, exchange: Exchange) -> None:
        """Whether the pool can serve."""
        entry = await self.enter(exchange, PoolVerb.GET)
        exchange.query(())
        health = entry.pool.get_health()
        await exchange.reply(health, 200 if health.status in ("Healthy", "Degraded") else UNAVAILABLE)

    async def pool_metrics(self, exchange: Exchange) -> None:
        """Metrics of the pool."""
        entry = await self.enter(exchange, PoolVerb.GET)
        exchange.query(())
        await exchange.reply_bytes(self.metrics.exposition(entry.name), CONTENT_TYPE)

    async def list_instances(self, exchange: Exchange) -> None:
        """Instances of the pool, also those that nobody holds."""
        entry = await self.enter(exchange, PoolVerb.GET)
        query = parsing.parse_list_query(exchange.query(parsing.LIST_PARAMETERS), entry.scope.visible)
        await self.gate.may_list(entry, query.tenant_id)
        page = await entry.pool.list_instances(query)
        views = [schemas.instance_view(one) for one in page.instances]
        await exchange.reply(schemas.InstancesView(views, page.cursor))

    async def get_instance(self, exchange: Exchange) -> None:
        """One instance."""
        entry, instance_id = await self._instance(exchange, PoolVerb.GET)
        await self._reply(exchange, await entry.pool.get_instance(instance_id))

    async def create_instance(self, exchange: Exchange) -> None:
        """Make an instance resident."""
        entry = await self.enter(exchange, PoolVerb.INVOKE)
        exchange.query(())
        body = parsing.parse_create(await exchange.body(parsing.ENVELOPE_BYTES))
        await self._may_use(exchange, entry, body.tenant_id, body.project_id, body.tier)
        created = await entry.pool.get_or_create_instance(body.tenant_id, body.project_id, body.tier)
        await self._reply(exchange, created, CREATED)

    async def acquire_lease(self, exchange: Exchange) -> None:
        """Give a lease of an instance."""
        entry = await self.enter(exchange, PoolVerb.INVOKE)
        exchange.query(())
        body = parsing.parse_acquire(await exchange.body(parsing.ENVELOPE_BYTES))
        await self._may_use(exchange, entry, body.tenant_id, body.project_id, body.tier)
        lease = await entry.pool.acquire(body.tenant_id, body.project_id, body.tier, body.confirm)
        exchange.audit.names(instance=lease.instance_id)
        view = msgspec.json.encode(schemas.lease_view(lease))
        # It holds a token.
        await exchange.reply_bytes(view, JSON, CREATED, [(b"cache-control", b"no-store")])

    async def release_lease(self, exchange: Exchange) -> None:
        """Take the report of a lease."""
        entry = await self.enter(exchange, PoolVerb.INVOKE)
        exchange.query(())
        body = parsing.parse_release(await exchange.body(parsing.ENVELOPE_BYTES))
        claims = entry.pool.leasing.lease(body.lease_id)
        await self.gate.may_act_for(entry, claims.tenant_id)
        report = LeaseReport(body.requests, body.failures, body.held_seconds)
        await exchange.reply(schemas.ReleaseView(entry.pool.leasing.release(claims, report)))

    async def terminate_instance(self, exchange: Exchange) -> None:
        """End an instance and erase its state."""
        entry, instance_id = await self._instance(exchange, PoolVerb.TERMINATE)
        await self._reply(exchange, await entry.pool.terminate_instance(instance_id))

    async def pause_instance(self, exchange: Exchange) -> None:
        """Pause an instance."""
        entry, instance_id = await self._instance(exchange, PoolVerb.PAUSE)
        await self._reply(exchange, await entry.pool.pause_instance(instance_id))

    async def resume_instance(self, exchange: Exchange) -> None:
        """Resume an instance."""
        entry, instance_id = await self._instance(exchange, PoolVerb.PAUSE)
        await self._reply(exchange, await entry.pool.resume_instance(instance_id))

    async def move_instance(self, exchange: Exchange) -> None:
        """Give an instance another tier."""
        entry, instance_id = await self._instance(exchange, PoolVerb.PLACE)
        tier = parsing.parse_move(await exchange.body(parsing.ENVELOPE_BYTES))
        exchange.audit.names(tier=tier or parsing.AUTO)
        await self._reply(exchange, await entry.pool.move_instance(instance_id, tier))

    async def export_instance(self, exchange: Exchange) -> None:
        """Send the archive of an instance's saved state."""
        entry, instance_id = await self._instance(exchange, PoolVerb.EXPORT)
        async with exchange.while_connected(), aclosing(entry.pool.export_instance(instance_id)) as parts:
            first = await anext(parts)
            headers = [
                (b"content-type", MEDIA_TYPE.encode()),
                (b"cache-control", b"no-store"),
                (b"content-disposition", b'attachment; filename="checkpoint.agentpool"'),
            ]
            await exchange.start(200, headers)
            try:
                async with asyncio.timeout(ARCHIVE_SECONDS):
                    await exchange.send_part(first)
                    async for part in parts:
                        await exchange.send_part(part)
                    await exchange.send_part(b"", last=True)
            except TimeoutError as exc:
                raise SlowReader from exc

    async def import_instance(self, exchange: Exchange) -> None:
        """Make an instance from an archive."""
        entry = await self.enter(exchange, PoolVerb.IMPORT)
        target = parsing.parse_import(exchange.query(parsing.IMPORT_PARAMETERS))
        tier = Tier(target.tier) if target.tier else None
        await self._may_use(exchange, entry, target.tenant_id, target.project_id, tier)
        limit = archive_bytes(entry.pool.table.config.limits.state_bytes)
        take_place(self.imports)
        try:
            archive = await exchange.body(limit, ARCHIVE_SECONDS, "Raise limits.stateBytes of the pool.")
            planted = await entry.pool.import_instance(target, archive)
        finally:
            self.imports.give()
        await self._reply(exchange, planted, CREATED)

    async def forget_tenant(self, exchange: Exchange) -> None:
        """Erase everything of a tenant."""
        entry = await self.enter(exchange, PoolVerb.FORGET)
        exchange.query(())
        tenant_id = parsing.parse_name("tenant_id", exchange.path_params["tenant_id"])
        exchange.audit.names(tenant=tenant_id)
        await self.gate.may_act_for(entry, tenant_id)
        asked = parsing.parse_timeout(exchange.header(b"x-request-timeout"))
        seconds = FORGET_SECONDS if asked is None else min(asked, MAX_FORGET_SECONDS)
        async with exchange.while_connected():
            forgotten = await entry.pool.forget_tenant(tenant_id, seconds)
        exchange.audit.counted(
            erased=forgotten.erased, remaining=forgotten.remaining, declared=len(forgotten.declared)
        )
        view = schemas.forgotten_view(tenant_id, forgotten)
        await exchange.reply(view, ACCEPTED if view.remaining else 200)

    async def _instance(self, exchange: Exchange, verb: PoolVerb) -> tuple[Entry, str]:
        entry = await self.enter(exchange, verb)
        exchange.query(())
        instance_id = exchange.path_params["instance_id"]
        known = entry.pool.table.instance(instance_id)
        if known is not None:
            exchange.audit.names(tenant=known.tenant_id, project=known.project_id)
        exchange.audit.names(instance=instance_id)
        await self.gate.may_touch(entry, instance_id)
        return entry, instance_id

    async def _reply(self, exchange: Exchange, instance: Instance, status: int = 200) -> None:
        exchange.audit.about(instance)
        # A wish is carried out when the instance is no longer busy.
        await exchange.reply(schemas.instance_view(instance), ACCEPTED if instance.wish else status)

    async def gateway_health(self, exchange: Exchange) -> None:
        """The gateway and its pools."""
        ready, pools = self.gate.pools.fleet.ready, self.gate.pools
        states = {str(name): pools.find(name).get_health().status for name in pools.names}
        view = schemas.GatewayHealth("Ready" if ready else "NotReady", states)
        await exchange.reply(view, 200 if ready else UNAVAILABLE)

    async def gateway_metrics(self, exchange: Exchange) -> None:
        """Metrics of all pools and of the process."""
        process = await process_text()
        await exchange.reply_bytes(self.metrics.exposition(None) + process, CONTENT_TYPE)
