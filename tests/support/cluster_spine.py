# SPDX-License-Identifier: Apache-2.0
"""Real hosts as the pods of a cluster: API server and kubelet are stand-ins, everything else is real."""

from __future__ import annotations

import asyncio
import signal
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

from agentpool_core.cluster import CONTAINER_HOST, HOST_PORT
from agentpool_core.config import EffectivePool
from support.builders import manifest, pod
from support.gateways import GatewayProcess, running_gateway
from support.hosts import HostPod, create_pool
from support.kube_api import PODS, POOLS, KubeApi, kube_api
from support.redis import RedisServer, redis_server
from support.spine import KEYS

_addresses = count(1)


@dataclass
class ClusterSpine:
    """Handles on everything that runs."""

    config: EffectivePool
    api: KubeApi
    redis: RedisServer
    pods: list[HostPod]
    gateway: GatewayProcess
    started: str

    def headers(self) -> dict[str, str]:
        """Of a caller that the gateway knows."""
        return {"authorization": f"Bearer {self.api.account('team', 'app')}"}

    def pod(self, name: str) -> HostPod:
        """A pod by its name."""
        return next(pod for pod in self.pods if pod.name == name)

    def signal(self, pod: HostPod, number: signal.Signals) -> None:
        """Send a signal to a pod's host."""
        assert pod.host is not None
        pod.host.send_signal(number)

    async def show(self, pod: HostPod, **facts: Any) -> None:
        """What the kubelet says of a pod: see `support.builders.pod`."""
        await self.api.put(PODS, self._body(pod, **facts))

    async def show_ready(self, pod: HostPod, ready: bool) -> None:
        """The result of the pod's readiness probes."""
        now = datetime.now(UTC).isoformat()
        condition = {"type": "Ready", "status": str(ready), "lastTransitionTime": now}
        await self.show(pod, conditions=[condition])

    async def vanish(self, pod: HostPod) -> None:
        """The pod is deleted by force: its processes are killed, its object is gone."""
        await pod.close()
        self.pods.remove(pod)
        await self.api.delete(PODS, pod.name)

    def _body(self, one: HostPod, **facts: Any) -> dict[str, Any]:
        running: Sequence[Mapping[str, Any]] = [
            {"name": CONTAINER_HOST, "state": {"running": {"startedAt": self.started}}}
        ]
        ip = one.address.rpartition(":")[0]
        return pod(one.name, uid=one.uid, pool_uid=self.config.uid, ip=ip, **{"hosts": running, **facts})


@asynccontextmanager
async def cluster_spine(
    config: EffectivePool, roles: Sequence[Mapping[str, Any]]
) -> AsyncIterator[ClusterSpine]:
    """A gateway in front of one host for each of `roles`, which are options of `support.hosts.host_pod`."""
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ap-cluster-")))
        redis = stack.enter_context(redis_server(append=True))
        api = await stack.enter_async_context(kube_api())
        await create_pool(config, redis.url)
        pods = await asyncio.gather(*(_start(stack, config, redis, role) for role in roles))
        spec = manifest()
        uid = {"namespace": config.namespace, "uid": config.uid, "generation": 1}
        spec["metadata"] |= uid
        spec["status"] = {"effective": config.model_dump(mode="json")}
        await api.put(POOLS, spec)
        started = datetime.now(UTC).isoformat()
        made = ClusterSpine(config, api, redis, list(pods), None, started)  # type: ignore[arg-type]
        for one in pods:
            await made.show(one)
        settings = {
            "membership_file": None,
            "default_pool": f"{config.namespace}/{config.name}",
            "kubernetes": {"kubeconfig": str(api.kubeconfig(directory / "kubeconfig"))},
            "auth": {"cluster_issuer": True},
        }
        made.gateway = await stack.enter_async_context(
            running_gateway(directory / "gateway", KEYS, [], **settings)
        )
        await made.gateway.sees(len(pods))
        yield made


async def _start(
    stack: AsyncExitStack, config: EffectivePool, redis: RedisServer, role: Mapping[str, Any]
) -> HostPod:
    number = next(_addresses)
    one = HostPod(config, {"redis_url": redis.url, **role})
    one.address = f"127.79.{number // 250}.{number % 250 + 1}:{HOST_PORT}"
    stack.push_async_callback(one.close)
    await one.start_host()
    await one.start_zygote()
    await one.wait_ready()
    return one
