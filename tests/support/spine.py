# SPDX-License-Identifier: Apache-2.0
"""The whole data plane as real processes: a redis-server, hosts with their zygotes, and gateways."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

from agentpool_core.config import EffectivePool
from support.gateways import CallKeys, GatewayProcess, HostEntry, running_gateway, write_membership
from support.hosts import PRIVATE_KEY, PUBLIC_KEY, HostPod, host_pod
from support.redis import RedisServer, redis_server

KEYS = CallKeys(PRIVATE_KEY, PUBLIC_KEY)
FRESH = httpx.Limits(max_connections=None, max_keepalive_connections=0)
"""A connection for each request: none that broke with a gateway is used again."""
GENERIC = {"role": "Generic", "tiers": "HOT,COLD"}


@dataclass
class Spine:
    """Handles on everything that runs."""

    config: EffectivePool
    redis: RedisServer
    pods: list[HostPod]
    directory: Path
    settings: dict[str, Any] = field(default_factory=dict)
    gateways: list[GatewayProcess] = field(default_factory=list)
    _stacks: list[AsyncExitStack] = field(default_factory=list)
    _client: httpx.AsyncClient = field(default_factory=lambda: httpx.AsyncClient(timeout=30, limits=FRESH))

    def entries(self) -> list[HostEntry]:
        """The hosts as a membership file names them."""
        return [HostEntry(pod.name, pod.uid, pod.address) for pod in self.pods]

    async def start_gateway(self, number: int) -> None:
        """Start gateway `number`, or start it again."""
        stack = AsyncExitStack()
        folder = self.directory / f"gateway-{number}"
        gateway = await stack.enter_async_context(
            running_gateway(folder, KEYS, [(self.config, self.entries())], **self.settings)
        )
        if number < len(self.gateways):
            self.gateways[number], self._stacks[number] = gateway, stack
        else:
            self.gateways.append(gateway)
            self._stacks.append(stack)

    async def kill_gateway(self, number: int) -> None:
        """SIGKILL one gateway."""
        await self.stop_gateway(number, signal.SIGKILL)

    async def stop_gateway(self, number: int, how: signal.Signals = signal.SIGTERM) -> None:
        """End one gateway."""
        await self.gateways[number].stop(how)
        await self._stacks[number].aclose()

    async def restart_host(self, number: int) -> None:
        """SIGKILL one host process and start it again, as a container restart of the same pod."""
        await self.pods[number].kill_host()
        await self.pods[number].start_host()
        for gateway in self.gateways:
            write_membership(gateway.membership_file, [(self.config, self.entries())])

    def workers(self, number: int) -> list[psutil.Process]:
        """The worker processes of one pod."""
        zygote = self.pods[number].zygote
        if zygote is None or zygote.returncode is not None:
            return []
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(zygote.pid).children()
        return []

    def pod(self, name: str) -> HostPod:
        """A pod by its name."""
        return next(pod for pod in self.pods if pod.name == name)

    async def invoke(self, project: str, body: Any, *, gateway: int = 0, **more: Any) -> httpx.Response:
        """One request over REST."""
        headers = {"idempotency-key": more.pop("key")} if "key" in more else {}
        envelope = {"tenant_id": more.pop("tenant", "acme"), "project_id": project, "input": body, **more}
        url = self.gateways[gateway].url
        return await self._client.post(f"{url}/api/v1/pool/invoke", json=envelope, headers=headers)

    async def answer(self, project: str, body: Any, **more: Any) -> dict[str, Any]:
        """One request that must be answered."""
        response = await self.invoke(project, body, **more)
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json()
        return answer

    async def close(self) -> None:
        """End the gateways."""
        await self._client.aclose()
        for stack in self._stacks:
            await stack.aclose()


@asynccontextmanager
async def running_spine(
    config: EffectivePool,
    *,
    hosts: int = 1,
    generic: int = 0,
    gateways: int = 1,
    settings: dict[str, Any] | None = None,
    **options: Any,
) -> AsyncIterator[Spine]:
    """Everything started and ready: shared hosts, then generic ones; `options` go to all of them, `settings`
    to the gateways."""
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ap-spine-")))
        redis = stack.enter_context(redis_server(append=True))
        pods = await asyncio.gather(
            *(
                stack.enter_async_context(host_pod(config, redis_url=redis.url, **role, **options))
                for role in [*([{}] * hosts), *([GENERIC] * generic)]
            )
        )
        spine = Spine(config, redis, list(pods), directory, settings or {})
        stack.push_async_callback(spine.close)
        for number in range(gateways):
            await spine.start_gateway(number)
            await spine.gateways[number].sees(hosts + generic)
        yield spine
