# SPDX-License-Identifier: Apache-2.0
"""A spec that does not work costs nothing that does, says what is wrong, and the last good one mends it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agentpool_operator.kube.kinds import BUDGETS, INSTANCES, PODS
from support.operators import BROKEN, Scene

GOOD: Mapping[str, Any] = {"warmup": {"count": 2}, "tiers": {"warm": {"replicas": 2}}}
BAD: Mapping[str, Any] = {**GOOD, "agent": {"entrypoint": "package.module:Agent", "image": BROKEN}}


async def uids(scene: Scene, role: str) -> set[str]:
    return {body["metadata"]["uid"] for body in await scene.pods(role)}


async def test_a_bad_image_leaves_what_works_and_the_last_good_spec_mends_everything(scene: Scene) -> None:
    scene.node.deployments.progress_seconds = 1.0
    await scene.pool(GOOD)
    await scene.instance("vip", "vip", tier="HOT")

    async def lives() -> bool:
        return (await scene.status(INSTANCES, "vip")).get("state") == "READY" and await scene.ready()

    await scene.until(lives)
    before = {role: await uids(scene, role) for role in ("warm", "hot", "generic")}
    await scene.pool(BAD)

    async def stuck() -> bool:
        return (await scene.condition(kind="Stalled")).get("status") == "True"

    await scene.until(stuck)
    message = (await scene.condition())["message"]
    assert (await scene.condition())["reason"] == "ProgressDeadlineExceeded"
    assert "2 pods serve on" in message
    assert BROKEN in message
    for role, there in before.items():
        assert there <= await uids(scene, role), role
    (hot,) = await scene.pods("hot")
    status = await scene.status(INSTANCES, "vip")
    assert (status["state"], status["pod"]) == ("READY", hot["metadata"]["name"])

    await scene.pool({**GOOD, "agent": {"entrypoint": "agentpool_agent.agents.echo:Echo"}})

    async def mended() -> bool:
        now = {role: await uids(scene, role) for role in before}
        return now == before and await lives()

    await scene.until(mended)


async def test_a_pool_that_was_wrong_from_the_start_is_mended_by_a_spec_that_works(scene: Scene) -> None:
    await scene.pool(BAD)
    await scene.instance("vip", "vip", tier="HOT")

    async def told() -> bool:
        reason = (await scene.condition()).get("reason")
        return reason == "ImageMissing" and len(await scene.pods("hot")) == 1

    await scene.until(told)
    await scene.pool({**GOOD, "agent": {"entrypoint": "agentpool_agent.agents.echo:Echo"}})

    async def mended() -> bool:
        return await scene.ready() and (await scene.status(INSTANCES, "vip")).get("state") == "READY"

    await scene.until(mended, 40)
    assert BROKEN not in str(await scene.pods())


async def test_a_new_image_replaces_every_idle_pod_and_never_the_last_one_that_serves(scene: Scene) -> None:
    await scene.pool(GOOD)
    await scene.instance("vip", "vip", tier="HOT")

    async def lives() -> bool:
        return (await scene.status(INSTANCES, "vip")).get("state") == "READY" and await scene.ready()

    await scene.until(lives)
    (await scene.host("generic")).arrive("acme", "taken")
    before = {role: await uids(scene, role) for role in ("warm", "hot", "generic")}
    await scene.pool({**GOOD, "agent": {"entrypoint": "package.module:Other"}})
    fewest = 2

    async def replaced() -> bool:
        nonlocal fewest
        warm = await uids(scene, "warm")
        fewest = min(fewest, len(warm & scene.node.hosts.keys()))
        # Also the one that a COLD instance took: it is idle, and its next request finds a new one.
        gone = not warm & before["warm"] and not await uids(scene, "generic") & before["generic"]
        return gone and not (await uids(scene, "hot")) & before["hot"] and await lives()

    await scene.until(replaced, 40)
    assert fewest == 2


async def test_what_a_crash_left_behind_is_taken_over_or_removed(scene: Scene) -> None:
    pool = await scene.pool({"warmup": {"count": 1}})
    await scene.until(scene.ready)
    await scene.stop()
    # Recorded, and not adopted before the operator died.
    half = await scene.host("generic")
    one = half.arrive("acme", "half")
    owner = {
        "apiVersion": "agentpool.dev/v1alpha1",
        "kind": "AgentPool",
        "name": "support",
        "uid": pool["metadata"]["uid"],
        "controller": True,
    }
    for name, project in ((one.id, "half"), ("inst-lost", "lost")):
        metadata = {
            "name": name,
            "labels": {"agentpool.dev/origin": "observed", "agentpool.dev/pool-uid": pool["metadata"]["uid"]},
            "ownerReferences": [owner],
        }
        spec = {"pool": "support", "tenant": "acme", "project": project}
        await scene.client.create(INSTANCES, "default", {"metadata": metadata, "spec": spec})
    await scene.start()

    async def settled() -> bool:
        pod = next(b for b in await scene.pods("generic") if b["metadata"]["uid"] == half.incarnation.pod_uid)
        adopted = pod["metadata"]["labels"].get("agentpool.dev/instance") == one.id
        lost = await scene.client.get(INSTANCES, "default", "inst-lost")
        return adopted and lost is None and await scene.ready()

    await scene.until(settled)
    assert len(await scene.pods("generic")) == 2


async def test_a_single_shared_pod_may_be_evicted_and_of_two_one(scene: Scene) -> None:
    for replicas, least in ((2, 1), (1, 0)):
        await scene.pool({"warmup": {"count": 0}, "tiers": {"warm": {"replicas": replicas}}})
        await scene.until(scene.ready)

        async def set_up(least: int = least) -> bool:
            budget = await scene.client.get(BUDGETS, "default", "support-warm")
            return budget is not None and budget["spec"]["minAvailable"] == least

        await scene.until(set_up)
    assert await scene.client.list(PODS, "default")
