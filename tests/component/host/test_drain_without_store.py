# SPDX-License-Identifier: Apache-2.0
"""A host that is told to end ends soon: also without its store, also while it starts."""

from __future__ import annotations

import asyncio
import signal
import sys
import time

import pytest

from support.hosts import COUNTER, host_pod, pool_config
from support.redis import RedisServer

DRAIN_SECONDS = 300.0
"""Far beyond what a test waits: the end comes from patience, not from the deadline."""
SOON = 60.0
PROJECTS = 20


async def test_a_silent_store_does_not_hold_a_drain_up_and_nothing_acknowledged_is_lost(
    redis: RedisServer,
) -> None:
    config = pool_config(agent=COUNTER, storage="Redis")
    async with host_pod(config, redis_url=redis.url, drain_seconds=DRAIN_SECONDS) as one:
        for number in range(PROJECTS):
            await one.client.invoke("t", f"p{number}", "add")
        ended = one.incarnation
        redis.freeze()
        status = await one.drain_host(SOON)
    redis.thaw()
    async with host_pod(config, redis_url=redis.url) as two:
        answers = [
            (await two.client.invoke("t", f"p{n}", "add", ended=[ended])).output for n in range(PROJECTS)
        ]

    assert status == 0
    assert answers == [2] * PROJECTS


async def test_a_store_that_is_gone_does_not_hold_a_drain_up(redis: RedisServer) -> None:
    config = pool_config(agent=COUNTER, storage="Redis")
    async with host_pod(config, redis_url=redis.url, drain_seconds=DRAIN_SECONDS) as pod:
        await pod.client.invoke("t", "p", "add")
        redis.stop()
        assert await pod.drain_host(SOON) == 0


async def test_what_is_in_no_checkpoint_is_tried_for_longer(redis: RedisServer) -> None:
    config = pool_config(agent=COUNTER, storage="Redis", durability="Interval")
    async with host_pod(config, redis_url=redis.url, drain_seconds=DRAIN_SECONDS) as one:
        await one.client.invoke("t", "p", "add")
        redis.freeze()
        drained = asyncio.create_task(one.drain_host(SOON))
        await asyncio.sleep(5.0)
        still_there = not drained.done()
        redis.thaw()
        status = await drained
    async with host_pod(config, redis_url=redis.url) as two:
        found = await two.client.invoke("t", "p", "add")

    assert (still_there, status, found.output) == (True, 0, 2)


@pytest.mark.parametrize("module", ["agentpool_agent.host", "agentpool_agent.zygote"])
async def test_a_process_that_is_told_to_end_while_it_imports_ends_at_once(module: str) -> None:
    command = [sys.executable, "-X", "importtime", "-m", module, "--help"]
    process = await asyncio.create_subprocess_exec(
        *command, stderr=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL
    )
    assert process.stderr is not None
    began = time.monotonic()
    async with asyncio.timeout(SOON):
        # `signal` is imported before the handler is set, `argparse` or `ctypes` after it.
        while line := await process.stderr.readline():
            if line.rstrip().endswith((b" argparse", b" ctypes")):
                process.send_signal(signal.SIGTERM)
                break
        await process.stderr.read()
        status = await process.wait()

    # The kernel's own end of a process that handles nothing would be -SIGTERM.
    assert status == 0, time.monotonic() - began
