# SPDX-License-Identifier: Apache-2.0
"""Restarts in good order, one after the other, under traffic: nobody notices."""

from __future__ import annotations

import asyncio
import signal

from support.hosts import COUNTER, pool_config
from support.spine import running_spine
from support.traffic import Traffic, report

PROJECTS = [f"project-{number}" for number in range(8)]
CONFIG = pool_config(agent=COUNTER, storage="Redis")


async def test_hosts_that_are_restarted_one_by_one_fail_no_request() -> None:
    async with running_spine(CONFIG, hosts=2, drain_seconds=20) as spine:
        # Without keys: nothing may be done twice, so nothing may break once it was accepted.
        traffic = Traffic([spine.gateways[0].url], keyed=False)
        async with traffic.running(PROJECTS, 0.4):
            await asyncio.sleep(1)
            for pod in spine.pods:
                await pod.drain_host(30)
                await asyncio.sleep(0.3)
                await pod.start_host()
                await pod.wait_ready()
                await asyncio.sleep(1)
        assert not traffic.refused
        for project, seen in traffic.seen.items():
            assert sorted(seen.outputs) == list(range(1, len(seen.outputs) + 1)), project
        report(f"hosts restarted: longest gap {traffic.gap:.2f} s")


async def test_a_client_of_two_gateways_that_restart_repeats_connection_errors_alone() -> None:
    async with running_spine(CONFIG, gateways=2) as spine:
        traffic = Traffic([gateway.url for gateway in spine.gateways], keyed=False)
        async with traffic.running(PROJECTS, 0.4):
            for number in range(2):
                await asyncio.sleep(1)
                await spine.stop_gateway(number, signal.SIGTERM)
                await asyncio.sleep(0.5)
                await spine.start_gateway(number)
                traffic.urls = [gateway.url for gateway in spine.gateways]
            await asyncio.sleep(1)
        assert not traffic.refused
        for project, seen in traffic.seen.items():
            assert sorted(seen.outputs) == list(range(1, len(seen.outputs) + 1)), project
        report(f"gateways restarted: {traffic.connection_errors} connection errors repeated")
