# SPDX-License-Identifier: Apache-2.0
"""An operator in this process, on a real API server, with a simulated node."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from agentpool_core.cluster import CALL_TOKEN_PUBLIC, CALL_TOKEN_SECRET, REDIS_ADMIN_SECRET
from agentpool_operator.app import App
from agentpool_operator.kube.client import KubeClient, connect
from agentpool_operator.kube.kinds import (
    BUDGETS,
    DEPLOYMENTS,
    INSTANCES,
    LEASES,
    PODS,
    POOLS,
    SECRETS,
    SERVICES,
    Kind,
    Object,
)
from agentpool_operator.reconcile.access import value_of
from agentpool_operator.settings import Settings
from agentpool_rpc.tokens import TokenVerifier
from support.apiserver import ApiServer
from support.builders import effective_pool, manifest
from support.fake_hosts import PodHost, SimulatedNode
from support.waiting import eventually

RELEASE = "kube-system"
"""Namespace of the release: one that every API server has."""
IMAGE = "registry.test/agent:1"
BROKEN = "registry.test/missing:1"
SECONDS = 20.0


class Scene:
    """What a test acts on."""

    def __init__(self, client: KubeClient, settings: Settings) -> None:
        self.client = client
        self._settings = settings
        self._public = ""
        self.node = SimulatedNode(client, effective_pool(), self._verifier, frozenset({BROKEN}))
        self.app: App | None = None
        self._task: asyncio.Task[int] | None = None
        self.node_task: asyncio.Task[None] | None = None

    def _verifier(self) -> TokenVerifier:
        return TokenVerifier([self._public.encode()], time.time)

    async def start(self) -> None:
        """Have an operator lead."""
        self.app = App(self._settings, self.node.address)
        self._task = asyncio.create_task(self.app.run())

        async def key() -> bool:
            secret = await self.client.get(SECRETS, RELEASE, CALL_TOKEN_SECRET)
            self._public = value_of(secret, CALL_TOKEN_PUBLIC)
            return bool(self._public)

        await self.until(key)

    async def stop(self) -> int:
        """End the operator as SIGTERM does; its exit status."""
        assert self.app is not None
        assert self._task is not None
        self.app.stopping.set()
        status = await self._task
        self.app = self._task = None
        return status

    async def pool(self, spec: Mapping[str, Any] | None = None, name: str = "support") -> Object:
        """Make a pool, or change its spec."""
        body = manifest(spec, name=name)
        return await self.client.apply(POOLS, "default", {"metadata": body["metadata"], "spec": body["spec"]})

    async def instance(self, name: str, project: str, **spec: Any) -> Object:
        """Declare an instance of pool support, or change its spec."""
        wanted = {"pool": "support", "tenant": "acme", "project": project, **spec}
        return await self.client.apply(INSTANCES, "default", {"metadata": {"name": name}, "spec": wanted})

    async def pods(self, role: str = "") -> list[Object]:
        """The pods of a role."""
        selector = f"agentpool.dev/role={role}" if role else ""
        return await self.client.list(PODS, "default", selector)

    async def host(self, role: str) -> PodHost:
        """Some host of a role."""
        return self.node.hosts[(await self.pods(role))[0]["metadata"]["uid"]]

    async def status(self, kind: Kind, name: str) -> Object:
        """The status of an object, empty when there is none."""
        body = await self.client.get(kind, "default", name)
        return (body or {}).get("status") or {}

    async def condition(self, name: str = "support", kind: str = "Ready", of: Kind = POOLS) -> Object:
        """A condition of a pool."""
        conditions = (await self.status(of, name)).get("conditions") or ()
        return next((one for one in conditions if one["type"] == kind), {})

    async def ready(self, name: str = "support") -> bool:
        """Whether a pool is Ready for its present spec, and its waiting pods wait."""
        body = await self.client.get(POOLS, "default", name)
        status = (body or {}).get("status") or {}
        generic = status.get("generic") or {}
        now = {one["type"]: one["status"] for one in status.get("conditions") or ()}
        current = status.get("observedGeneration") == (body or {"metadata": {}})["metadata"].get("generation")
        return current and now.get("Ready") == "True" and generic.get("ready") == generic.get("wanted")

    async def until(self, check: Callable[[], Any], seconds: float = SECONDS) -> None:
        """Wait until a check says yes; TimeoutError otherwise."""
        for task in (self._task, self.node_task):
            if task is not None and task.done():
                task.result()
        try:
            await eventually(check, seconds)
        except TimeoutError:
            if self.node_task is not None and self.node_task.done():
                self.node_task.result()
            pools = await self.client.list(POOLS, "default")
            told = [one.get("status", {}).get("conditions") for one in pools]
            raise TimeoutError(f"{check} said no for {seconds:g} s; pools say {told}") from None

    async def clear(self) -> None:
        """Remove what the test made: nothing collects garbage here."""
        for kind in (INSTANCES, POOLS, DEPLOYMENTS, BUDGETS, SERVICES, PODS):
            for body in await self.client.list(kind, "default"):
                if body["metadata"]["name"] != "kubernetes":
                    await self.client.delete(
                        kind, "default", body["metadata"]["name"], body["metadata"]["uid"]
                    )
        for body in await self.client.list(SECRETS, "default"):
            await self.client.delete(SECRETS, "default", body["metadata"]["name"], body["metadata"]["uid"])
        for body in await self.client.list(LEASES, RELEASE):
            await self.client.delete(LEASES, RELEASE, body["metadata"]["name"], body["metadata"]["uid"])


def operator_settings(**changes: Any) -> Settings:
    """The settings of an operator that shows everything soon."""
    return Settings(
        **{
            "namespace": RELEASE,
            "identity": f"operator-{time.monotonic_ns()}",
            "agent_image": IMAGE,
            "resync_seconds": 2.0,
            "lease_seconds": 3.0,
            "health_port": 0,
            "metrics_port": 0,
            **changes,
        }
    )


@asynccontextmanager
async def open_scene(api: ApiServer, redis_url: str, **changes: Any) -> AsyncIterator[Scene]:
    """An operator that leads and a node; both end with the block, and nothing is left."""
    connection = await connect()
    # So that the audit tells the test's own writes from the operator's.
    connection.user_agent = "test"
    client = KubeClient(connection)
    secret = {"metadata": {"name": REDIS_ADMIN_SECRET}, "stringData": {"url": redis_url}}
    await client.apply(SECRETS, RELEASE, secret)
    scene = Scene(client, operator_settings(**changes))
    await scene.start()
    scene.node_task = node = asyncio.create_task(scene.node.run())
    try:
        yield scene
    finally:
        if scene.app is not None:
            await scene.stop()
        await scene.clear()
        node.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await node
        await scene.node.close()
        await client.close()
