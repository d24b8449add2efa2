# SPDX-License-Identifier: Apache-2.0
"""A real host tells agents that compute from agents that wait, and refuses only what it has no cores for."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

from agentpool_core.errors import HostOverloaded
from support.hosts import FAULTY, HostPod, host_pod, pool_config

PROJECTS = 40


async def flood(pod: HostPod, body: dict[str, float], seconds: float) -> Counter[str]:
    """Each project asks again as soon as it is answered, and 50 ms after it was refused."""
    outcomes: Counter[str] = Counter()

    async def project(number: int) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                await pod.client.invoke("t", f"p{number}", body)
                outcomes["answered"] += 1
            except HostOverloaded as exc:
                assert exc.retry_after_seconds
                outcomes["refused"] += 1
                await asyncio.sleep(0.05)

    await asyncio.gather(*map(project, range(PROJECTS)))
    return outcomes


async def test_agents_that_compute_are_limited_and_agents_that_wait_are_not() -> None:
    async with host_pod(pool_config(agent=FAULTY)) as pod:
        for number in range(PROJECTS):
            await pod.client.invoke("t", f"p{number}", {})
        # The first of them may still be judged by the CPU time of the workers' start.
        await flood(pod, {"wait": 0.3}, 1.0)
        waiting = await flood(pod, {"wait": 0.3}, 2.0)
        assert not waiting["refused"] and waiting["answered"] >= PROJECTS
        computing = await flood(pod, {"compute": 0.1}, 4.0)
        assert computing["refused"] and computing["answered"]
