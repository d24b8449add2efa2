# SPDX-License-Identifier: Apache-2.0
"""A lane: a namespace of a real API server, an operator behind a fault proxy, a Redis, and simulated pods.

Nothing collects garbage and nothing runs pods here; the lane does as much of both as the operator can notice.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import redis.asyncio as redis_client

from agentpool_core.cluster import CALL_TOKEN_PUBLIC, CALL_TOKEN_SECRET, REDIS_ADMIN_SECRET
from agentpool_core.names import InstanceKey
from agentpool_operator.kube.client import KubeClient
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
    KubeError,
    Object,
)
from agentpool_operator.reconcile.access import value_of
from agentpool_operator.settings import Settings
from agentpool_rpc.tokens import TokenVerifier
from faults.node import LaneNode
from faults.process import OperatorProcess, Start
from faults.state import snapshot
from support.apiserver import TOKEN, ApiServer
from support.builders import effective_pool, manifest
from support.faultproxy import FaultProxy, open_proxy, write_kubeconfig
from support.redis import RedisServer, redis_server

POOL = "support"
IMAGE = "registry.test/agent:1"
BROKEN = "registry.test/missing:1"
CONVERGE_SECONDS = 60.0
QUIET_SECONDS = 1.5
COLLECT_SECONDS = 0.5
WATCHES = 4
"""Watches of an operator that leads."""
OWNED = (DEPLOYMENTS, SERVICES, BUDGETS, SECRETS, PODS, INSTANCES)
_numbers = itertools.count(1)


class Lane:
    """See the module."""

    def __init__(self, client: KubeClient, name: str, number: int, folder: Path, redis: RedisServer) -> None:
        self.client = client
        self.name = name
        self.folder = folder
        self.redis = redis
        self._redis = redis_client.Redis.from_url(redis.tcp_url, protocol=2)
        self._public = ""
        pool = effective_pool(name=POOL).model_copy(update={"namespace": name})
        self.node = LaneNode(client, pool, self._verifier, frozenset({BROKEN}), name, number)
        self.operators: list[OperatorProcess] = []
        self.plant = ""
        self.resync_seconds = 300.0
        self._proxies: list[tuple[FaultProxy, Path]] = []
        self.starts = 0
        self.ended_by_themselves = 0
        self._read = 0
        self._changing = asyncio.Lock()

    @property
    def proxy(self) -> FaultProxy:
        """In front of the first operator."""
        return self._proxies[0][0]

    @property
    def second_proxy(self) -> FaultProxy:
        """In front of the second."""
        return self._proxies[1][0]

    @property
    def log(self) -> str:
        """What all operators of the lane wrote since it was last forgotten."""
        path = self.folder / "operator.log"
        return path.read_text()[self._read :] if path.exists() else ""

    def forget_log(self) -> None:
        """Have the log begin anew."""
        self._read += len(self.log)

    def _verifier(self) -> TokenVerifier:
        return TokenVerifier([self._public.encode()], time.time)

    # Operators

    async def start(self, through: int = 0) -> OperatorProcess:
        """Start an operator behind a proxy."""
        async with self._changing:
            return await self._start(through)

    async def _start(self, through: int) -> OperatorProcess:
        self.starts += 1
        settings = Settings(
            namespace=self.name,
            watch_namespaces=(self.name,),
            identity=f"{self.name}-{self.starts}",
            agent_image=IMAGE,
            resync_seconds=self.resync_seconds,
            lease_seconds=4.0,
            workers=4,
            health_port=0,
            metrics_port=0,
            log_level="INFO",
        )
        start = Start(settings, self._proxies[through][1], self.folder / "operator.log", self.plant)
        operator = OperatorProcess(start)
        await operator.start()
        self.operators.append(operator)
        return operator

    async def ready(self) -> None:
        """Wait until the call-token key is there: the operator leads."""

        async def key() -> bool:
            secret = await self.client.get(SECRETS, self.name, CALL_TOKEN_SECRET)
            self._public = value_of(secret, CALL_TOKEN_PUBLIC)
            return bool(self._public)

        await until(key, CONVERGE_SECONDS)

    async def watches(self, through: int = 0) -> None:
        """Wait until an operator leads and watches everything."""
        proxy = self._proxies[through][0]
        await until(lambda: proxy.watching >= WATCHES, CONVERGE_SECONDS)

    async def kill(self) -> None:
        """SIGKILL every operator. Their Lease goes too: all of them are known to be dead."""
        async with self._changing:
            for operator in self.operators:
                await operator.kill()
            self.operators.clear()
        for body in await self.client.list(LEASES, self.name):
            await self._delete(LEASES, body)

    async def supervise(self) -> None:
        """Start an operator when the last one ended by itself, as a kubelet would."""
        async with self._changing:
            if self.operators and not any(one.alive for one in self.operators):
                self.operators.clear()
                self.ended_by_themselves += 1
                await self._start(0)

    # Objects

    async def pool(self, spec: Mapping[str, Any], name: str = POOL) -> Object:
        """Make the pool, or change its spec."""
        body = manifest(spec, name=name)
        present = await self.client.get(POOLS, self.name, name)
        if present is None:
            return await self.client.create(POOLS, self.name, body)
        body["metadata"] = {**present["metadata"], "managedFields": None}
        return await self.client.replace(POOLS, self.name, body)

    async def instance(self, name: str, **spec: Any) -> Object:
        """Declare an instance, or change its spec."""
        wanted = {"pool": POOL, "tenant": "acme", "project": name, **spec}
        return await self.client.apply(INSTANCES, self.name, {"metadata": {"name": name}, "spec": wanted})

    async def objects(self) -> dict[str, list[Object]]:
        """Everything of pools, by kind."""
        found = {}
        for kind in (POOLS, *OWNED):
            bodies = await self.client.list(kind, self.name)
            release = (CALL_TOKEN_SECRET, REDIS_ADMIN_SECRET)
            found[kind.kind] = [one for one in bodies if one["metadata"]["name"] not in release]
        return found

    async def state(self) -> tuple[str, ...]:
        """The normalised state, hosts included."""
        held = [
            f"{host.status.role} host holds {one.project_id} {one.tier} {one.state} {one.origin}"
            for host in self.node.hosts.values()
            for one in host.instances.values()
        ]
        stored = [f"store keeps {one.project_id}" for one in self.node.stored()]
        objects = await self.objects()
        living = {one["metadata"]["uid"] for one in objects["AgentPool"]}
        # What a pool leaves in Redis is swept by the next resync, which is not waited for here.
        redis = [one for one in await self.in_redis() if any(uid in one for uid in living)]
        known = {
            InstanceKey(
                self.name, POOL, "acme", one["spec"]["project"]
            ).instance_id: f"<{one['spec']['project']}>"
            for one in objects["AgentInstance"]
        }
        return snapshot(objects, [*held, *stored, *redis], known | {self.name: "<lane>"})

    async def in_redis(self) -> list[str]:
        """Users and keys of pools in Redis."""
        users = await self._redis.execute_command("ACL", "USERS")
        keys = [key.decode() async for key in self._redis.scan_iter("ap:*")]
        return [f"redis has {one}" for one in [*(user.decode() for user in users), *keys]]

    async def remove(self) -> None:
        """Delete all pools and declared instances, by their user."""
        for kind in (INSTANCES, POOLS):
            for body in await self.client.list(kind, self.name):
                await self._delete(kind, body)

    async def _delete(self, kind: Kind, body: Object) -> None:
        await self.client.delete(kind, self.name, body["metadata"]["name"], body["metadata"]["uid"])

    async def collect(self) -> None:
        """Delete what belongs to nothing that is there: the garbage collector's work, for ever."""
        while True:
            await asyncio.sleep(COLLECT_SECONDS)
            with contextlib.suppress(KubeError):
                await self._collect()

    async def _collect(self) -> None:
        # What is owned before what owns: an owner that is missing then was there, and is gone.
        kinds = (PODS, SECRETS, SERVICES, BUDGETS, DEPLOYMENTS, INSTANCES, POOLS)
        found = {kind: await self.client.list(kind, self.name) for kind in kinds}
        living = {one["metadata"]["uid"] for bodies in found.values() for one in bodies}
        deployments = {one["metadata"]["name"] for one in found[DEPLOYMENTS]}
        for kind in OWNED:
            for body in found[kind]:
                owners = body["metadata"].get("ownerReferences") or ()
                orphan = bool(owners) and all(one["uid"] not in living for one in owners)
                replica = kind is PODS and not owners and body["metadata"]["name"][:-7] not in deployments
                if orphan or replica:
                    await self._delete(kind, body)

    async def settle(self, quiet_seconds: float = QUIET_SECONDS) -> tuple[str, ...]:
        """The state once it is stable and nobody wrote for a while; raises TimeoutError."""
        async with asyncio.timeout(CONVERGE_SECONDS):
            last = await self.state()
            writes, since = self._written(), time.monotonic()
            while time.monotonic() - since < quiet_seconds:
                await asyncio.sleep(0.2)
                await self.supervise()
                state = await self.state()
                if state != last or self._written() != writes:
                    last, writes, since = state, self._written(), time.monotonic()
            return last

    def _written(self) -> int:
        return sum(len(proxy.writes) for proxy, _ in self._proxies)

    async def becomes(self, wanted: tuple[str, ...], seconds: float = CONVERGE_SECONDS) -> tuple[str, ...]:
        """Wait until the state is the wanted one and stays so; the last state seen, wanted or not."""
        end = time.monotonic() + seconds
        while True:
            state = await self.state()
            if state == wanted:
                await asyncio.sleep(0.3)
                if await self.state() == wanted:
                    return wanted
            if time.monotonic() > end:
                return state
            await asyncio.sleep(0.15)
            await self.supervise()

    async def clear(self) -> None:
        """Have the lane empty, by force, with no operator."""
        await self.kill()
        for kind in (*OWNED, POOLS):
            for body in await self.client.list(kind, self.name):
                if body["metadata"]["name"] not in (CALL_TOKEN_SECRET, REDIS_ADMIN_SECRET):
                    await self._delete(kind, body)
        await until(lambda: not self.node.hosts, CONVERGE_SECONDS)
        self.node.forget()
        await self._redis.flushall()
        for user in await self._redis.execute_command("ACL", "USERS"):
            if user != b"default":
                await self._redis.execute_command("ACL", "DELUSER", user)
        for proxy, _ in self._proxies:
            proxy.thaw()
            proxy.reset_count()

    async def close(self) -> None:
        """End the hosts and the connection to Redis."""
        await self.node.close()
        await self._redis.aclose()


async def until(check: Callable[[], bool | Awaitable[bool]], seconds: float) -> None:
    """As `support.waiting.eventually`, at a pace that leaves the processor to others."""
    async with asyncio.timeout(seconds):
        while True:
            found = check()
            if found if isinstance(found, bool) else await found:
                return
            await asyncio.sleep(0.1)


async def _keep_namespace(api: ApiServer, name: str) -> None:
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    await asyncio.to_thread(api.create, "/api/v1/namespaces", body)


@asynccontextmanager
async def open_lane(api: ApiServer, client: KubeClient) -> AsyncIterator[Lane]:
    """A lane of its own; everything of it ends with the block."""
    number = next(_numbers)
    name = f"lane-{number}"
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ap-faults-")))
        redis = stack.enter_context(redis_server(append=True))
        await _keep_namespace(api, name)
        secret = {"metadata": {"name": REDIS_ADMIN_SECRET}, "stringData": {"url": redis.tcp_url}}
        await client.apply(SECRETS, name, secret)
        lane = Lane(client, name, number, folder, redis)
        for place in range(2):
            ca_file = api.kubeconfig.parent / "apiserver.crt"
            proxy = await stack.enter_async_context(open_proxy(api.url, ca_file=ca_file, token=TOKEN))
            kubeconfig = folder / f"kubeconfig-{place}"
            write_kubeconfig(kubeconfig, proxy.url)
            lane._proxies.append((proxy, kubeconfig))
        tasks = [asyncio.create_task(one) for one in (lane.node.run(), lane.collect())]
        try:
            yield lane
        finally:
            with contextlib.suppress(KubeError):
                await lane.kill()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await lane.close()
