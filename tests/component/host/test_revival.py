# SPDX-License-Identifier: Apache-2.0
"""HOT instances come back by themselves; others wait for a request."""

from __future__ import annotations

import asyncio

import pytest

from agentpool_core.errors import AgentPoolError, InstanceCrashed
from agentpool_proto.v1 import host_pb2
from agentpool_proto.v1.types_pb2 import Instance
from support.hosts import HostPod, host_pod, instance_id, pool_config
from support.redis import RedisServer

ID = instance_id("t", "p")
CONFIG = pool_config(agent="support.agents.fragile:Fragile", storage="Redis")


async def activate(pod: HostPod) -> Instance:
    """Activate the HOT instance of a pod, as the operator does, and give it some state."""
    request = host_pb2.ActivateRequest(tenant_id="t", project_id="p", tier="HOT")
    found: Instance = await pod.client.call("Activate", request)
    await pod.client.invoke("t", "p", "add")
    return found


async def without_a_request(pod: HostPod) -> Instance:
    """The instance once it is READY again although nobody asked for it."""
    return await pod.client.until(ID, lambda one: one.state == "READY" and one.pod == pod.name, 15.0)


async def test_a_hot_instance_comes_back_without_a_request(redis: RedisServer) -> None:
    async with host_pod(CONFIG, redis_url=redis.url, tiers="HOT") as pod:
        before = await activate(pod)
        with pytest.raises(AgentPoolError):
            await pod.client.invoke("t", "p", "crash")
        crashed = await without_a_request(pod)
        assert pod.zygote is not None
        pod.zygote.kill()
        await pod.client.until(ID, lambda one: one.state != "READY")
        replaced = await without_a_request(pod)
        await pod.kill_host()
        await pod.start_host()
        restarted = await without_a_request(pod)
        assert (await pod.client.invoke("t", "p", "add")).output == 2

    assert before.epoch < crashed.epoch < replaced.epoch < restarted.epoch


async def test_a_warm_instance_waits_for_its_request(redis: RedisServer) -> None:
    async with host_pod(CONFIG, redis_url=redis.url) as pod:
        await pod.client.invoke("t", "p", "add")
        with pytest.raises(InstanceCrashed):
            await pod.client.invoke("t", "p", "crash")
        await asyncio.sleep(2.5)
        assert (await pod.client.operate("Get", ID)).state == "ERROR"
