# SPDX-License-Identifier: Apache-2.0
"""A host dies under traffic: how long its instances are silent, and that nothing acknowledged is lost.

Bounds of time are far above what is measured (see docs/explanation/failover.md): the machine that runs these
tests is shared.
"""

from __future__ import annotations

import asyncio
import signal

import pytest

from support.cluster_spine import ClusterSpine, cluster_spine
from support.hosts import COUNTER, HostPod, pool_config
from support.spine import Spine, running_spine
from support.traffic import Traffic, report

CONFIG = pool_config(agent=COUNTER, storage="Redis")
GENERIC = {"role": "Generic", "tiers": "HOT,COLD"}
PROJECTS = [f"project-{number}" for number in range(6)]
PERIOD = 0.2
GENEROUS_SECONDS = 20.0


def exactly_once(traffic: Traffic) -> None:
    """Every acknowledged increment is there once, and every refusal says when to come back."""
    for project, seen in traffic.seen.items():
        assert sorted(seen.outputs) == list(range(1, len(seen.outputs) + 1)), (project, seen.refused)
        assert not seen.without_retry_after


async def owner_of(spine: Spine | ClusterSpine, project: str) -> HostPod:
    """The pod that holds a project's instance, once there is one."""
    async with asyncio.timeout(20):
        while True:
            for pod in spine.pods:
                held = [one.project_id for one in await pod.client.listed() if one.pod == pod.name]
                if project in held:
                    return pod
            await asyncio.sleep(0.1)


async def test_warm_instances_of_a_killed_host_answer_elsewhere() -> None:
    async with running_spine(CONFIG, hosts=2) as spine:
        traffic = Traffic([spine.gateways[0].url])
        async with traffic.running(PROJECTS, PERIOD):
            victim = await owner_of(spine, PROJECTS[0])
            await asyncio.sleep(1)
            await victim.kill_host()
            await asyncio.sleep(3)
        exactly_once(traffic)
        assert not traffic.refused
        assert traffic.gap < GENEROUS_SECONDS
        report(f"WARM, host killed: gap {traffic.gap:.2f} s")


@pytest.mark.parametrize(("tier", "generic"), [("WARM", 0), ("COLD", 2)])
async def test_a_pod_that_lost_its_zygote_is_left_at_once(tier: str, generic: int) -> None:
    async with running_spine(CONFIG, hosts=2, generic=generic) as spine:
        taught = await spine.answer("p", "add", tier=tier)
        await spine.pod(taught["pod"]).lose_zygote()
        # Its host lives on, and owns the instance until it is asked for it.
        found = await spine.answer("p", "add", tier=tier)
        assert (found["output"], found["tier"]) == (2, tier)
        assert found["pod"] != taught["pod"]


async def test_a_hot_instance_of_a_killed_pod_answers_from_a_waiting_one() -> None:
    async with cluster_spine(CONFIG, [GENERIC, GENERIC, GENERIC]) as spine:
        traffic = Traffic([spine.gateway.url], more={"tier": "HOT"}, headers=spine.headers())
        async with traffic.running(PROJECTS[:1], PERIOD):
            victim = await owner_of(spine, PROJECTS[0])
            await asyncio.sleep(1)
            await spine.vanish(victim)
            await asyncio.sleep(3)
        exactly_once(traffic)
        assert not traffic.refused
        assert traffic.gap < GENEROUS_SECONDS
        report(f"HOT, pod deleted by force: gap {traffic.gap:.2f} s")


async def test_a_frozen_host_is_left_once_the_cluster_calls_it_unready_and_does_no_harm_when_it_thaws() -> (
    None
):
    async with cluster_spine(CONFIG, [{}, {}]) as spine:
        traffic = Traffic([spine.gateway.url], headers=spine.headers())
        async with traffic.running(PROJECTS[:2], PERIOD):
            victim = await owner_of(spine, PROJECTS[0])
            await asyncio.sleep(1)
            spine.signal(victim, signal.SIGSTOP)
            # Probes of a real cluster take longer, with the same end.
            await asyncio.sleep(2)
            await spine.show_ready(victim, ready=False)
            await asyncio.sleep(6)
            spine.signal(victim, signal.SIGCONT)
            await spine.show_ready(victim, ready=True)
            await asyncio.sleep(2)
        exactly_once(traffic)
        assert not traffic.refused
        assert traffic.gap < GENEROUS_SECONDS
        report(f"WARM, host frozen, unready after 2 s: gap {traffic.gap:.2f} s")


async def test_fifty_instances_of_a_dead_host_wake_at_the_other_one_without_a_refusal() -> None:
    projects = [f"many-{number}" for number in range(50)]
    async with running_spine(CONFIG, hosts=2) as spine:
        # All of them at one host.
        for project in projects:
            await spine.pods[0].client.invoke("acme", project, "add")
        await asyncio.sleep(0.5)
        await spine.pods[0].kill_host()
        traffic = Traffic([spine.gateways[0].url])
        began = asyncio.get_running_loop().time()
        async with traffic.running(projects, 1.0):
            await asyncio.sleep(2)
        assert not traffic.refused
        assert set(traffic.seen) == set(projects)
        for project, seen in traffic.seen.items():
            assert sorted(seen.outputs) == list(range(2, len(seen.outputs) + 2)), project
        last = max(seen.answered[0] for seen in traffic.seen.values()) - began
        assert last < GENEROUS_SECONDS
        report(f"50 instances of a dead host: all answered within {last:.2f} s")
