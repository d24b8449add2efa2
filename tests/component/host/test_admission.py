# SPDX-License-Identifier: Apache-2.0
"""What a host lets through: the line for permits, and the circuit breaker of each instance."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import grpc.aio
import pytest

from agentpool_core.errors import (
    AgentFailure,
    AgentPoolError,
    CircuitOpen,
    ConcurrencyExceeded,
    DeadlineExceeded,
    Draining,
    InputRejected,
    InstancePaused,
    RateExceeded,
)
from support.hosts import COUNTER, FAULTY, HostPod, create_pool, host_pod, instance_id, pool_config
from support.redis import RedisServer

ONE = instance_id("t", "p")
QUICK = {"failure_threshold": 3, "reset_timeout_seconds": 0.5, "max_reset_timeout_seconds": 60}


async def fails(pod: HostPod, times: int, body: Any = "raise") -> None:
    """So many requests fail, one after the other."""
    for _ in range(times):
        with pytest.raises(AgentFailure):
            await pod.client.invoke("t", "p", body)


async def state(pod: HostPod) -> str:
    """Of the instance's breaker."""
    return (await pod.client.operate("Get", ONE)).breaker.state


async def queued(pod: HostPod, number: int) -> None:
    """Wait until so many requests wait for a permit."""
    async for status in pod.statuses():
        if status.queued == number:
            return


# The line


async def test_requests_over_the_permits_wait_for_one_and_are_served() -> None:
    async with host_pod(pool_config(agent=COUNTER, concurrent=2)) as pod:
        await pod.client.invoke("t", "p", "get")
        asked = [pod.client.invoke("t", "p", {"sleep": 0.1}) for _ in range(6)]
        replies = await asyncio.gather(*asked)
        seen = await pod.client.operate("Get", ONE)

    assert len(replies) == 6
    assert max(reply.done.timing.admitted_ms for reply in replies) > 150, "the last ones waited twice"
    assert seen.active_requests == 0


async def test_the_line_is_bounded_and_so_is_the_wait() -> None:
    limits = {"queue_length": 1, "queue_seconds": 0.2}
    async with host_pod(pool_config(agent=COUNTER, concurrent=1, limits=limits)) as pod:
        await pod.client.invoke("t", "p", "get")
        async with asyncio.timeout(10):
            results = await asyncio.gather(
                *(pod.client.invoke("t", "p", {"sleep": 2}) for _ in range(3)), return_exceptions=True
            )

    refused = [one for one in results if isinstance(one, ConcurrencyExceeded)]
    assert len(refused) == 2
    assert {one.retry_after_seconds for one in refused} == {1.0}


async def test_who_waits_and_goes_leaves_its_place() -> None:
    limits = {"queue_length": 1, "queue_seconds": 20}
    async with host_pod(pool_config(agent=COUNTER, concurrent=1, limits=limits)) as pod:
        await pod.client.invoke("t", "p", "get")
        first = asyncio.create_task(pod.client.invoke("t", "p", {"sleep": 1.5}))
        await pod.client.until(ONE, lambda one: one.active_requests == 1)
        gone = pod.client.begin("t", "p", "get")
        await queued(pod, 1)
        gone.cancel()
        await queued(pod, 0)
        assert (await pod.client.invoke("t", "p", "get")).output == 0
        await first


async def test_nobody_waits_for_what_would_be_refused_anyhow() -> None:
    async with host_pod(pool_config(agent=COUNTER, concurrent=1, per_minute=2)) as pod:
        await pod.client.invoke("t", "p", "get")
        busy = pod.client.begin("t", "p", {"sleep": 2})
        await busy.read()
        began = time.monotonic()
        with pytest.raises(RateExceeded):
            await pod.client.invoke("t", "p", "get")

    assert time.monotonic() - began < 0.9, "less than the time in the line"


async def test_a_pause_and_a_drain_reach_who_waits() -> None:
    config = pool_config(agent=COUNTER, concurrent=1, limits={"queue_seconds": 20})
    async with host_pod(config, drain_seconds=3) as pod:
        await pod.client.invoke("t", "p", "get")
        await pod.client.invoke("t", "q", "get")
        running = [asyncio.create_task(pod.client.invoke("t", name, {"sleep": 1.5})) for name in ("p", "q")]
        await pod.client.until(ONE, lambda one: one.active_requests == 1)
        waiting = [asyncio.create_task(pod.client.invoke("t", name, "get")) for name in ("p", "q")]
        await queued(pod, 2)
        await pod.client.operate("Pause", ONE)
        with pytest.raises(InstancePaused):
            await waiting[0]
        draining = asyncio.create_task(pod.drain_host())
        with pytest.raises(Draining):
            await waiting[1]
        await asyncio.gather(*running)
        assert await draining == 0


# The breaker


async def test_failures_open_it_trials_close_it_and_other_instances_do_not_notice() -> None:
    async with host_pod(pool_config(agent=COUNTER, circuit_breaker=QUICK)) as pod:
        await fails(pod, 3)
        with pytest.raises(CircuitOpen) as refused:
            await pod.client.invoke("t", "p", "add")
        assert refused.value.retry_after_seconds is not None
        assert 0 < refused.value.retry_after_seconds <= 0.55
        shown = (await pod.client.operate("Get", ONE)).breaker
        assert (shown.state, shown.consecutive_failures) == ("OPEN", 3)
        assert 0 < shown.open_until - time.time() <= 0.55
        assert (await pod.client.invoke("t", "another", "add")).output == 1
        await asyncio.sleep(0.6)
        assert await state(pod) == "HALF_OPEN"
        for number in range(3):
            assert (await pod.client.invoke("t", "p", "add")).output == number + 1
        assert await state(pod) == ""


async def test_a_failed_trial_doubles_the_wait() -> None:
    async with host_pod(pool_config(agent=COUNTER, circuit_breaker=QUICK)) as pod:
        await fails(pod, 3)
        await asyncio.sleep(0.6)
        await fails(pod, 1)
        shown = (await pod.client.operate("Get", ONE)).breaker
        assert (shown.state, shown.reopenings) == ("OPEN", 1)
        assert 0.6 < shown.open_until - time.time() <= 1.1


async def test_what_is_not_the_agents_failure_does_not_open_it() -> None:
    config = pool_config(
        agent=COUNTER, concurrent=1, circuit_breaker=QUICK, limits={"queue_seconds": 0, "answer_bytes": 100}
    )
    async with host_pod(config) as pod:
        await pod.client.invoke("t", "p", "get")
        for _ in range(4):
            with pytest.raises(InputRejected):
                await pod.client.invoke("t", "p", "reject")
            with pytest.raises(AgentFailure):
                await pod.client.invoke("t", "p", {"answer": 1000})
            call = pod.client.begin("t", "p", {"sleep": 20})
            await call.read()
            with pytest.raises(ConcurrencyExceeded):
                await pod.client.invoke("t", "p", "get")
            call.cancel()
            await pod.client.until(ONE, lambda one: one.active_requests == 0)
        assert await state(pod) == ""


async def test_a_silent_agent_opens_it_by_deadlines() -> None:
    async with host_pod(pool_config(agent=COUNTER, circuit_breaker=QUICK)) as pod:
        await pod.client.invoke("t", "p", "get")
        async with asyncio.timeout(30):
            # On a busy machine a deadline may pass before the request is accepted, which does not count.
            while await state(pod) != "OPEN":
                with pytest.raises((DeadlineExceeded, CircuitOpen, grpc.aio.AioRpcError)):
                    await pod.client.invoke("t", "p", {"sleep": 20}, timeout=0.5)


async def test_trials_are_bounded_and_a_cancelled_one_gives_its_place_back() -> None:
    policy = {**QUICK, "half_open_max_requests": 1}
    async with host_pod(pool_config(agent=COUNTER, circuit_breaker=policy)) as pod:
        await fails(pod, 3)
        await asyncio.sleep(0.6)
        trial = pod.client.begin("t", "p", {"sleep": 20})
        await trial.read()
        with pytest.raises(CircuitOpen):
            await pod.client.invoke("t", "p", "get")
        trial.cancel()
        await pod.client.until(ONE, lambda one: one.active_requests == 0)
        assert (await pod.client.invoke("t", "p", "get")).output == 0
        assert await state(pod) == ""


async def test_it_outlives_eviction_and_its_host(redis: RedisServer) -> None:
    policy = {"failure_threshold": 3, "reset_timeout_seconds": 300}
    config = pool_config(agent=COUNTER, storage="Redis", circuit_breaker=policy)
    await create_pool(config, redis.url)
    async with (
        host_pod(config, redis_url=redis.url) as first,
        host_pod(config, redis_url=redis.url) as second,
    ):
        await fails(first, 3)
        await first.drain_host()
        with pytest.raises(CircuitOpen) as refused:
            await second.client.invoke("t", "p", "add")
        assert refused.value.retry_after_seconds is not None and refused.value.retry_after_seconds > 250
        ended = await second.client.operate("Terminate", ONE)
        assert ended.state == "TERMINATED"
        assert (await second.client.invoke("t", "p", "add")).output == 1, "an erased one begins anew"


async def test_it_stays_open_when_its_host_is_killed(redis: RedisServer) -> None:
    policy = {"failure_threshold": 3, "reset_timeout_seconds": 300}
    config = pool_config(agent=COUNTER, storage="Redis", circuit_breaker=policy)
    await create_pool(config, redis.url)
    async with (
        host_pod(config, redis_url=redis.url) as first,
        host_pod(config, redis_url=redis.url) as second,
    ):
        assert (await first.client.invoke("t", "p", "add")).output == 1
        await fails(first, 3)
        # Well below the second after which upkeep would write it.
        await asyncio.sleep(0.3)
        ended = await first.kill_host()
        with pytest.raises(CircuitOpen) as refused:
            await second.client.invoke("t", "p", "get", ended=[ended])
        assert refused.value.retry_after_seconds is not None and refused.value.retry_after_seconds > 250


async def test_crashes_count_and_recovery_has_its_own_say() -> None:
    policy = {"failure_threshold": 2, "reset_timeout_seconds": 300}
    async with host_pod(pool_config(agent=FAULTY, circuit_breaker=policy)) as pod:
        await pod.client.invoke("t", "p")
        for _ in range(2):
            with pytest.raises(AgentPoolError) as failure:
                await pod.client.invoke("t", "p", "crash")
            assert failure.value.code == "InstanceCrashed"
        await asyncio.sleep(1.5)
        with pytest.raises(CircuitOpen):
            await pod.client.invoke("t", "p")


async def test_a_kept_answer_is_given_although_it_is_open(redis: RedisServer) -> None:
    policy = {"failure_threshold": 2, "reset_timeout_seconds": 300}
    config = pool_config(agent=COUNTER, storage="Redis", circuit_breaker=policy)
    await create_pool(config, redis.url)
    async with host_pod(config, redis_url=redis.url) as pod:
        assert (await pod.client.invoke("t", "p", "add", key="k")).output == 1
        await fails(pod, 2)
        again = await pod.client.invoke("t", "p", "add", key="k")
        assert (again.output, again.done.replayed) == (1, True)
        with pytest.raises(CircuitOpen):
            await pod.client.invoke("t", "p", "add", key="another")


async def test_switched_off_every_request_is_tried() -> None:
    async with host_pod(pool_config(agent=COUNTER, circuit_breaker={"enabled": False})) as pod:
        await fails(pod, 12)
        assert await state(pod) == ""
