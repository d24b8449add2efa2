# SPDX-License-Identifier: Apache-2.0
"""A lane: a namespace of a real API server, an operator behind a fault proxy, a Redis, and simulated pods.

Nothing collects garbage and nothing runs pods here; the lane does as much of both as the operator can notice.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from redis import Redis

from agentpool_core.cluster import CALL_TOKEN_PUBLIC, CALL_TOKEN_SECRET, REDIS_ADMIN_SECRET
from agentpool_core.names import InstanceKey
from agentpool_operator.kube.client import KubeClient
from agentpool_operator.kube.kinds import (
    INSTANCES,
    LEASES,
    POOLS,
    SECRETS,
    Conflict,
    Kind,
    KubeError,
    Object,
)
from agentpool_operator.reconcile.access import value_of
from agentpool_operator.settings import Settings
from agentpool_rpc.tokens import TokenVerifier
from faults.collector import KINDS, OWNED, collect
from faults.mirror import Mirror, open_mirror
from faults.node import LaneNode
from faults.process import OperatorProcess, Start
from faults.shelf import Shelf
from faults.state import snapshot
from support.apiserver import TOKEN, ApiServer
from support.builders import effective_pool, manifest
from support.faultproxy import FaultProxy, open_proxy, write_kubeconfig
from support.redis import redis_server

POOL = "support"
IMAGE = "registry.test/agent:1"
BROKEN = "registry.test/missing:1"
CONVERGE_SECONDS = 60.0
QUIET_SECONDS = 1.5
LOOK_SECONDS = 0.1
STAYS_SECONDS = 0.3
LEASE_SECONDS, SHORT_LEASE_SECONDS = 15.0, 4.0
"""As deployed, so that a busy machine makes no leader give up; and where the end of a Lease is waited for."""
WATCHES = 4
"""Watches of an operator that leads."""
_numbers = itertools.count(1)


class Lane:
    """See the module.

    Args:
        mirror: of the lane's namespace, for everything that is looked at often.
        client: of the API server, for the lane's user, and where the truth of this moment counts.
        redis: URL of the lane's Redis.
    """

    def __init__(self, mirror: Mirror, client: KubeClient, number: int, folder: Path, redis: str) -> None:
        self.mirror = mirror
        self.client = client
        self.name = name = mirror.namespace
        self.folder = folder
        self._redis = Redis.from_url(redis, protocol=2)
        self._public = ""
        pool = effective_pool(name=POOL).model_copy(update={"namespace": name})
        self.node = LaneNode(mirror, pool, self._verifier, frozenset({BROKEN}), name, number, self._redis)
        self.operators: list[OperatorProcess] = []
        self.plant = ""
        self.resync_seconds, self.lease_seconds = 300.0, LEASE_SECONDS
        self._proxies: list[tuple[FaultProxy, Path]] = []
        self.starts = 0
        self.ended_by_themselves = 0
        self._read = 0
        self._changing = asyncio.Lock()
        self.clean = False
        """An operator leads, and nothing of any pool is left: a life can begin."""

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
            lease_seconds=self.lease_seconds,
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

        await until(key, CONVERGE_SECONDS, "the key of call tokens")

    async def watches(self, through: int = 0) -> None:
        """Wait until an operator leads and watches everything; the first one is looked after meanwhile."""
        proxy = self._proxies[through][0]

        async def watches() -> bool:
            if through == 0:
                await self.supervise()
            return proxy.watching >= WATCHES

        await until(watches, CONVERGE_SECONDS, f"{WATCHES} watches")

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
        while (present := await self.client.get(POOLS, self.name, name)) is not None:
            body["metadata"] = {**present["metadata"], "managedFields": None}
            try:
                return await self.mirror.replace(POOLS, self.name, body)
            except Conflict:
                # The operator wrote the status in between.
                continue
        return await self.mirror.create(POOLS, self.name, body)

    async def instance(self, name: str, **spec: Any) -> Object:
        """Declare an instance, or change its spec."""
        wanted = {"pool": POOL, "tenant": "acme", "project": name, **spec}
        return await self.mirror.apply(INSTANCES, self.name, {"metadata": {"name": name}, "spec": wanted})

    async def undeclare(self, name: str) -> None:
        """Delete a declaration, by its user."""
        body = await self.client.get(INSTANCES, self.name, name)
        if body is not None:
            await self._delete(INSTANCES, body)

    async def objects(self) -> dict[str, list[Object]]:
        """Everything of pools, by kind."""
        found = {}
        for kind in KINDS:
            bodies = await self.mirror.list(kind, self.name)
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
        objects = await self.objects()
        living = {one["metadata"]["uid"] for one in objects["AgentPool"]}
        kept = [one for uid in living for one in Shelf(self._redis, uid).values()]
        stored = [f"store keeps {one.project_id}" for one in kept]
        # What a pool leaves in Redis is swept by the next full look; see `swept`.
        redis = [one for one in self.in_redis() if any(uid in one for uid in living)]
        known = {
            InstanceKey(
                self.name, POOL, "acme", one["spec"]["project"]
            ).instance_id: f"<{one['spec']['project']}>"
            for one in objects["AgentInstance"]
        }
        return snapshot(objects, [*held, *stored, *redis], known | {self.name: "<lane>"})

    def in_redis(self) -> list[str]:
        """Users and keys of pools in Redis."""
        users = [user.decode() for user in self._redis.execute_command("ACL", "USERS")]
        keys = [key.decode() for key in self._redis.scan_iter("ap:*")]
        return [f"redis has {one}" for one in (*users, *keys) if one != "default"]

    async def swept(self, seconds: float = CONVERGE_SECONDS) -> list[str]:
        """Wait until nothing of any pool is in Redis; what still is."""
        with contextlib.suppress(TimeoutError):
            await until(lambda: not self.in_redis(), seconds)
        return self.in_redis()

    async def remove(self) -> None:
        """Delete all pools and declared instances, by their user."""
        for kind in (INSTANCES, POOLS):
            for body in await self.client.list(kind, self.name):
                await self._delete(kind, body)

    async def _delete(self, kind: Kind, body: Object) -> None:
        await self.mirror.delete(kind, self.name, body["metadata"]["name"], body["metadata"]["uid"])

    async def settle(self, quiet_seconds: float = QUIET_SECONDS) -> tuple[str, ...]:
        """The state once it is stable and nobody wrote for a while; raises TimeoutError."""
        last: tuple[str, ...] = ()
        writes, since = -1, time.monotonic()

        async def quiet() -> bool:
            nonlocal last, writes, since
            await self.supervise()
            state = await self.state()
            if state != last or self._written() != writes:
                last, writes, since = state, self._written(), time.monotonic()
            return time.monotonic() - since >= quiet_seconds

        await until(quiet, CONVERGE_SECONDS, "an end of changes")
        return last

    def _written(self) -> int:
        return sum(len(proxy.writes) for proxy, _ in self._proxies)

    async def becomes(self, wanted: tuple[str, ...], seconds: float = CONVERGE_SECONDS) -> tuple[str, ...]:
        """Wait until the state is the wanted one and stays so; the last state seen, wanted or not."""
        state: tuple[str, ...] = ()

        async def is_wanted() -> bool:
            nonlocal state
            await self.supervise()
            state = await self.state()
            if state == wanted:
                await asyncio.sleep(STAYS_SECONDS)
                state = await self.state()
            return state == wanted

        with contextlib.suppress(TimeoutError):
            await until(is_wanted, seconds)
        return state

    async def clear(self) -> None:
        """Have the lane as it was at first: by force, with no operator."""
        self.clean = self.node.stuck = False
        self.resync_seconds, self.lease_seconds = 300.0, LEASE_SECONDS
        await self.kill()
        for kind in (*OWNED, POOLS):
            for body in await self.client.list(kind, self.name):
                if body["metadata"]["name"] not in (CALL_TOKEN_SECRET, REDIS_ADMIN_SECRET):
                    await self._delete(kind, body)
        await until(lambda: not self.node.hosts, CONVERGE_SECONDS, "the end of all hosts")
        self.node.forget()
        self._redis.flushall()
        for user in self._redis.execute_command("ACL", "USERS"):
            if user != b"default":
                self._redis.execute_command("ACL", "DELUSER", user)
        for proxy, _ in self._proxies:
            proxy.thaw()
            proxy.reset_count()
            proxy.keep_lists = False

    async def close(self) -> None:
        """End the hosts and the connection to Redis."""
        await self.node.close()
        self._redis.close()


async def until(check: Callable[[], bool | Awaitable[bool]], seconds: float, what: str = "it") -> None:
    """Wait until a check says yes; raises TimeoutError that says what was waited for. Time is counted in
    looks: on a machine that is too busy to look, what is waited for is no faster either."""
    for _ in range(math.ceil(seconds / LOOK_SECONDS)):
        found = check()
        if found if isinstance(found, bool) else await found:
            return
        await asyncio.sleep(LOOK_SECONDS)
    raise TimeoutError(f"{what} was not there in {seconds:g} s")


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
        mirror = await stack.enter_async_context(open_mirror(api, client, name, KINDS))
        lane = Lane(mirror, client, number, folder, redis.url)
        for place in range(2):
            ca_file = api.kubeconfig.parent / "apiserver.crt"
            proxy = await stack.enter_async_context(open_proxy(api.url, ca_file=ca_file, token=TOKEN))
            kubeconfig = folder / f"kubeconfig-{place}"
            write_kubeconfig(kubeconfig, proxy.url)
            lane._proxies.append((proxy, kubeconfig))
        tasks = [asyncio.create_task(one) for one in (lane.node.run(), collect(mirror, client))]
        try:
            yield lane
        finally:
            with contextlib.suppress(KubeError):
                await lane.kill()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await lane.close()
