# SPDX-License-Identifier: Apache-2.0
"""Moves between tiers on real hosts: what moves, what waits, and what a refusal leaves behind."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agentpool_core.config import EffectivePool, TierConfig
from agentpool_core.errors import Conflict, Draining, InstanceNotFound, NoHost, PodTaken, PoolExhausted
from agentpool_core.lifecycle import Tier
from agentpool_proto.v1 import host_pb2
from agentpool_proto.v1.types_pb2 import Instance
from support.hosts import COUNTER, HostPod, host_pod, instance_id, pool_config
from support.redis import RedisServer
from support.waiting import eventually

ID = instance_id("t", "p")


async def move(pod: HostPod, tier: str, instance: str = ID, **change: Any) -> Instance:
    """The answer to a Move."""
    request = host_pb2.MoveRequest(instance_id=instance, tier=tier, **change)
    moved: Instance = await pod.client.call("Move", request)
    return moved


def capped(config: EffectivePool, tier: Tier, most: int) -> EffectivePool:
    """The same pool with fewer places in one tier."""
    one = TierConfig(tier=tier, max_instances=most, quota=config.tiers[tier].quota)
    return config.model_copy(update={"tiers": {**config.tiers, tier: one}})


async def test_an_idle_instance_leaves_a_host_that_does_not_take_the_new_tier(redis: RedisServer) -> None:
    config = pool_config(agent=COUNTER, storage="Redis")
    async with (
        host_pod(config, redis_url=redis.url) as shared,
        host_pod(config, redis_url=redis.url, role="Generic", tiers="HOT,COLD") as generic,
    ):
        await shared.client.invoke("t", "p", "add")
        moved = await move(shared, "COLD")
        assert (moved.state, moved.reason, moved.tier) == ("PAUSED", "Evicted", "COLD")
        with pytest.raises(NoHost) as refused:
            await shared.client.invoke("t", "p", "add")
        assert refused.value.details["tier"] == "COLD"
        reply = await generic.client.invoke("t", "p", "add")
        assert (reply.output, reply.accepted.tier) == (2, "COLD")


async def test_an_instance_stays_on_a_host_that_takes_the_new_tier_and_gets_its_quota(
    redis: RedisServer,
) -> None:
    config = pool_config(agent=COUNTER, storage="Redis")
    async with host_pod(config, redis_url=redis.url, role="Generic", tiers="HOT,COLD") as pod:
        before = await pod.client.invoke("t", "p", "add", tier="COLD")
        moved = await move(pod, "HOT")
        assert (moved.state, moved.tier, moved.pod) == ("READY", "HOT", pod.name)
        reply = await pod.client.invoke("t", "p", "add")
        assert (reply.output, reply.accepted.tier) == (2, "HOT")
        assert reply.accepted.epoch > before.accepted.epoch


async def test_a_busy_instance_ends_its_requests_first_and_new_ones_wait(redis: RedisServer) -> None:
    config = pool_config(agent=COUNTER, storage="Redis")
    async with host_pod(config, redis_url=redis.url, role="Generic", tiers="HOT,COLD") as pod:
        await pod.client.invoke("t", "p", "add", tier="COLD")
        slow = asyncio.create_task(pod.client.invoke("t", "p", {"sleep": 1.0}))
        await eventually(lambda: busy(pod), 5)
        moving = asyncio.create_task(move(pod, "HOT"))
        await eventually(lambda: wishes(pod, "Move"), 5)
        new = await pod.client.invoke("t", "p", "add")
        assert slow.done()
        assert (await slow).accepted.tier == "COLD"
        assert (new.output, new.accepted.tier) == (2, "HOT")
        assert (await moving).tier == "HOT"


async def test_a_pause_that_comes_while_it_waits_to_move_takes_the_tier_along(redis: RedisServer) -> None:
    config = pool_config(agent=COUNTER, storage="Redis")
    async with host_pod(config, redis_url=redis.url) as pod:
        await pod.client.invoke("t", "p", "add")
        slow = asyncio.create_task(pod.client.invoke("t", "p", {"sleep": 1.5}))
        await eventually(lambda: busy(pod), 5)
        moving = asyncio.create_task(move(pod, "COLD"))
        await eventually(lambda: wishes(pod, "Move"), 5)
        await pod.client.operate("Pause", ID)
        await asyncio.gather(slow, moving)
        await eventually(lambda: paused_in(pod, "COLD"), 10)


async def paused_in(pod: HostPod, tier: str) -> bool:
    """Whether a user paused the instance, and it is to wake in that tier."""
    found = await pod.client.operate("Get", ID)
    return (found.state, found.reason, found.tier) == ("PAUSED", "UserRequested", tier)


async def busy(pod: HostPod) -> bool:
    """Whether the instance works on a request."""
    return (await pod.client.operate("Get", ID)).state == "BUSY"


async def wishes(pod: HostPod, wish: str) -> bool:
    """Whether the instance has that wish."""
    return (await pod.client.operate("Get", ID)).wish == wish


async def test_a_full_tier_is_refused_and_the_instance_goes_on_where_it_is(redis: RedisServer) -> None:
    config = capped(pool_config(agent=COUNTER, storage="Redis"), Tier.HOT, 0)
    async with host_pod(config, redis_url=redis.url) as pod:
        await pod.client.invoke("t", "p", "add")
        with pytest.raises(PoolExhausted):
            await move(pod, "HOT")
        reply = await pod.client.invoke("t", "p", "add")
        assert (reply.output, reply.accepted.tier, reply.accepted.activated) == (2, "WARM", False)


async def test_an_instance_that_nobody_holds_is_placed_in_the_new_tier(redis: RedisServer) -> None:
    config = pool_config(agent=COUNTER, storage="Redis")
    async with (
        host_pod(config, redis_url=redis.url) as shared,
        host_pod(config, redis_url=redis.url, role="Generic", tiers="HOT,COLD") as generic,
    ):
        await shared.client.invoke("t", "p", "add")
        await shared.client.operate("Pause", ID)
        moved = await move(generic, "HOT")
        assert (moved.state, moved.reason, moved.tier) == ("PAUSED", "UserRequested", "HOT")
        resumed = await generic.client.operate("Resume", ID)
        assert (resumed.state, resumed.tier) == ("READY", "HOT")


async def test_state_in_memory_does_not_leave_its_host() -> None:
    async with host_pod(pool_config(agent=COUNTER)) as pod:
        await pod.client.invoke("t", "p", "add")
        with pytest.raises(Conflict):
            await move(pod, "COLD")
        assert (await pod.client.invoke("t", "p", "add")).output == 2


async def test_an_instance_nobody_knows_cannot_be_moved(redis: RedisServer) -> None:
    async with host_pod(pool_config(storage="Redis"), redis_url=redis.url) as pod:
        with pytest.raises(InstanceNotFound):
            await move(pod, "COLD")


async def test_who_declares_it_and_that_its_tier_is_kept_are_written_down_and_outlive_the_host(
    redis: RedisServer,
) -> None:
    config = pool_config(agent=COUNTER, storage="Redis")
    async with host_pod(config, redis_url=redis.url) as pod:
        await pod.client.invoke("t", "p", "add")
        marked = await move(pod, "", declared_uid="uid-1", pinned=True)
        assert (marked.state, marked.declared_uid, marked.origin) == ("READY", "uid-1", "declared")
        assert marked.pinned
        await pod.drain_host()
        await pod.start_host()
        await pod.wait_ready()
        stored = await pod.client.operate("Get", ID)
        assert (stored.state, stored.declared_uid, stored.pinned) == ("PAUSED", "uid-1", True)
        await pod.client.invoke("t", "p", "add")
        await eventually(lambda: is_pinned(pod), 5)
        assert not (await move(pod, "", pinned=False)).pinned


async def is_pinned(pod: HostPod) -> bool:
    """Whether the resident says that its tier is kept."""
    return (await pod.client.operate("Get", ID)).pinned


async def test_a_host_that_is_reserved_takes_its_instance_alone(redis: RedisServer) -> None:
    config = pool_config(agent=COUNTER, storage="Redis")
    reserved = {"role": "Generic", "tiers": "HOT", "reserved_for": ID}
    async with host_pod(config, redis_url=redis.url, **reserved) as pod:
        with pytest.raises(PodTaken):
            await pod.client.invoke("t", "another", "add", tier="HOT")
        assert (await pod.client.invoke("t", "p", "add", tier="HOT")).output == 1


async def test_an_instance_that_is_sent_away_goes_on_at_another_host_and_nothing_is_lost(
    redis: RedisServer,
) -> None:
    config = pool_config(agent=COUNTER, storage="Redis")
    async with (
        host_pod(config, redis_url=redis.url) as crowded,
        host_pod(config, redis_url=redis.url) as empty,
    ):
        await crowded.client.invoke("t", "p", "add")
        slow = asyncio.create_task(crowded.client.invoke("t", "p", {"sleep": 1.0}))
        await eventually(lambda: busy(crowded), 5)
        sending = asyncio.create_task(move(crowded, "", elsewhere=True))
        await asyncio.sleep(0.2)
        # It waits at the gate, and is told to go elsewhere before anything of it was accepted.
        with pytest.raises(Draining):
            await crowded.client.invoke("t", "p", "add")
        assert slow.done()
        away = await sending
        assert (away.state, away.reason, away.tier, away.wish) == ("PAUSED", "Evicted", "WARM", "")
        reply = await empty.client.invoke("t", "p", "add")
        assert (reply.output, reply.accepted.tier) == (2, "WARM")


async def test_one_that_does_not_get_idle_stays_and_so_does_one_in_a_pods_memory(redis: RedisServer) -> None:
    config = pool_config(agent=COUNTER, storage="Redis")
    async with host_pod(config, redis_url=redis.url) as pod:
        await pod.client.invoke("t", "p", "get")
        slow = asyncio.create_task(pod.client.invoke("t", "p", {"sleep": 8.0}))
        await eventually(lambda: busy(pod), 5)
        with pytest.raises(Conflict, match="does not get idle"):
            await move(pod, "", elsewhere=True)
        assert (await pod.client.invoke("t", "p", "add")).output == 1
        await slow
    async with host_pod(pool_config(agent=COUNTER)) as pod:
        await pod.client.invoke("t", "p", "add")
        with pytest.raises(Conflict, match="memory of this host"):
            await move(pod, "", elsewhere=True)
        assert (await pod.client.invoke("t", "p", "add")).output == 2
