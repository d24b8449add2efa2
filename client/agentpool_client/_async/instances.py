# SPDX-License-Identifier: Apache-2.0
"""What one can do with the instances of a pool besides sending them requests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

from agentpool_client._async.calls import Calls
from agentpool_client.answers import InstanceInfo, instance_of
from agentpool_core.lifecycle import State, Tier
from agentpool_proto.v1 import gateway_pb2

PAGE = 500


class Instances:
    """The instances of a pool: `AgentPool.instances`.

    All of these can be done twice with the same result, so they are sent again after whatever says that it
    helps.
    """

    def __init__(self, calls: Calls, pool: gateway_pb2.PoolRef) -> None:
        self._calls = calls
        self._pool = pool

    async def list(
        self,
        *,
        tenant_id: str = "",
        project_id: str = "",
        tier: Tier | str = "",
        state: State | str = "",
    ) -> AsyncIterator[InstanceInfo]:
        """All instances that match, in the order of their ids, read page by page."""
        cursor = ""
        while True:
            request = gateway_pb2.ListInstancesRequest(
                pool=self._pool,
                tenant_id=tenant_id,
                project_id=project_id,
                tier=tier,
                state=state,
                cursor=cursor,
                limit=PAGE,
            )
            page = await self._calls.call(lambda stub: stub.ListInstances, request)
            for one in page.instances:
                yield instance_of(one)
            cursor = page.cursor
            if not cursor:
                return

    async def get(self, instance_id: str) -> InstanceInfo:
        """One instance, wherever it is; InstanceNotFound."""
        return await self._one(lambda stub: stub.GetInstance, instance_id)

    async def create(self, tenant_id: str, project_id: str, tier: Tier | str = "") -> InstanceInfo:
        """Make an instance resident without a request."""
        request = gateway_pb2.CreateInstanceRequest(
            pool=self._pool, tenant_id=tenant_id, project_id=project_id, tier=tier
        )
        return instance_of(await self._calls.call(lambda stub: stub.CreateInstance, request))

    async def pause(self, instance_id: str) -> InstanceInfo:
        """Keep its state, end its process, refuse requests until it is resumed; a busy one when it is
        done."""
        return await self._one(lambda stub: stub.PauseInstance, instance_id)

    async def resume(self, instance_id: str) -> InstanceInfo:
        """Lift a pause, or an ERROR."""
        return await self._one(lambda stub: stub.ResumeInstance, instance_id)

    async def terminate(self, instance_id: str) -> InstanceInfo:
        """End it and erase its state; a busy one when it is done."""
        return await self._one(lambda stub: stub.TerminateInstance, instance_id)

    async def move(self, instance_id: str, tier: Tier | str) -> InstanceInfo:
        """Give it another tier, with its state; `AUTO`: its present one, which the pool may change."""
        request = gateway_pb2.MoveInstanceRequest(pool=self._pool, instance_id=instance_id, tier=tier)
        return instance_of(await self._calls.call(lambda stub: stub.MoveInstance, request))

    async def _one(self, method: Callable[[Any], Any], instance_id: str) -> InstanceInfo:
        request = gateway_pb2.PoolInstanceRequest(pool=self._pool, instance_id=instance_id)
        return instance_of(await self._calls.call(method, request))
