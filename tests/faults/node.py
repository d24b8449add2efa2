# SPDX-License-Identifier: Apache-2.0
"""A simulated node whose pods have addresses of their own, so that a separate process reaches their hosts."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Callable
from typing import Any

from redis import Redis

from agentpool_core.cluster import HOST_PORT, LABEL_POOL_UID
from agentpool_core.config import EffectivePool
from agentpool_operator.kube.kinds import PODS, Kind, KubeError, Object
from faults.shelf import PoolStore
from support.fake_deployments import DeploymentController
from support.fake_hosts import PodHost, SimulatedNode, running, waiting

POLL_SECONDS = 0.05
DRAIN_SECONDS = 0.1
"""How long a drained host lives on: its last words reach who listens."""


class _Graceful:
    """The client of the Deployments: the host of a pod drains before its object goes."""

    def __init__(self, client: Any, drain: Callable[[str], None]) -> None:
        self._client = client
        self._drain = drain
        self.create = client.create
        self.merge = client.merge

    async def delete(self, kind: Kind, namespace: str, name: str, uid: str) -> None:
        """Drain, then delete."""
        self._drain(uid)
        await asyncio.sleep(DRAIN_SECONDS)
        await self._client.delete(kind, namespace, name, uid)


class LaneNode(SimulatedNode):
    """Runs the pods of one namespace on 127.<number>.x.y.

    Args:
        redis: holds what hosts save.

    Attributes:
        stuck: no pod ever runs, as when none can be scheduled.
    """

    def __init__(
        self,
        client: Any,
        pool: EffectivePool,
        verifier: Any,
        broken: frozenset[str],
        namespace: str,
        number: int,
        redis: Redis,
    ) -> None:
        super().__init__(client, pool, verifier, broken, namespace)
        self._redis = redis
        self._stores: dict[str, PoolStore] = {}
        # Other runs on this machine have other process ids, and so other addresses.
        place = 10 + (os.getpid() * 7 + number) % 240
        self._addresses = (f"127.{place}.{high}.{low}" for high in itertools.count() for low in range(1, 250))
        self.stuck = False
        self.deployments = DeploymentController(_Graceful(client, self._leave), namespace)

    async def run(self) -> None:
        """Look after pods for ever."""
        while True:
            try:
                await self._drain()
                await self.look()
            except KubeError:
                # An object changed between two calls: the next look sees it as it is.
                await asyncio.sleep(POLL_SECONDS)
            await asyncio.sleep(POLL_SECONDS)

    async def _drain(self) -> None:
        """Have the hosts of pods that were deleted let go of what they hold, as a real one does in its grace
        period."""
        present = {body["metadata"]["uid"] for body in await self._client.list(PODS, self._namespace)}
        for uid in self.hosts.keys() - present:
            self._leave(uid)

    def _leave(self, uid: str) -> None:
        host = self.hosts.get(uid)
        if host is not None:
            for instance_id in list(host.instances):
                host.leave(instance_id)

    def store_of(self, body: Object) -> PoolStore:
        """One for each pool: a pool made anew has another UID, and with it another place in the store."""
        uid = body["metadata"]["labels"][LABEL_POOL_UID]
        return self._stores.setdefault(uid, PoolStore(self._redis, uid))

    def forget(self) -> None:
        """Count pods from the beginning."""
        self._stores.clear()
        self.most.clear()

    async def _start(self, body: Object) -> None:
        metadata, image = body["metadata"], body["spec"]["containers"][0]["image"]
        if self.stuck or metadata["uid"] in self.hosts or body.get("status", {}).get("podIP"):
            return
        if image in self._broken:
            if not body["status"].get("containerStatuses"):
                await self._status(metadata["name"], waiting(image))
            return
        host = PodHost(self._pool, self._verifier(), body, self.store_of(body))
        address = next(self._addresses)
        await host.start(HOST_PORT, address)
        self.hosts[metadata["uid"]] = host
        await self._status(metadata["name"], {**running(image), "podIP": address})
