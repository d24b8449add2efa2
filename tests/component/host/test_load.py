# SPDX-License-Identifier: Apache-2.0
"""A real host measures what it bears, and says nothing while it is at rest."""

from __future__ import annotations

import asyncio

from agentpool_agent.host.load import SLICE_SECONDS
from agentpool_proto.v1.host_pb2 import HostLoad
from support.hosts import COUNTER, HostPod, host_pod, pool_config


async def told(pod: HostPod, busy: bool) -> HostLoad:
    """The load as soon as it is that of a host with requests, or of one without."""
    async for status in pod.statuses(10 * SLICE_SECONDS):
        load = status.load
        measured = status.HasField("load") and load.workers_memory_bytes > 0
        if measured and (load.arrivals_per_second > 0) is busy:
            return load
    raise AssertionError("the watch ended")


async def test_load_is_measured_and_told_and_rest_is_quiet() -> None:
    async with host_pod(pool_config(agent=COUNTER)) as pod:
        for number in range(40):
            await pod.client.invoke("t", f"p{number % 4}", "add")
        load = await told(pod, busy=True)
        assert load.workers_memory_bytes > 10 * 2**20
        assert 0 < load.latency_p50_ms <= load.latency_p99_ms < 5_000
        rest = await told(pod, busy=False)
        assert rest.completions_per_second == 0.0
        # Once the requests have passed out of the last minute there is nothing to tell.
        seen: list[HostLoad] = []

        async def watch() -> None:
            async for status in pod.statuses(100):
                seen.append(status.load)  # noqa: PERF401  # as they come: it is cancelled

        watching = asyncio.create_task(watch())
        await asyncio.sleep(3 * SLICE_SECONDS)
        watching.cancel()
        # The snapshot, and one more if the processes' own CPU had not settled yet.
        assert 1 <= len(seen) <= 2
