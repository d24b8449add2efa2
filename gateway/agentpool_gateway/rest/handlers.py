# SPDX-License-Identifier: Apache-2.0
"""What each operation of the REST interface does."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass

from agentpool_core.errors import AgentPoolError
from agentpool_gateway.admission.gate import Entry, Gate
from agentpool_gateway.dispatch.call import Ended, InvokeCall
from agentpool_gateway.metrics import CONTENT_TYPE, Metrics
from agentpool_gateway.rest import schemas
from agentpool_gateway.rest.events import stream_events
from agentpool_gateway.rest.exchange import Exchange
from agentpool_gateway.settings import PoolVerb
from agentpool_proto.v1.types_pb2 import Instance

CREATED = 201
ACCEPTED = 202
UNAVAILABLE = 503
STREAM_GRACE_SECONDS = 30.0
"""How long after its deadline a stream may take to be read to its end."""


@dataclass(frozen=True, slots=True)
class Handlers:
    """The operations, with what they work on.

    `stopping` is set when the gateway stops and the grace time of requests is over.
    """

    gate: Gate
    metrics: Metrics
    stopping: asyncio.Event

    async def _enter(self, exchange: Exchange, verb: PoolVerb) -> Entry:
        params = exchange.path_params
        return await self.gate.enter(
            exchange.header(b"authorization"), params.get("namespace", ""), params.get("pool", ""), verb
        )

    async def invoke(self, exchange: Exchange) -> None:
        """Serve one request of an agent."""
        entry = await self._enter(exchange, PoolVerb.INVOKE)
        call = await self._call(exchange, entry)
        async with (
            exchange.while_connected(),
            aclosing(entry.pool.invoke(call, exchange.arrived)) as events,
        ):
            if "text/event-stream" in (exchange.header(b"accept") or ""):
                seconds = call.timeout_seconds + STREAM_GRACE_SECONDS
                await stream_events(exchange, events, self.stopping, seconds)
                return
            answer: Ended | None = None
            async for event in events:
                if type(event) is Ended:
                    answer = event
        if answer is None:
            raise AgentPoolError("The request ended without an answer.")
        await exchange.reply(schemas.invoke_answer(answer))

    async def _call(self, exchange: Exchange, entry: Entry) -> InvokeCall:
        limit = entry.pool.table.config.limits.input_bytes
        asked = schemas.parse_timeout(exchange.header(b"x-request-timeout"))
        key = schemas.parse_idempotency_key(exchange.header(b"idempotency-key"))
        query = exchange.query(("consistency",))
        body = schemas.parse_invoke(await exchange.body(limit + schemas.ENVELOPE_BYTES), limit)
        await self.gate.may_act_for(entry, body.tenant_id)
        if body.tier is not None:
            await self.gate.may_place(entry, body.tenant_id)
        return InvokeCall(
            tenant_id=body.tenant_id,
            project_id=body.project_id,
            input=bytes(body.input),
            timeout_seconds=entry.pool.timeout_seconds(asked),
            tier=body.tier,
            idempotency_key=key,
            strong=schemas.parse_strong(query.get("consistency", body.consistency)),
        )

    async def stats(self, exchange: Exchange) -> None:
        """Statistics of the pool."""
        entry = await self._enter(exchange, PoolVerb.GET)
        exchange.query(())
        await exchange.reply(entry.pool.get_stats())

    async def health(self, exchange: Exchange) -> None:
        """Whether the pool can serve."""
        entry = await self._enter(exchange, PoolVerb.GET)
        exchange.query(())
        health = entry.pool.get_health()
        await exchange.reply(health, 200 if health.status in ("Healthy", "Degraded") else UNAVAILABLE)

    async def pool_metrics(self, exchange: Exchange) -> None:
        """Metrics of the pool."""
        entry = await self._enter(exchange, PoolVerb.GET)
        exchange.query(())
        await exchange.reply_bytes(self.metrics.exposition(entry.name), CONTENT_TYPE)

    async def list_instances(self, exchange: Exchange) -> None:
        """Instances of the pool, also those that nobody holds."""
        entry = await self._enter(exchange, PoolVerb.GET)
        query = schemas.parse_list_query(exchange.query(schemas.LIST_PARAMETERS), entry.scope.visible)
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
        entry = await self._enter(exchange, PoolVerb.INVOKE)
        exchange.query(())
        body = schemas.parse_create(await exchange.body(schemas.ENVELOPE_BYTES))
        await self.gate.may_act_for(entry, body.tenant_id)
        if body.tier is not None:
            await self.gate.may_place(entry, body.tenant_id)
        created = await entry.pool.get_or_create_instance(body.tenant_id, body.project_id, body.tier)
        await self._reply(exchange, created, CREATED)

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

    async def _instance(self, exchange: Exchange, verb: PoolVerb) -> tuple[Entry, str]:
        entry = await self._enter(exchange, verb)
        exchange.query(())
        instance_id = exchange.path_params["instance_id"]
        await self.gate.may_touch(entry, instance_id)
        return entry, instance_id

    async def _reply(self, exchange: Exchange, instance: Instance, status: int = 200) -> None:
        # A wish is carried out when the instance is no longer busy.
        await exchange.reply(schemas.instance_view(instance), ACCEPTED if instance.wish else status)

    async def gateway_health(self, exchange: Exchange) -> None:
        """The gateway and its pools."""
        ready, pools = self.gate.pools.fleet.ready, self.gate.pools
        states = {str(name): pools.find(name).get_health().status for name in pools.names}
        view = schemas.GatewayHealth("Ready" if ready else "NotReady", states)
        await exchange.reply(view, 200 if ready else UNAVAILABLE)

    async def gateway_metrics(self, exchange: Exchange) -> None:
        """Metrics of all pools."""
        await exchange.reply_bytes(self.metrics.exposition(None), CONTENT_TYPE)
