# SPDX-License-Identifier: Apache-2.0
"""Activate, pause, resume and terminate: one answer each, safe to repeat because they converge."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import grpc.aio

from agentpool_core.errors import AgentPoolError, IllegalTransition, InstanceNotFound
from agentpool_core.lifecycle import State, Tier
from agentpool_gateway.dispatch.journey import Journey
from agentpool_gateway.membership.table import PoolTable
from agentpool_gateway.membership.watcher import Fleet, HostLink
from agentpool_proto.v1.host_pb2 import ActivateRequest, InstanceRequest, MoveRequest
from agentpool_proto.v1.types_pb2 import Instance
from agentpool_rpc.cancellation import caller_cancelled

SECONDS = 30.0
"""A pause or an end saves or erases state, which takes milliseconds; a busy instance answers at once."""

Call = Callable[[HostLink, str, float], Awaitable[Instance]]


class LifecycleCalls:
    """The lifecycle operations of one pool's instances."""

    def __init__(self, fleet: Fleet, table: PoolTable) -> None:
        self._fleet = fleet
        self._table = table

    async def activate(
        self, instance_id: str, request: ActivateRequest, tier: Tier | None, seconds: float
    ) -> Instance:
        """Make an instance resident."""

        async def call(link: HostLink, token: str, left: float) -> Instance:
            answer: Instance = await link.stub.Activate(
                request, metadata=(("authorization", token),), timeout=left
            )
            return answer

        return await self._run(instance_id, call, seconds, tier)

    async def pause(self, instance_id: str) -> Instance:
        """Pause an instance."""
        return await self._change(instance_id, State.PAUSED)

    async def resume(self, instance_id: str) -> Instance:
        """Lift a pause."""
        return await self._change(instance_id, State.READY)

    async def terminate(self, instance_id: str) -> Instance:
        """End an instance and erase its state."""
        return await self._change(instance_id, State.TERMINATED)

    async def move(self, instance_id: str, tier: Tier | None) -> Instance:
        """Give an instance a tier and keep it there; None: its present one, which may change again."""
        request = MoveRequest(instance_id=instance_id, tier=tier or "", pinned=tier is not None)

        async def call(link: HostLink, token: str, left: float) -> Instance:
            answer: Instance = await link.stub.Move(
                request, metadata=(("authorization", token),), timeout=left
            )
            return answer

        return await self._run(instance_id, call, SECONDS, None, anywhere=True)

    async def _change(self, instance_id: str, wanted: State) -> Instance:
        request = InstanceRequest(instance_id=instance_id)

        async def call(link: HostLink, token: str, left: float) -> Instance:
            methods = {
                State.PAUSED: link.stub.Pause,
                State.READY: link.stub.Resume,
                State.TERMINATED: link.stub.Terminate,
            }
            answer: Instance = await methods[wanted](
                request, metadata=(("authorization", token),), timeout=left
            )
            return answer

        return await self._run(instance_id, call, SECONDS, None, wanted)

    async def _run(
        self,
        instance_id: str,
        call: Call,
        seconds: float,
        tier: Tier | None,
        wanted: State | None = None,
        *,
        anywhere: bool = False,
    ) -> Instance:
        deadline = asyncio.get_running_loop().time() + seconds
        journey = Journey(
            self._fleet,
            self._table,
            instance_id,
            deadline,
            tier,
            repeatable=True,
            anywhere=anywhere or wanted in (State.PAUSED, State.TERMINATED),
        )
        try:
            return await self._travel(journey, instance_id, call, wanted)
        finally:
            journey.settled()

    async def _travel(self, journey: Journey, instance_id: str, call: Call, wanted: State | None) -> Instance:
        broke = False
        while True:
            link, token = await journey.next_host()
            try:
                instance = await call(link, token, max(journey.seconds_left, 0.001))
            except (grpc.aio.AioRpcError, asyncio.CancelledError) as exc:
                if caller_cancelled():
                    raise
                try:
                    error = exc if isinstance(exc, grpc.aio.AioRpcError) else None
                    await journey.failed(link, error, accepted=False)
                except AgentPoolError as failure:
                    if broke and wanted is not None and (done := _already(failure, instance_id, wanted)):
                        return done
                    raise
                broke = True
            else:
                self._table.answered(link.host, instance)
                return instance


def _already(failure: AgentPoolError, instance_id: str, wanted: State) -> Instance | None:
    """The result, when a repeated call is refused because the first one, whose answer was lost, did it."""
    if wanted is State.TERMINATED and isinstance(failure, InstanceNotFound):
        return Instance(id=instance_id, state=wanted)
    if isinstance(failure, IllegalTransition) and failure.details.get("from") == wanted:
        return Instance(id=instance_id, state=wanted)
    return None
