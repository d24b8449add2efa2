# SPDX-License-Identifier: Apache-2.0
"""What becomes of state and ownership when hosts, workers and the store fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc.aio
import pytest
from redis.asyncio import Redis

from agentpool_core.config import EffectivePool
from agentpool_core.errors import (
    AgentPoolError,
    ConsistencyUnavailable,
    NotOwner,
    OutcomeUnknown,
    OwnershipLost,
    StoreDataLost,
    StoreUnavailable,
    Unavailable,
)
from support.hosts import COUNTER, HostPod, host_pod, instance_id, pool_config
from support.redis import RedisServer

CONFIG = pool_config(agent=COUNTER, storage="Redis")
ID = instance_id("t", "p")


@asynccontextmanager
async def two_pods(
    redis: RedisServer, config: EffectivePool = CONFIG
) -> AsyncIterator[tuple[HostPod, HostPod]]:
    """Two pods of one pool."""
    async with host_pod(config, redis_url=redis.url) as one, host_pod(config, redis_url=redis.url) as two:
        yield one, two


async def flush(redis: RedisServer) -> None:
    """Lose all data of the store."""
    client = Redis.from_url(redis.url)
    await client.flushall()
    await client.aclose()


async def until_served(pod: HostPod, body: object, seconds: float = 5.0, **options: object) -> object:
    """The output of the first attempt that is not refused as Unavailable."""
    async with asyncio.timeout(seconds):
        while True:
            try:
                return (await pod.client.invoke("t", "p", body, **options)).output
            except Unavailable:
                await asyncio.sleep(0.05)


async def test_a_killed_host_is_followed_by_another_only_with_proof(redis: RedisServer) -> None:
    async with two_pods(redis) as (one, two):
        for _ in range(3):
            await one.client.invoke("t", "p", "add")
        ended = await one.kill_host()
        with pytest.raises(NotOwner) as refused:
            await two.client.invoke("t", "p", "add")
        taken = await two.client.invoke("t", "p", "add", ended=[ended])

    assert refused.value.details["owner"] == str(ended)
    assert taken.output == 4


async def test_a_restarted_host_of_the_same_pod_takes_over_by_its_nonce(redis: RedisServer) -> None:
    async with host_pod(CONFIG, redis_url=redis.url) as pod:
        first = await pod.client.invoke("t", "p", "add")
        await pod.kill_host()
        await pod.start_host()
        await pod.wait_ready()
        second = await pod.client.invoke("t", "p", "add")

    assert second.output == 2
    assert second.accepted.epoch > first.accepted.epoch


async def test_a_proven_dead_host_is_reaped_once(redis: RedisServer) -> None:
    async with two_pods(redis) as (one, two):
        for project in ("a", "b", "c"):
            await one.client.invoke("t", project, "add")
        # What a host does when it ends counts for its instances; these are at rest by now.
        await asyncio.sleep(1.5)
        ended = await one.kill_host()
        await two.client.invoke("t", "a", "add", ended=[ended])
        async with asyncio.timeout(5):
            while True:
                states = {view.project_id: view.state for view in await two.client.listed()}
                if states == {"a": "READY", "b": "PAUSED", "c": "PAUSED"}:
                    break
                await asyncio.sleep(0.05)
        assert (await two.client.invoke("t", "b", "add")).output == 2


async def test_an_owner_that_was_replaced_by_mistake_drops_the_instance_at_its_next_write(
    redis: RedisServer,
) -> None:
    async with two_pods(redis) as (one, two):
        await one.client.invoke("t", "p", "add")
        await two.client.invoke("t", "p", "add", ended=[one.incarnation])
        with pytest.raises(OwnershipLost):
            await one.client.invoke("t", "p", "add")
        with pytest.raises(NotOwner):
            await one.client.invoke("t", "p", "get")
        assert (await two.client.invoke("t", "p", "add")).output == 3


async def test_without_the_store_unchanged_answers_go_on_and_changes_are_refused(redis: RedisServer) -> None:
    async with host_pod(CONFIG, redis_url=redis.url) as pod:
        await pod.client.invoke("t", "p", "add")
        redis.freeze()
        try:
            with pytest.raises(OutcomeUnknown):
                await pod.client.invoke("t", "p", "add")
            assert (await pod.client.invoke("t", "p", "get")).output == 1
            await asyncio.sleep(3)
            with pytest.raises(StoreUnavailable):
                await pod.client.invoke("t", "p", "add")
            stale = await pod.client.invoke("t", "p", "get")
            with pytest.raises(ConsistencyUnavailable):
                await pod.client.invoke("t", "p", "get", strong=True)
            with pytest.raises(StoreUnavailable):
                await pod.client.invoke("t", "new", "get")
        finally:
            redis.thaw()
        after = await until_served(pod, "add")
        fresh = await pod.client.invoke("t", "p", "get")

    assert (stale.output, stale.done.stale) == (1, True)
    # The first change had reached the frozen store, or had not: it never counts twice. The second was never
    # sent: it does not count.
    assert after in (2, 3)
    assert not fresh.done.stale


async def test_a_key_makes_a_change_happen_once_even_when_its_answer_was_lost(redis: RedisServer) -> None:
    async with host_pod(CONFIG, redis_url=redis.url) as pod:
        await pod.client.invoke("t", "p", "add")
        redis.freeze()
        try:
            with pytest.raises(StoreUnavailable):
                await pod.client.invoke("t", "p", "add", key="second")
        finally:
            redis.thaw()
        answered = await until_served(pod, "add", key="second")
        total = await until_served(pod, "get")

    assert (answered, total) == (2, 2)


async def test_holders_register_again_after_the_store_lost_its_data(redis: RedisServer) -> None:
    async with host_pod(CONFIG, redis_url=redis.url) as pod:
        before = await pod.client.invoke("t", "p", "add")
        await pod.client.invoke("t", "reader", "add")
        await flush(redis)
        with pytest.raises((StoreDataLost, Unavailable)):
            await pod.client.invoke("t", "new during the recovery", "add")
        total = await until_served(pod, "add")
        await until_served(pod, "get")
        async with asyncio.timeout(5):
            while True:
                if len(await pod.client.listed()) == 2:
                    break
                await asyncio.sleep(0.05)
        view = await pod.client.operate("Get", ID)
        await pod.client.operate("Pause", instance_id("t", "reader"))

    assert total == 2
    assert view.epoch > before.accepted.epoch


async def test_the_same_key_is_answered_once_and_replayed(redis: RedisServer) -> None:
    async with two_pods(redis) as (one, two):
        first = await one.client.invoke("t", "p", "add", key="k")
        again = await one.client.invoke("t", "p", "add", key="k")
        together = await asyncio.gather(*(one.client.invoke("t", "p", "add", key="k2") for _ in range(10)))
        unchanged = [await one.client.invoke("t", "p", "get", key="k3") for _ in range(2)]
        ended = await one.kill_host()
        elsewhere = await two.client.invoke("t", "p", "add", key="k", ended=[ended])
        total = await two.client.invoke("t", "p", "get")

    assert (first.output, again.output, elsewhere.output) == (1, 1, 1)
    assert (first.done.replayed, again.done.replayed, elsewhere.done.replayed) == (False, True, True)
    assert {reply.output for reply in together} == {2}
    assert sum(not reply.done.replayed for reply in together) == 1
    assert [reply.done.replayed for reply in unchanged] == [False, True]
    assert total.output == 2


async def test_a_keyed_request_whose_caller_left_is_found_by_its_retry(redis: RedisServer) -> None:
    async with host_pod(CONFIG, redis_url=redis.url) as pod:
        await pod.client.invoke("t", "p", "add")
        call = pod.client.begin("t", "p", {"sleep": 0.4}, key="k")
        await call.read()
        # Accepted is not yet begun: the worker gets the request after it.
        await asyncio.sleep(0.15)
        call.cancel()
        retry = await pod.client.invoke("t", "p", "add", key="k")

    assert (retry.output, retry.done.replayed) == (1, True)


async def test_with_interval_the_timer_saves_and_a_kill_loses_no_more_than_the_interval(
    redis: RedisServer,
) -> None:
    config = pool_config(agent=COUNTER, storage="Redis", durability="Interval", interval_seconds=1)
    async with two_pods(redis, config) as (one, two):
        await one.client.invoke("t", "p", "add")
        await asyncio.sleep(2.5)
        await one.client.invoke("t", "p", "add")
        ended = await one.kill_host()
        left = await two.client.invoke("t", "p", "get", ended=[ended])

    assert left.output in (1, 2)


async def test_acknowledged_increments_survive_a_host_that_is_killed_again_and_again(
    redis: RedisServer,
) -> None:
    async with host_pod(CONFIG, redis_url=redis.url) as pod:
        for number in range(12):
            if number % 4 == 3:
                attempt = asyncio.create_task(pod.client.invoke("t", "p", "add", key=str(number)))
                await asyncio.sleep(0.002 * number)
                await pod.kill_host()
                await asyncio.gather(attempt, return_exceptions=True)
                await pod.start_host()
                await pod.wait_ready()
            async with asyncio.timeout(10):
                while True:
                    try:
                        reply = await pod.client.invoke("t", "p", "add", key=str(number))
                        break
                    except (AgentPoolError, grpc.aio.AioRpcError):
                        await asyncio.sleep(0.05)
            assert reply.output == number + 1
