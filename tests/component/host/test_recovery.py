# SPDX-License-Identifier: Apache-2.0
"""What becomes of instances that fail, on real hosts: noted, decided, carried out, seen by the next host."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import grpc.aio
import pytest
from redis.asyncio import Redis

from agentpool_agent.store import Claim, open_store
from agentpool_agent.zygote import procfs
from agentpool_core.errors import (
    AgentCreationTimeout,
    DeadlineExceeded,
    IllegalTransition,
    InstanceCrashed,
    InstanceFailed,
    MemoryExceeded,
    NoHost,
    NotOwner,
    RestoreFailed,
    StateCorrupt,
)
from agentpool_core.lifecycle import PauseReason, Tier
from agentpool_core.names import Incarnation, InstanceKey
from agentpool_core.recovery import Cause, Failure, History
from support.hosts import HostPod, host_pod, instance_id, pool_config
from support.redis import RedisServer
from support.waiting import admitted

FRAGILE = "support.agents.fragile:Fragile"
KEY = InstanceKey("default", "support", "t", "p")
ID = KEY.instance_id
CONFIG = pool_config(agent=FRAGILE, storage="Redis")
STRICT = pool_config(agent=FRAGILE, storage="Redis", recovery={"max_failures_per_hour": 1})


def worker_pids(pod: HostPod) -> list[int]:
    """The workers of a pod; with no spares these are the instances."""
    assert pod.zygote is not None
    return procfs.children(pod.zygote.pid)


@asynccontextmanager
async def noted(redis: RedisServer, change: Callable[[History], History]) -> AsyncIterator[None]:
    """Change the stored history of the instance, as another host would have."""
    store = open_store(redis.url, pool_uid=CONFIG.uid, namespace="default", pool="support")
    try:
        claim = Claim(KEY, Incarnation("another", "1"), Tier.WARM)
        # The host on which it failed lets go of it a moment after its answer.
        held = await admitted(lambda: store.claim(claim), NotOwner)
        await store.note(held, change(History.unpack(held.failures)).pack())
        await store.release(held, PauseReason.EVICTED)
        yield
    finally:
        await store.close()


async def test_a_crash_is_seen_and_the_next_request_is_served() -> None:
    async with host_pod(pool_config(agent=FRAGILE)) as pod:
        await pod.client.invoke("t", "p", "add")
        with pytest.raises(InstanceCrashed):
            await pod.client.invoke("t", "p", "crash")
        failed = await pod.client.operate("Get", ID)
        again = await pod.client.invoke("t", "p", "add")
        well = await pod.client.operate("Get", ID)

    assert (failed.state, failed.reason) == ("ERROR", "Crash")
    assert (failed.recovery.cause, failed.recovery.strategy, failed.recovery.failures) == (
        "Crash",
        "RESTART",
        1,
    )
    assert failed.recovery.retry_at == pytest.approx(failed.recovery.failed_at)
    assert "signal 6" in failed.recovery.message
    assert again.output == 2
    assert (well.state, well.reason, well.recovery.retry_at) == ("READY", "", 0)


async def test_a_worker_that_dies_while_idle_is_a_failure_of_its_instance() -> None:
    async with host_pod(pool_config(agent=FRAGILE, spares=0)) as pod:
        await pod.client.invoke("t", "p", "add")
        (pid,) = worker_pids(pod)
        os.kill(pid, signal.SIGKILL)
        failed = await pod.client.until(ID, lambda one: one.state == "ERROR")
        again = await pod.client.invoke("t", "p", "add")

    assert failed.recovery.cause == "Crash"
    assert again.output == 2


async def test_a_zygote_that_ends_is_no_failure_of_its_idle_instances() -> None:
    async with host_pod(pool_config(agent=FRAGILE)) as pod:
        await pod.client.invoke("t", "p", "add")
        assert pod.zygote is not None
        pod.zygote.kill()
        view = await pod.client.until(ID, lambda one: one.state == "PAUSED")

    assert view.reason == "Evicted"
    assert not view.HasField("recovery")


async def test_a_failing_instance_waits_longer_and_longer_and_is_escalated_wherever_it_goes(
    redis: RedisServer,
) -> None:
    async with host_pod(STRICT, redis_url=redis.url) as one, host_pod(STRICT, redis_url=redis.url) as two:
        await one.client.invoke("t", "p", "add")
        with pytest.raises(InstanceCrashed):
            await one.client.invoke("t", "p", "crash")
        with pytest.raises(InstanceCrashed):
            await one.client.invoke("t", "p", "crash")
        for pod in (one, two):
            with pytest.raises(InstanceFailed, match="failed 2 times within an hour") as refused:
                await pod.client.invoke("t", "p", "add")
            assert 3500 < (refused.value.retry_after_seconds or 0) <= 3600
        elsewhere = await two.client.operate("Get", ID)
        for pod in (one, two):
            with pytest.raises(IllegalTransition):
                await pod.client.operate("Pause", ID)
        neighbour = await one.client.invoke("t", "neighbour", "add")
        resumed = await two.client.operate("Resume", ID)
        served = await two.client.invoke("t", "p", "add")

    assert (elsewhere.state, elsewhere.reason, elsewhere.pod) == ("ERROR", "Crash", "")
    assert (elsewhere.recovery.strategy, elsewhere.recovery.failures) == ("ESCALATE", 2)
    assert neighbour.output == 1
    assert (resumed.state, resumed.HasField("recovery")) == ("READY", False)
    assert served.output == 2


async def test_without_recovery_an_instance_waits_for_its_user() -> None:
    config = pool_config(agent=FRAGILE, recovery={"enabled": False})
    async with host_pod(config) as pod:
        await pod.client.invoke("t", "p", "add")
        with pytest.raises(InstanceCrashed):
            await pod.client.invoke("t", "p", "crash")
        with pytest.raises(InstanceFailed) as refused:
            await pod.client.invoke("t", "p", "add")
        await pod.client.operate("Resume", ID)
        assert (await pod.client.invoke("t", "p", "add")).output == 2

    assert refused.value.retry_after_seconds is None


async def damage(redis: RedisServer, *keys: str) -> None:
    """Make a stored part unreadable."""
    client = Redis.from_url(redis.url)
    try:
        for kind in keys:
            (key,) = [one async for one in client.scan_iter(f"*{kind}:{ID}")]
            await client.hset(key, "part:count", "damaged")
    finally:
        await client.aclose()


async def test_damaged_state_is_recovered_from_the_state_before_it(redis: RedisServer) -> None:
    async with host_pod(CONFIG, redis_url=redis.url) as pod:
        for _ in range(3):
            await pod.client.invoke("t", "p", "add")
        await pod.client.operate("Pause", ID)
        await damage(redis, "checkpoint")
        await pod.client.operate("Resume", ID)
        recovered = await pod.client.invoke("t", "p", "get")
        view = await pod.client.operate("Get", ID)
        await pod.client.operate("Pause", ID)
        await pod.client.operate("Resume", ID)
        kept = await pod.client.invoke("t", "p", "add")

    assert recovered.output == 2
    assert (view.recovery.cause, view.recovery.strategy) == ("CorruptState", "RECOVER")
    assert kept.output == 3, "the earlier state is the present one from then on"


async def test_when_the_state_before_is_damaged_too_the_instance_is_left_alone(redis: RedisServer) -> None:
    async with host_pod(CONFIG, redis_url=redis.url) as pod:
        for _ in range(3):
            await pod.client.invoke("t", "p", "add")
        await pod.client.operate("Pause", ID)
        await damage(redis, "checkpoint", "previous")
        with pytest.raises(StateCorrupt):
            await pod.client.operate("Resume", ID)
        view = await pod.client.operate("Get", ID)
        with pytest.raises(InstanceFailed) as refused:
            await pod.client.invoke("t", "p", "add")

    assert (view.state, view.reason, view.recovery.strategy) == ("ERROR", "CorruptState", "ESCALATE")
    assert (view.recovery.retry_at, refused.value.retry_after_seconds) == (0, None)


async def test_a_state_on_which_the_agent_crashes_is_left_for_the_one_before(redis: RedisServer) -> None:
    def crashed_before(found: History) -> History:
        for ago in (1000, 900):
            failure = Failure(time.time() - ago, Cause.CRASH, starting=True)
            found = replace(found, failures=(failure, *found.failures))
        return replace(found, failures=tuple(sorted(found.failures, key=lambda one: one.at)))

    async with host_pod(CONFIG, redis_url=redis.url) as one, host_pod(CONFIG, redis_url=redis.url) as two:
        for body in ("add", "add", "poison"):
            await one.client.invoke("t", "p", body)
        with pytest.raises(InstanceCrashed):
            await one.client.invoke("t", "p", "crash")
        async with noted(redis, crashed_before):
            with pytest.raises(InstanceCrashed):
                await two.client.invoke("t", "p", "get")
        view = await two.client.operate("Get", ID)
        await asyncio.sleep(max(0.0, view.recovery.retry_at - time.time()) + 0.05)
        served = await two.client.invoke("t", "p", "get")
        after = await two.client.invoke("t", "p", "add")

    assert (view.recovery.cause, view.recovery.strategy, view.recovery.failures) == ("Crash", "RECOVER", 4)
    assert (served.output, after.output) == (2, 3)


async def test_a_state_that_a_new_version_refuses_is_kept_for_the_old_one(redis: RedisServer) -> None:
    newer = pool_config(agent=FRAGILE, storage="Redis", config={"refuse": True}, generation=2)
    async with host_pod(CONFIG, redis_url=redis.url) as old:
        await old.client.invoke("t", "p", "add")
        async with host_pod(newer, redis_url=redis.url) as new:
            await old.drain_host()
            with pytest.raises(RestoreFailed, match="a format of another version"):
                await new.client.invoke("t", "p", "add")
            with pytest.raises(InstanceFailed):
                await new.client.invoke("t", "p", "add")
            view = await new.client.operate("Get", ID)
            fresh = await new.client.invoke("t", "new", "add")
        async with host_pod(CONFIG, redis_url=redis.url) as back:
            served = await back.client.invoke("t", "p", "add")

    assert (view.state, view.reason) == ("ERROR", "RestoreFailed")
    assert "another version" in view.recovery.message
    assert fresh.output == 1
    assert served.output == 2, "at once: the failures of another version say nothing of this one"


async def test_an_instance_that_takes_its_host_down_is_found_out(redis: RedisServer) -> None:
    async with (
        host_pod(STRICT, redis_url=redis.url) as killed,
        host_pod(STRICT, redis_url=redis.url) as other,
    ):
        ended: list[Incarnation] = []
        await killed.client.invoke("t", "idle", "add")
        for _ in range(2):
            call = asyncio.create_task(killed.client.invoke("t", "p", "hang", ended=ended))
            # Longer than a moment: only then is it noted as being at work.
            await asyncio.sleep(2.5)
            ended.append(await killed.kill_host())
            await asyncio.gather(call, return_exceptions=True)
            if len(ended) == 1:
                await killed.start_host()
                await killed.wait_ready()
        with pytest.raises(InstanceFailed, match="HostLost") as refused:
            await other.client.invoke("t", "p", "add", ended=ended)
        innocent = await other.client.invoke("t", "idle", "add", ended=ended)
        view = await other.client.operate("Get", instance_id("t", "idle"))

    assert refused.value.retry_after_seconds is None
    assert innocent.output == 2
    assert not view.HasField("recovery")


async def test_memory_over_the_quota_is_told_and_the_instance_goes_on_until_it_moves(
    redis: RedisServer,
) -> None:
    config = pool_config(agent=FRAGILE, storage="Redis", memory_bytes=64 * 1024 * 1024)
    hot = config.tiers[Tier.HOT]
    larger = hot.model_copy(
        update={"quota": hot.quota.model_copy(update={"memory_bytes": 256 * 1024 * 1024})}
    )
    config = config.model_copy(update={"tiers": {**config.tiers, Tier.HOT: larger}})
    body = {"memory": 100 * 1024 * 1024}
    async with (
        host_pod(config, redis_url=redis.url) as warm,
        host_pod(config, redis_url=redis.url, role="Generic") as own,
    ):
        await warm.client.invoke("t", "p", "add")
        for count in (1, 2):
            with pytest.raises(MemoryExceeded):
                await warm.client.invoke("t", "p", body)
            view = await warm.client.operate("Get", ID)
            assert (view.state, view.recovery.failures) == ("READY", count)
        with pytest.raises(MemoryExceeded):
            await warm.client.invoke("t", "p", body)
        moved = await warm.client.until(ID, lambda one: one.tier == "HOT")
        with pytest.raises(NoHost):
            await warm.client.invoke("t", "p", "add")
        served = await own.client.invoke("t", "p", body)

    assert (moved.recovery.cause, moved.recovery.strategy) == ("MemoryExceeded", "MIGRATE")
    assert served.output == 1


async def test_a_request_that_blocks_its_worker_past_the_deadline_is_a_hang() -> None:
    async with host_pod(pool_config(agent=FRAGILE), hang_seconds=1) as pod:
        await pod.client.invoke("t", "p", "add")
        with pytest.raises((DeadlineExceeded, grpc.aio.AioRpcError)):
            await pod.client.invoke("t", "p", "hang", timeout=0.3)
        view = await pod.client.until(ID, lambda one: one.state == "ERROR")
        assert (await pod.client.invoke("t", "p", "add")).output == 2

    assert view.recovery.cause == "Hang"


async def test_an_idle_worker_that_does_not_answer_is_a_hang() -> None:
    config = pool_config(agent=FRAGILE, spares=0, health={"interval_seconds": 0.5, "timeout_seconds": 0.5})
    async with host_pod(config) as pod:
        await pod.client.invoke("t", "p", "add")
        await asyncio.sleep(2.5)
        well = await pod.client.operate("Get", ID)
        (pid,) = worker_pids(pod)
        os.kill(pid, signal.SIGSTOP)
        view = await pod.client.until(ID, lambda one: one.state == "ERROR")

    assert well.state == "READY"
    assert view.recovery.cause == "Hang"


async def test_a_host_that_was_frozen_blames_no_worker_for_it() -> None:
    async with host_pod(pool_config(agent="support.agents.counter:Counter"), hang_seconds=1) as pod:
        await pod.client.invoke("t", "p", "add")
        call = asyncio.create_task(pod.client.invoke("t", "p", {"sleep": 5}))
        await asyncio.sleep(1.5)
        assert pod.host is not None
        pod.host.send_signal(signal.SIGSTOP)
        await asyncio.sleep(2.5)
        pod.host.send_signal(signal.SIGCONT)
        assert (await call).output == 1


@pytest.mark.parametrize(
    ("config", "doing"),
    [
        pytest.param({"slow": 3600}, r"the agent's setup\(\)", id="a setup that blocks"),
        pytest.param({"block": True}, r"the agent's restore\(\)", id="a restore that blocks"),
    ],
)
async def test_the_deadline_of_a_start_says_what_was_being_done(
    config: dict[str, object], doing: str, redis: RedisServer
) -> None:
    slow = pool_config(
        agent=FRAGILE, storage="Redis", config=config, limits={"creation_timeout_seconds": 1.0}, generation=2
    )
    async with host_pod(CONFIG, redis_url=redis.url) as pod:
        await pod.client.invoke("t", "p", "add")
        await pod.client.operate("Pause", ID)
        await pod.client.configure(slow)
        with pytest.raises(AgentCreationTimeout, match=f"within 1 s: {doing} ran"):
            await pod.client.operate("Resume", ID)
        view = await pod.client.operate("Get", ID)

    assert (view.state, view.reason) == ("ERROR", "RestoreFailed" if "block" in config else "SetupFailed")
