# SPDX-License-Identifier: Apache-2.0
"""A changed configuration reaches residents, with their state and without a failed request."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest

from agentpool_core.config import EffectivePool
from support.hosts import COUNTER, HostPod, host_pod, pool_config
from support.redis import RedisServer
from support.waiting import eventually


def revision(number: int, storage: str = "Redis", **changed: Any) -> EffectivePool:
    """The pool with a number in its agent's configuration."""
    return pool_config(
        agent=COUNTER, storage=storage, config={"revision": number}, generation=number, **changed
    )


async def told(pod: HostPod, project: str, number: int) -> bool:
    """Whether the project's agent was given that number."""
    reply = await pod.client.invoke("t", project, "config")
    return bool(reply.output == {"revision": number})


@pytest.mark.parametrize("storage", ["Redis", "Memory"])
async def test_residents_are_given_a_new_configuration_and_keep_their_state(
    redis: RedisServer, storage: str
) -> None:
    async with host_pod(revision(1, storage), redis_url=redis.url if storage == "Redis" else None) as pod:
        for project in ("a", "b", "c"):
            await pod.client.invoke("t", project, "add")
        await pod.client.configure(revision(2, storage))
        for project in ("a", "b", "c"):
            await eventually(partial(told, pod, project, 2), 20)
            assert (await pod.client.invoke("t", project, "add")).output == 2


async def test_under_load_every_request_is_answered_and_counted_once(redis: RedisServer) -> None:
    async with host_pod(revision(1), redis_url=redis.url) as pod:
        await pod.client.invoke("t", "p", "add")
        counts: list[int] = []
        ending = asyncio.Event()

        async def caller() -> None:
            while not ending.is_set():
                counts.append((await pod.client.invoke("t", "p", "add")).output)

        callers = [asyncio.create_task(caller()) for _ in range(3)]
        for number in (2, 3):
            await pod.client.configure(revision(number))
            await eventually(partial(told, pod, "p", number), 30)
        ending.set()
        await asyncio.gather(*callers)
        assert len(counts) > 3
        # Answers of one batch carry the same number, so that the last tells how many were counted.
        assert (await pod.client.invoke("t", "p", "get")).output == len(counts) + 1


async def test_what_changes_nothing_for_a_worker_leaves_it_alone(redis: RedisServer) -> None:
    async with host_pod(revision(1), redis_url=redis.url) as pod:
        before = await pod.client.invoke("t", "p", "add")
        config = revision(1).model_copy(update={"generation": 2, "instances_per_host": 7})
        await pod.client.configure(config)
        # Longer than the host's look at its residents.
        await asyncio.sleep(2.5)
        after = await pod.client.invoke("t", "p", "add")
        assert (after.output, after.accepted.epoch) == (2, before.accepted.epoch)
