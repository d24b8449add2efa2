# SPDX-License-Identifier: Apache-2.0
"""A worker that crashes, hangs, floods or takes too much hurts its own instance only."""

from __future__ import annotations

import asyncio

import pytest

from agentpool_agent.zygote import procfs
from agentpool_core.errors import AgentPoolError, InstanceCrashed
from support.hosts import COUNTER, FAULTY, host_pod, instance_id, pool_config
from support.redis import RedisServer


@pytest.mark.parametrize(
    ("body", "within"),
    [
        pytest.param("crash", 2.0, id="a crash"),
        pytest.param("hang", 6.0, id="a blocked event loop"),
        pytest.param({"memory": 400 * 1024 * 1024}, 6.0, id="memory over the quota"),
    ],
)
async def test_one_instance_fails_and_its_neighbour_answers(body: object, within: float) -> None:
    config = pool_config(agent=FAULTY, memory_bytes=64 * 1024 * 1024)
    async with host_pod(config, hang_seconds=1) as pod:
        before = await pod.client.invoke("t", "faulty", "hello")
        await pod.client.invoke("t", "neighbour", "hello")
        async with asyncio.timeout(within):
            failing = asyncio.create_task(pod.client.invoke("t", "faulty", body))
            answers = 0
            while not failing.done():
                await pod.client.invoke("t", "neighbour", "still here")
                answers += 1
                await asyncio.sleep(0.01)
        with pytest.raises(AgentPoolError):
            await failing
        after = await pod.client.invoke("t", "faulty", "hello")

    assert answers > 0
    assert after.output == "hello"
    if not isinstance(body, dict):
        assert isinstance(failing.exception(), InstanceCrashed)
        assert after.accepted.epoch > before.accepted.epoch


async def test_a_crash_goes_back_to_the_last_acknowledged_state(redis: RedisServer) -> None:
    async with host_pod(pool_config(agent=COUNTER, storage="Redis"), redis_url=redis.url) as pod:
        await pod.client.invoke("t", "p", "add")
        slow = asyncio.create_task(pod.client.invoke("t", "p", "slow"))
        await asyncio.sleep(0.1)
        assert pod.zygote is not None
        pod.zygote.kill()
        with pytest.raises(InstanceCrashed):
            await slow
        view = await pod.client.operate("Get", instance_id("t", "p"))
        async with asyncio.timeout(10):
            while True:
                try:
                    reply = await pod.client.invoke("t", "p", "add")
                    break
                except AgentPoolError:
                    await asyncio.sleep(0.05)

    assert view.state in ("ERROR", "PAUSED")
    assert reply.output == 2


async def test_a_spinning_instance_is_held_to_its_quota_and_its_neighbour_answers() -> None:
    async with host_pod(pool_config(agent=FAULTY, cpu_millis=20, spares=0)) as pod:
        await pod.client.invoke("t", "spinning")
        assert pod.zygote is not None
        (pid,) = procfs.children(pod.zygote.pid)
        await pod.client.invoke("t", "neighbour")
        spinning = pod.client.begin("t", "spinning", {"spin": 3600}, timeout=30)
        await spinning.read()
        for number in range(50):
            assert (await pod.client.invoke("t", "neighbour", number)).output == number
            await asyncio.sleep(0.1)
        used = procfs.read(pid)
        spinning.cancel()

    # It saved up 0.2 s, is looked at once in a second, and may use 0.02 of a core from then on.
    assert used is not None
    assert used.cpu_seconds < 2.5


async def test_a_flood_ends_as_an_error_of_its_own_request() -> None:
    async with host_pod(pool_config(agent=FAULTY)) as pod:
        await pod.client.invoke("t", "neighbour")
        with pytest.raises(AgentPoolError):
            await pod.client.invoke("t", "flooding", "flood")
        assert (await pod.client.invoke("t", "neighbour", 1)).output == 1


async def test_an_agent_that_cannot_be_imported_is_told_with_its_reason() -> None:
    async with host_pod(None, agent="support.agents.nowhere:Nothing") as pod:
        await pod.client.configure(pool_config())
        async for status in pod.statuses():
            if any("support.agents.nowhere" in problem for problem in status.problems):
                break
        assert not status.ready
        with pytest.raises(AgentPoolError, match="nowhere"):
            await pod.client.invoke("t", "p")
