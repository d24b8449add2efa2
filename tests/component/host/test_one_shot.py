# SPDX-License-Identifier: Apache-2.0
"""Requests that do not go through the pool: a process for each, the state kept, nothing left behind."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agentpool_core.config import EffectivePool
from agentpool_core.errors import InstancePaused
from agentpool_proto.v1 import host_pb2, types_pb2
from support.hosts import COUNTER, HostPod, host_pod, instance_id, pool_config
from support.redis import RedisServer
from support.waiting import eventually

ID = instance_id("t", "p")


def counting(storage: str = "Redis", **changed: Any) -> EffectivePool:
    """A pool of counters with two waiting workers."""
    return pool_config(agent=COUNTER, storage=storage, **changed)


async def state(pod: HostPod) -> types_pb2.Instance:
    """The instance as its host or the store shows it."""
    found: types_pb2.Instance = await pod.client.operate("Get", ID)
    return found


async def let_go(pod: HostPod) -> None:
    """Wait until the instance left."""

    async def gone() -> bool:
        found = await state(pod)
        return (found.state, found.reason) == ("PAUSED", "Evicted")

    await eventually(gone, 10)


@pytest.mark.parametrize("storage", ["Redis", "Memory"])
async def test_each_is_served_by_a_process_of_its_own_that_goes_on_from_the_state(
    redis: RedisServer, storage: str
) -> None:
    url = redis.url if storage == "Redis" else None
    async with host_pod(counting(storage), redis_url=url) as pod:
        replies = [await pod.client.invoke("t", "p", "add", one_shot=True) for _ in range(3)]
        assert [reply.output for reply in replies] == [1, 2, 3]
        assert all(reply.accepted.one_shot and reply.accepted.activated for reply in replies)
        if storage == "Redis":
            assert len({reply.accepted.epoch for reply in replies}) == 3
            await let_go(pod)


async def test_the_waiting_workers_are_left_to_the_pool(redis: RedisServer) -> None:
    async with host_pod(counting(), redis_url=redis.url) as pod:
        await spares(pod, 2)
        for number in range(3):
            await pod.client.invoke("t", f"p{number}", "add", one_shot=True)
        async for status in pod.statuses():
            # One that was taken is back only after a while, and told with the instance that took it.
            assert status.spares == 2
            break
        assert (await pod.client.invoke("t", "q", "add")).output == 1


async def spares(pod: HostPod, number: int) -> None:
    """Wait until so many workers wait."""
    async for status in pod.statuses():
        if status.spares == number:
            return


async def test_a_rollback_and_a_rollout_lose_nothing(redis: RedisServer) -> None:
    async with host_pod(counting(), redis_url=redis.url) as pod:
        ways = [False, False, True, True, False, True, False, False]
        replies = [await pod.client.invoke("t", "p", "add", one_shot=way) for way in ways]
        assert [reply.output for reply in replies] == list(range(1, len(ways) + 1))
        assert [reply.accepted.one_shot for reply in replies] == ways
        # The pool's process stays for the next request of the pool; another one comes for each of the others.
        epochs = [reply.accepted.epoch for reply in replies]
        same = [later == earlier for earlier, later in zip(epochs, epochs[1:], strict=False)]
        assert same == [True, False, False, False, False, False, True]


async def test_requests_at_one_time_share_a_process_and_the_last_one_lets_it_go(redis: RedisServer) -> None:
    async with host_pod(counting(), redis_url=redis.url) as pod:
        slow = [pod.client.invoke("t", "p", {"sleep": 0.5}, one_shot=True) for _ in range(4)]
        replies = await asyncio.gather(*slow)
        assert len({reply.accepted.epoch for reply in replies}) == 1
        await let_go(pod)


async def test_a_request_of_the_pool_that_comes_meanwhile_makes_it_stay(redis: RedisServer) -> None:
    async with host_pod(counting(), redis_url=redis.url) as pod:
        slow = asyncio.create_task(pod.client.invoke("t", "p", {"sleep": 0.6}, one_shot=True))

        async def busy() -> bool:
            return bool(ID in {one.id for one in await pod.client.listed() if one.state == "BUSY"})

        await eventually(busy, 10)
        pooled = await pod.client.invoke("t", "p", "add")
        epoch = (await slow).accepted.epoch
        assert (pooled.accepted.epoch, pooled.accepted.one_shot) == (epoch, False)
        assert (await pod.client.invoke("t", "p", "get")).accepted.epoch == epoch


@pytest.mark.parametrize("declared_uid", ["", "uid-of-an-agentinstance"])
async def test_what_the_operator_keeps_stays_and_is_renewed_for_each(
    redis: RedisServer, declared_uid: str
) -> None:
    tier = "WARM" if declared_uid else "HOT"
    role = {} if declared_uid else {"role": "Generic", "tiers": "HOT,COLD"}
    async with host_pod(counting(), redis_url=redis.url, **role) as pod:
        request = host_pb2.ActivateRequest(
            tenant_id="t", project_id="p", tier=tier, declared_uid=declared_uid
        )
        await pod.client.call("Activate", request)
        replies = [await pod.client.invoke("t", "p", "add", one_shot=True) for _ in range(3)]
        assert [reply.output for reply in replies] == [1, 2, 3]
        assert len({reply.accepted.epoch for reply in replies}) == 3
        await asyncio.sleep(0.5)
        assert (await state(pod)).state == "READY"


async def test_a_pause_of_its_user_holds(redis: RedisServer) -> None:
    async with host_pod(counting(), redis_url=redis.url) as pod:
        await pod.client.invoke("t", "p", "add", one_shot=True)
        await pod.client.operate("Pause", ID)
        with pytest.raises(InstancePaused):
            await pod.client.invoke("t", "p", "add", one_shot=True)


async def test_a_request_that_fails_or_is_cancelled_leaves_nothing_resident(redis: RedisServer) -> None:
    async with host_pod(counting(), redis_url=redis.url) as pod:
        with pytest.raises(Exception, match="no"):
            await pod.client.invoke("t", "p", "reject", one_shot=True)
        await let_go(pod)
        call = pod.client.begin("t", "p", "slow", one_shot=True)
        await call.read()
        call.cancel()
        await let_go(pod)
        assert (await pod.client.invoke("t", "p", "get", one_shot=True)).output == 0


async def test_when_the_store_does_not_take_its_state_it_serves_on(redis: RedisServer) -> None:
    """It is not let go unsaved, and the next request is not refused for it."""
    async with host_pod(counting(), redis_url=redis.url) as pod:
        await pod.client.invoke("t", "p", "add")
        redis.freeze()
        reply = await pod.client.invoke("t", "p", "get", one_shot=True)
        assert reply.output == 1
        redis.thaw()


async def test_many_at_once_are_all_given_a_process(redis: RedisServer) -> None:
    """Also when more workers wait than are wanted, which nobody of these may take."""
    async with host_pod(counting(), redis_url=redis.url) as pod:
        turns = asyncio.Semaphore(6)

        async def one(project: str) -> int:
            async with turns:
                return int((await pod.client.invoke("t", project, "add", one_shot=True)).output)

        async with asyncio.timeout(90):
            for _ in range(2):
                await asyncio.gather(*(one(f"p{number}") for number in range(40)))
        assert await one("p0") == 3
