# SPDX-License-Identifier: Apache-2.0
"""Redis in trouble under a whole pool: gateway, host, workers and Redis as processes, a TCP proxy between.

Counters are incremented under each trouble. An increment that was acknowledged is there once, whatever
happened.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from redis.asyncio import Redis

from agentpool_core.config import EffectivePool
from agentpool_core.names import StoreKeys
from faults.findings import Findings
from support.gateways import GatewayProcess, HostEntry, running_gateway
from support.hosts import COUNTER, HostPod, host_pod, instance_id, pool_config
from support.redis import RedisServer, redis_server
from support.spine import KEYS
from support.tcpproxy import TcpProxy, open_tcp_proxy

CALLERS = 3
TROUBLE_SECONDS = 3.0
ANSWER_SECONDS = 60.0
PAUSE_SECONDS = 0.05


@dataclass(slots=True)
class Pool:
    """What runs, and what its callers were told."""

    config: EffectivePool
    redis: RedisServer
    proxy: TcpProxy
    pod: HostPod
    gateway: GatewayProcess
    acknowledged: dict[str, list[int]] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    async def increment(self, project: str, key: str) -> None:
        """One increment, sent until it is acknowledged."""
        async with asyncio.timeout(ANSWER_SECONDS):
            for pause in itertools.repeat(PAUSE_SECONDS):
                if await self._sent(project, key):
                    return
                await asyncio.sleep(pause)

    async def _sent(self, project: str, key: str) -> bool:
        try:
            answer = await self.invoke(project, "add", key)
        except httpx.TransportError:
            return False
        if answer.status_code == 200:
            self.acknowledged.setdefault(project, []).append(answer.json()["output"])
            return True
        code = answer.json()["code"]
        self.refused[code] = self.refused.get(code, 0) + 1
        if not answer.json()["retryable"]:
            self.wrong.append(f"refused for good with {code}")
        return not answer.json()["retryable"]

    async def invoke(self, project: str, body: str, key: str = "") -> httpx.Response:
        """One request over REST."""
        headers = {"idempotency-key": key} if key else {}
        envelope = {"tenant_id": "acme", "project_id": project, "input": body}
        async with httpx.AsyncClient(base_url=self.gateway.url, timeout=30, trust_env=False) as client:
            return await client.post("/api/v1/pool/invoke", json=envelope, headers=headers)

    async def count(self, project: str) -> int:
        """How far a counter is, once anybody can tell."""
        async with asyncio.timeout(ANSWER_SECONDS):
            while True:
                with contextlib.suppress(httpx.TransportError):
                    answer = await self.invoke(project, "get")
                    if answer.status_code == 200:
                        found: int = answer.json()["output"]
                        return found
                await asyncio.sleep(PAUSE_SECONDS)


def exactly_once(acknowledged: Sequence[int], count: int) -> str:
    """What is wrong with the answers to increments of one counter, given how far it is; empty: nothing.

    Each answer is the counter's value after the increment: a lost one shows as a value that comes twice, or
    as a counter that stands below its answers; a doubled one as a value that never comes.
    """
    expected = list(range(1, len(acknowledged) + 1))
    if sorted(acknowledged) != expected:
        doubles = sorted({one for one in acknowledged if acknowledged.count(one) > 1})
        missing = sorted(set(expected) - set(acknowledged))
        return f"values that came twice {doubles[:5]}, that never came {missing[:5]}"
    if count != len(acknowledged):
        return f"{len(acknowledged)} increments acknowledged, and the counter is at {count}"
    return ""


@asynccontextmanager
async def _running(config: EffectivePool) -> AsyncIterator[Pool]:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ap-stores-")))
        arguments = ("--appendfsync", "always")
        redis = stack.enter_context(redis_server(append=True, arguments=arguments))
        proxy = await stack.enter_async_context(open_tcp_proxy("127.0.0.1", redis.port))
        pod = await stack.enter_async_context(host_pod(config, redis_url=f"redis://127.0.0.1:{proxy.port}"))
        entries = [HostEntry(pod.name, pod.uid, pod.address)]
        gateway = await stack.enter_async_context(
            running_gateway(folder / "gateway", KEYS, [(config, entries)])
        )
        await gateway.sees(1)
        yield Pool(config, redis, proxy, pod, gateway)


Trouble = Callable[[Pool], Awaitable[None]]


async def down(pool: Pool) -> None:
    """Redis is killed, and comes back with what it had."""
    pool.redis.stop()
    await asyncio.sleep(TROUBLE_SECONDS)
    await asyncio.to_thread(pool.redis.start)


async def slow(pool: Pool) -> None:
    """Every answer of Redis takes 200 ms."""
    pool.proxy.delay_seconds = 0.2
    await asyncio.sleep(TROUBLE_SECONDS)
    pool.proxy.delay_seconds = 0.0


async def cut(pool: Pool) -> None:
    """Connections break in the middle of answers, again and again."""
    for _ in range(10):
        pool.proxy.cut_after = 3
        await asyncio.sleep(TROUBLE_SECONDS / 10)
    pool.proxy.cut_after = None


async def full(pool: Pool) -> None:
    """Redis has no memory left and refuses writes."""
    admin = Redis.from_url(pool.redis.tcp_url, protocol=2)
    await admin.config_set("maxmemory-policy", "noeviction")
    await admin.config_set("maxmemory", 1)
    await asyncio.sleep(TROUBLE_SECONDS)
    await admin.config_set("maxmemory", 0)
    await admin.aclose()


async def frozen(pool: Pool) -> None:
    """Redis accepts everything and answers nothing."""
    pool.redis.freeze()
    await asyncio.sleep(TROUBLE_SECONDS)
    pool.redis.thaw()


async def emptied(pool: Pool) -> None:
    """Redis loses everything; the host still holds its instances."""
    admin = Redis.from_url(pool.redis.tcp_url, protocol=2)
    await admin.flushall()
    await admin.aclose()
    await asyncio.sleep(TROUBLE_SECONDS)


async def mistyped(pool: Pool) -> None:
    """Another instance's record is of a type that no script expects: that one alone is refused."""
    admin = Redis.from_url(pool.redis.tcp_url, protocol=2)
    await admin.rpush(StoreKeys(pool.config.uid).record(instance_id("acme", "broken")), "not a record")
    answer = await pool.invoke("broken", "get")
    if answer.status_code == 200 or "code" not in answer.json():
        pool.wrong.append(f"a damaged record is answered {answer.status_code}: {answer.text[:200]}")
    await admin.aclose()


TROUBLES: Mapping[str, Trouble] = {
    "Redis down": down,
    "Redis slow": slow,
    "Redis cut in mid-answer": cut,
    "Redis full": full,
    "Redis frozen": frozen,
    "Redis emptied": emptied,
    "a record of the wrong type": mistyped,
}


async def _load(pool: Pool, caller: int, stop: asyncio.Event) -> None:
    number = 0
    while not stop.is_set():
        await pool.increment(f"counter-{caller % 2}", f"caller-{caller}-{number}")
        number += 1
        await asyncio.sleep(PAUSE_SECONDS)


async def suffer(name: str, findings: Findings) -> None:
    """Load before, during and after one trouble, then count."""
    config = pool_config(agent=COUNTER, storage="Redis")
    async with _running(config) as pool:
        stop = asyncio.Event()
        try:
            async with asyncio.TaskGroup() as tasks:
                for caller in range(CALLERS):
                    tasks.create_task(_load(pool, caller, stop))
                await asyncio.sleep(1.0)
                await TROUBLES[name](pool)
                await asyncio.sleep(1.0)
                stop.set()
        except* TimeoutError:
            findings.violate(name, f"no answer in {ANSWER_SECONDS:g} s; refused so far: {pool.refused}")
        findings.tried["Redis faults"] += 1
        for project, values in pool.acknowledged.items():
            findings.tried["increments under Redis faults"] += len(values)
            wrong = exactly_once(values, await pool.count(project))
            if wrong:
                findings.violate(name, f"{project}: {wrong}")
        for wrong in pool.wrong[:3]:
            findings.violate(name, wrong)


async def unsaved_answers(findings: Findings) -> None:
    """The planted bug: answers leave before the state is saved, and then the host is killed."""
    config = pool_config(agent=COUNTER, storage="Redis", durability="Interval", interval_seconds=3600)
    async with _running(config) as pool:
        for _ in range(5):
            # Without a key: a keyed request is saved before its answer whatever the durability.
            await pool.increment("counter-0", "")
        await pool.pod.kill_host()
        await pool.pod.start_host()
        found = exactly_once(pool.acknowledged["counter-0"], await pool.count("counter-0"))
        findings.planted["acknowledged increments"] = ("unsaved answers", bool(found))
