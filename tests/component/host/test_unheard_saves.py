# SPDX-License-Identifier: Apache-2.0
"""A change is made once although the store's answer to its save comes late, or is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from agentpool_agent.store.scripts import SCRIPTS
from agentpool_core.errors import OutcomeUnknown, StoreUnavailable, Unavailable
from support.hosts import COUNTER, HostPod, host_pod, pool_config
from support.redis import RedisServer
from support.tcpproxy import TcpProxy, open_tcp_proxy

FOR_EVER = 1_000_000


@asynccontextmanager
async def behind_a_proxy(
    redis: RedisServer, seconds: float = 30.0
) -> AsyncIterator[tuple[HostPod, TcpProxy]]:
    """A pod with an instance that has counted to one, and faults that meet its saves alone."""
    config = pool_config(agent=COUNTER, storage="Redis", limits={"request_timeout_seconds": seconds})
    async with open_tcp_proxy("127.0.0.1", redis.port) as proxy:
        proxy.only = SCRIPTS["save"].sha.encode()
        async with host_pod(config, redis_url=f"redis://127.0.0.1:{proxy.port}") as pod:
            await pod.client.invoke("t", "p", "add")
            yield pod, proxy


async def counted(pod: HostPod, body: object = "get", **options: object) -> object:
    """The first answer that is not refused."""
    async with asyncio.timeout(20):
        while True:
            try:
                return (await pod.client.invoke("t", "p", body, **options)).output
            except Unavailable:
                await asyncio.sleep(0.05)


async def test_a_late_answer_is_waited_for(redis: RedisServer) -> None:
    async with behind_a_proxy(redis) as (pod, proxy):
        proxy.delay_seconds = 1.5
        answer = await pod.client.invoke("t", "p", "add", timeout=60)
        proxy.delay_seconds = 0
        total = await counted(pod)

    assert (answer.output, total) == (2, 2)


@pytest.mark.parametrize("answers", [1, 2])
async def test_a_lost_answer_is_asked_for_again(redis: RedisServer, answers: int) -> None:
    async with behind_a_proxy(redis) as (pod, proxy):
        proxy.swallow = answers
        together = await asyncio.gather(
            pod.client.invoke("t", "p", "add", timeout=60), pod.client.invoke("t", "p", "get", timeout=60)
        )
        following = await pod.client.invoke("t", "p", "add", timeout=60)

    assert proxy.swallowed == answers
    assert together[0].output == 2
    assert following.output == 3


async def test_a_broken_connection_is_asked_for_again_on_another(redis: RedisServer) -> None:
    async with behind_a_proxy(redis) as (pod, proxy):
        outputs = []
        for _ in range(3):
            proxy.cut_after = 1
            outputs.append(await counted(pod, "add"))
        total = await counted(pod)

    assert proxy.cuts == 3
    assert outputs == [2, 3, 4]
    assert total == 4


async def test_without_any_answer_the_outcome_is_unknown_and_the_change_is_made_once_or_not_at_all(
    redis: RedisServer,
) -> None:
    async with behind_a_proxy(redis, seconds=4.0) as (pod, proxy):
        proxy.swallow = FOR_EVER
        with pytest.raises(OutcomeUnknown) as unknown:
            await pod.client.invoke("t", "p", "add", timeout=60)
        proxy.swallow = 0
        seen = await counted(pod)
        following = await counted(pod, "add")

    assert not unknown.value.retryable
    assert seen in (1, 2)
    assert following == 3, "the save was carried out, and a new claim reads it"


async def test_with_a_key_the_repetition_of_an_unknown_outcome_counts_once(redis: RedisServer) -> None:
    async with behind_a_proxy(redis) as (pod, proxy):
        proxy.swallow = FOR_EVER
        with pytest.raises(StoreUnavailable):
            await pod.client.invoke("t", "p", "add", key="k", timeout=60)
        proxy.swallow = 0
        again = await counted(pod, "add", key="k")
        total = await counted(pod)

    assert (again, total) == (2, 2)


async def test_a_store_that_stands_still_after_a_save_keeps_it(
    redis: RedisServer,
) -> None:
    async with behind_a_proxy(redis) as (pod, proxy):
        proxy.swallow = 1
        asked = asyncio.create_task(pod.client.invoke("t", "p", "add", timeout=60))
        async with asyncio.timeout(10):
            while not proxy.swallowed:  # noqa: ASYNC110 - the proxy has no event for it
                await asyncio.sleep(0.01)
        redis.freeze()
        await asyncio.sleep(3.5)
        redis.thaw()
        answer = await asked
        total = await counted(pod)

    assert (answer.output, total) == (2, 2)
