# SPDX-License-Identifier: Apache-2.0
"""Operators come and go: nothing is lost, nothing is done twice."""

from __future__ import annotations

import asyncio
import time

import pytest

from agentpool_operator.app import App
from agentpool_operator.kube.kinds import DEPLOYMENTS, INSTANCES, LEASES, POOLS
from support.operators import RELEASE, Scene, operator_settings

SMALL = {"warmup": {"count": 2}}


async def test_the_next_operator_finds_everything_as_it_is(scene: Scene) -> None:
    await scene.pool(SMALL)
    await scene.until(scene.ready)
    before = {body["metadata"]["uid"] for body in await scene.pods()}
    assert await scene.stop() == 0
    lease = await scene.client.get(LEASES, RELEASE, "agentpool-operator")
    assert lease is not None
    assert lease["spec"]["holderIdentity"] == ""
    await scene.start()
    host = await scene.host("generic")

    def configured() -> bool:
        return len(host.configured) >= 2

    await scene.until(configured)
    assert {body["metadata"]["uid"] for body in await scene.pods()} == before


async def test_a_deletion_that_no_operator_saw_is_carried_out(scene: Scene) -> None:
    await scene.pool({"warmup": {"count": 0}})
    await scene.instance("shared", "shared")
    held = [host for host in scene.node.hosts.values() if host.instances]

    def activated() -> bool:
        held[:] = [host for host in scene.node.hosts.values() if host.instances]
        return bool(held)

    await scene.until(activated)
    declared = await scene.client.get(INSTANCES, "default", "shared")
    assert declared is not None
    await scene.stop()
    await scene.client.delete(INSTANCES, "default", "shared", declared["metadata"]["uid"])
    await scene.start()

    def ended() -> bool:
        return not held[0].instances

    await scene.until(ended)
    assert "terminate" in held[0].calls


@pytest.mark.parametrize("seen", [True, False], ids=["while it looks", "while nobody looks"])
async def test_the_pods_of_a_deleted_pool_end_those_of_declared_instances_too(
    scene: Scene, seen: bool
) -> None:
    pool = await scene.pool(SMALL)
    await scene.instance("vip", "vip", tier="HOT")

    async def lives() -> bool:
        return len(await scene.pods("hot")) == 1 and await scene.ready()

    await scene.until(lives)
    if not seen:
        await scene.stop()
    deployment = await scene.client.get(DEPLOYMENTS, "default", "support-warm")
    assert deployment is not None
    for kind, body in ((POOLS, pool), (DEPLOYMENTS, deployment)):
        await scene.client.delete(kind, "default", body["metadata"]["name"], body["metadata"]["uid"])
    if not seen:
        await scene.start()

    async def gone() -> bool:
        return not await scene.pods()

    await scene.until(gone)


async def test_a_second_operator_waits_and_takes_over_at_once(scene: Scene) -> None:
    await scene.pool(SMALL)
    await scene.until(scene.ready)
    second = App(operator_settings(identity="second"), scene.node.address)
    task = asyncio.create_task(second.run())
    await asyncio.sleep(1)
    assert second.cache.pools == ()
    began = time.monotonic()
    await scene.stop()

    async def leads() -> bool:
        lease = await scene.client.get(LEASES, RELEASE, "agentpool-operator")
        return lease is not None and lease["spec"]["holderIdentity"] == "second" and bool(second.cache.pools)

    await scene.until(leads)
    assert time.monotonic() - began < 3
    before = {body["metadata"]["uid"] for body in await scene.pods()}
    await scene.pool({"warmup": {"count": 3}})
    await scene.until(scene.ready)
    assert before < {body["metadata"]["uid"] for body in await scene.pods()}
    second.stopping.set()
    assert await task == 0
