# SPDX-License-Identifier: Apache-2.0
"""Pause, resume, terminate, eviction, drain and retirement on a real host, with either store."""

from __future__ import annotations

import asyncio
import signal
import time
from typing import Any

import pytest

from agentpool_core.errors import (
    Conflict,
    Draining,
    IllegalTransition,
    InstanceFailed,
    InstanceNotFound,
    InstancePaused,
    PodTaken,
    PoolExhausted,
    RateExceeded,
    Unavailable,
)
from agentpool_proto.v1 import host_pb2
from support.hosts import COUNTER, HostPod, host_pod, instance_id, pool_config
from support.redis import RedisServer

ID = instance_id("t", "p")
STORES = ("Memory", "Redis")


def stored(storage: str, redis: RedisServer) -> dict[str, Any]:
    """The options of a pod with this storage."""
    return {"redis_url": redis.url} if storage == "Redis" else {}


async def eventually_state(pod: HostPod, state: str, instance: str = ID, seconds: float = 5.0) -> Any:
    """The instance once it is in a state."""
    async with asyncio.timeout(seconds):
        while True:
            found = await pod.client.operate("Get", instance)
            if found.state == state:
                return found
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("storage", STORES)
async def test_a_paused_instance_keeps_its_state_until_it_is_resumed(
    storage: str, redis: RedisServer
) -> None:
    config = pool_config(agent=COUNTER, storage=storage)
    async with host_pod(config, **stored(storage, redis)) as pod:
        await pod.client.invoke("t", "p", "add")
        paused = await pod.client.operate("Pause", ID)
        with pytest.raises(InstancePaused):
            await pod.client.invoke("t", "p", "get")
        with pytest.raises(IllegalTransition):
            await pod.client.operate("Pause", ID)
        resumed = await pod.client.operate("Resume", ID)
        with pytest.raises(IllegalTransition):
            await pod.client.operate("Resume", ID)
        reply = await pod.client.invoke("t", "p", "get")

    assert (paused.state, paused.reason, paused.pod) == ("PAUSED", "UserRequested", "")
    assert (resumed.state, resumed.pod) == ("READY", pod.name)
    assert reply.output == 1


@pytest.mark.parametrize("storage", STORES)
async def test_terminated_means_erased(storage: str, redis: RedisServer) -> None:
    config = pool_config(agent=COUNTER, storage=storage)
    async with host_pod(config, **stored(storage, redis)) as pod:
        await pod.client.invoke("t", "p", "add")
        ended = await pod.client.operate("Terminate", ID)
        with pytest.raises(InstanceNotFound):
            await pod.client.operate("Get", ID)
        with pytest.raises(InstanceNotFound):
            await pod.client.operate("Terminate", ID)
        anew = await pod.client.invoke("t", "p", "add")
        await pod.client.operate("Pause", ID)
        paused = await pod.client.operate("Terminate", ID)
        listed = await pod.client.listed()

    assert (ended.state, paused.state) == ("TERMINATED", "TERMINATED")
    assert anew.output == 1
    assert listed == []


@pytest.mark.parametrize(("method", "state"), [("Pause", "PAUSED"), ("Terminate", "TERMINATED")])
async def test_a_busy_instance_is_left_to_finish_and_the_wish_is_shown(method: str, state: str) -> None:
    async with host_pod(pool_config(agent=COUNTER)) as pod:
        await pod.client.invoke("t", "p", "add")
        running = asyncio.create_task(pod.client.invoke("t", "p", {"sleep": 0.4}))
        await eventually_state(pod, "BUSY")
        view = await pod.client.operate(method, ID)
        with pytest.raises((InstancePaused, Unavailable)):
            await pod.client.invoke("t", "p", "get")
        assert (await running).output == 1
        if state == "PAUSED":
            assert (await eventually_state(pod, state)).reason == "UserRequested"
        else:
            await until_erased(pod)

    assert (view.state, view.wish) == ("BUSY", method)


async def test_what_nobody_knows_is_not_found() -> None:
    async with host_pod(pool_config()) as pod:
        for method in ("Get", "Pause", "Resume", "Terminate"):
            with pytest.raises(InstanceNotFound):
                await pod.client.operate(method, "inst-unknown")


@pytest.mark.parametrize("durability", ["Response", "Interval"])
@pytest.mark.parametrize("storage", STORES)
async def test_the_least_recently_used_is_evicted_and_comes_back_with_its_state(
    storage: str, durability: str, redis: RedisServer
) -> None:
    config = pool_config(agent=COUNTER, storage=storage, durability=durability, instances_per_host=2)
    async with host_pod(config, **stored(storage, redis)) as pod:
        for project in ("a", "b", "a"):
            await pod.client.invoke("t", project, "add")
        await pod.client.invoke("t", "c", "add")
        states = {view.project_id: (view.state, view.reason) for view in await pod.client.listed()}
        back = await pod.client.invoke("t", "b", "add")

    assert states == {"a": ("READY", ""), "b": ("PAUSED", "Evicted"), "c": ("READY", "")}
    assert (back.output, back.accepted.activated) == (2, True)


async def test_a_host_full_of_busy_instances_refuses_at_once_and_takes_the_next_after_one_is_released() -> (
    None
):
    # B49, with the ceiling really held.
    async with host_pod(pool_config(agent=COUNTER, min_instances=1, instances_per_host=2)) as pod:
        held = [
            asyncio.create_task(pod.client.invoke("t", p, {"sleep": s})) for p, s in (("a", 0.5), ("b", 3))
        ]
        for project in ("a", "b"):
            await eventually_found(pod, project)
        began = time.monotonic()
        with pytest.raises(PoolExhausted) as refused:
            await pod.client.invoke("t", "c", "get")
        waited = time.monotonic() - began
        await held[0]
        reply = await pod.client.invoke("t", "c", "get")
        held[1].cancel()

    assert waited < 0.4
    assert refused.value.retry_after_seconds is not None
    assert reply.output == 0


async def eventually_found(pod: HostPod, project: str) -> None:
    """Wait until a project's instance is BUSY."""
    async with asyncio.timeout(5):
        while True:
            try:
                if (await pod.client.operate("Get", instance_id("t", project))).state == "BUSY":
                    return
            except InstanceNotFound:
                pass
            await asyncio.sleep(0.02)


async def test_eviction_does_not_refill_the_rate(redis: RedisServer) -> None:
    config = pool_config(agent=COUNTER, storage="Redis", per_minute=2, instances_per_host=1)
    async with host_pod(config, redis_url=redis.url) as pod:
        for _ in range(2):
            await pod.client.invoke("t", "p", "get")
        await pod.client.invoke("t", "other", "get")
        with pytest.raises(RateExceeded):
            await pod.client.invoke("t", "p", "get")


async def test_idle_instances_leave_but_never_under_the_minimum() -> None:
    config = pool_config(agent=COUNTER, idle_seconds=1, min_instances=1)
    async with host_pod(config) as pod:
        for project in ("a", "b", "c"):
            await pod.client.invoke("t", project, "add")
        await asyncio.sleep(3.5)
        left = [view.project_id for view in await pod.client.listed() if view.state == "READY"]

    assert left == ["c"]


async def test_idle_seconds_zero_means_right_after_use() -> None:
    async with host_pod(pool_config(agent=COUNTER, idle_seconds=0)) as pod:
        await pod.client.invoke("t", "p", "add")
        await eventually_state(pod, "PAUSED", seconds=0.8)
        assert (await pod.client.invoke("t", "p", "add")).output == 2


async def test_a_generic_host_takes_one_instance_and_no_other_afterwards() -> None:
    config = pool_config(agent=COUNTER, idle_seconds=0, min_instances=2)
    async with host_pod(config, role="Generic") as pod:
        both = await asyncio.gather(
            pod.client.invoke("t", "p", "add", tier="COLD"),
            pod.client.invoke("t", "other", "add", tier="COLD"),
            return_exceptions=True,
        )
        assert sum(isinstance(one, PodTaken) for one in both) == 1
        winner = "other" if isinstance(both[0], PodTaken) else "p"
        await eventually_state(pod, "PAUSED", instance_id("t", winner))
        with pytest.raises(PodTaken):
            await pod.client.invoke("t", "third", "add", tier="COLD")
        again = await pod.client.invoke("t", winner, "add", tier="COLD")

    assert again.output == 2
    assert again.accepted.tier == "COLD"


async def test_an_activated_instance_is_there_before_its_first_request() -> None:
    async with host_pod(pool_config(agent=COUNTER), role="Generic") as pod:
        request = host_pb2.ActivateRequest(tenant_id="t", project_id="p", tier="HOT", declared_uid="uid")
        view = await pod.client.call("Activate", request)
        reply = await pod.client.invoke("t", "p", "add")

    assert (view.state, view.tier, view.origin) == ("READY", "HOT", "declared")
    assert not reply.accepted.activated


async def test_only_an_empty_host_retires_and_then_takes_nothing() -> None:
    async with host_pod(pool_config(agent=COUNTER)) as pod:
        await pod.client.invoke("t", "p", "add")
        with pytest.raises(Conflict):
            await pod.client.call("Retire", host_pb2.RetireRequest())
        await pod.client.operate("Pause", ID)
        retired = await pod.client.call("Retire", host_pb2.RetireRequest())
        with pytest.raises(Draining):
            await pod.client.invoke("t", "other", "add")

    assert retired.retired


async def test_a_drain_waits_for_busy_instances_and_keeps_all_state(redis: RedisServer) -> None:
    config = pool_config(agent=COUNTER, storage="Redis")
    async with host_pod(config, redis_url=redis.url) as one, host_pod(config, redis_url=redis.url) as two:
        for project in ("idle", "busy"):
            await one.client.invoke("t", project, "add")
        running = asyncio.create_task(one.client.invoke("t", "busy", {"sleep": 0.8}))
        await eventually_state(one, "BUSY", instance_id("t", "busy"))
        assert one.host is not None
        one.host.send_signal(signal.SIGTERM)
        async with asyncio.timeout(0.7):
            while True:
                try:
                    moved = await two.client.invoke("t", "idle", "add")
                    break
                except Unavailable:
                    await asyncio.sleep(0.02)
        with pytest.raises(Draining):
            await one.client.invoke("t", "new", "add")
        assert (await running).output == 1
        assert await asyncio.wait_for(one.host.wait(), 10) == 0
        later = await two.client.invoke("t", "busy", "add")

    assert (moved.output, later.output) == (2, 2)


async def test_a_drain_ends_at_its_deadline() -> None:
    async with host_pod(pool_config(agent=COUNTER), drain_seconds=0.3) as pod:
        running = asyncio.create_task(pod.client.invoke("t", "p", {"sleep": 30}))
        await eventually_found(pod, "p")
        began = time.monotonic()
        status = await pod.drain_host()
        with pytest.raises(Unavailable):
            await running

    assert status == 0
    assert time.monotonic() - began < 4


async def test_a_termination_past_its_grace_time_goes_through_error() -> None:
    async with host_pod(pool_config(agent=COUNTER), terminate_grace_seconds=0.2) as pod:
        running = asyncio.create_task(pod.client.invoke("t", "p", {"sleep": 30}))
        await eventually_found(pod, "p")
        view = await pod.client.operate("Terminate", ID)
        with pytest.raises(InstanceFailed, match="terminated"):
            await asyncio.wait_for(running, 5)
        await until_erased(pod)
        anew = await pod.client.invoke("t", "p", "add")

    assert (view.state, view.wish) == ("BUSY", "Terminate")
    assert anew.output == 1


async def test_a_wish_outlives_the_host_that_it_was_told_to(redis: RedisServer) -> None:
    config = pool_config(agent=COUNTER, storage="Redis")
    async with host_pod(config, redis_url=redis.url) as pod:
        await pod.client.invoke("t", "p", "add")
        running = asyncio.create_task(pod.client.invoke("t", "p", {"sleep": 30}))
        await eventually_found(pod, "p")
        await pod.client.operate("Terminate", ID)
        await pod.kill_host()
        await asyncio.gather(running, return_exceptions=True)
        await pod.start_host()
        await pod.wait_ready()
        await pod.client.invoke("t", "p", "get")
        await until_erased(pod)


async def until_erased(pod: HostPod) -> None:
    """Wait until the store knows no instance."""
    async with asyncio.timeout(5):
        while True:
            if not await pod.client.listed():
                return
            await asyncio.sleep(0.02)
