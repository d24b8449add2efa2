# SPDX-License-Identifier: Apache-2.0
"""How little the operator writes, as the API server's own audit tells."""

from __future__ import annotations

import asyncio
from collections import Counter

from agentpool_operator.kube.kinds import INSTANCES, POOLS
from support.apiserver import ApiServer
from support.builders import manifest
from support.kstatus import CURRENT, reading
from support.operators import Scene

OPERATOR = "agentpool-operator"
COLD = 6
WRITES = 6
"""Of the operator for each first request: record, adoption, replacement, its Event, two status writes."""
MORE = 3
"""For the whole run: on a slow machine a status is written once more before the numbers are final."""
QUIET_SECONDS = 5.0
"""Longer than two resyncs of the scene, and than counts may be put off."""
TIMES = 50


async def ran_dry(scene: Scene, api: ApiServer) -> list[str]:
    """What the operator wrote until it wrote nothing for a while."""
    before = api.writes(OPERATOR)
    for _ in range(6):
        await asyncio.sleep(QUIET_SECONDS)
        found = api.writes(OPERATOR)
        if found == before:
            return found
        before = found
    raise AssertionError(f"the operator goes on writing: {before[-20:]}")


PATH = "/apis/agentpool.dev/v1alpha1/namespaces/default"


async def test_a_first_request_costs_few_writes(scene: Scene, api: ApiServer) -> None:
    await scene.pool({"warmup": {"count": 3}})
    await scene.until(scene.ready)
    before = len(await ran_dry(scene, api))
    for number in range(COLD):
        host = next(
            one for one in scene.node.hosts.values() if one.status.role == "Generic" and not one.instances
        )
        host.arrive("acme", f"project-{number}")

        async def adopted(wanted: int = number + 1) -> bool:
            records = await scene.client.list(INSTANCES, "default")
            shown = [one for one in records if (one.get("status") or {}).get("state") == "READY"]
            return len(shown) == wanted and await scene.ready()

        await scene.until(adopted)
    told = (await ran_dry(scene, api))[before:]
    counted = Counter(line.rsplit(" ", 1)[0] for line in told)
    assert len(told) <= WRITES * COLD + MORE, counted
    assert counted["create pods"] == COLD
    assert counted["create agentinstances"] == COLD


async def test_a_manifest_that_is_applied_again_and_again_changes_nothing(
    scene: Scene, api: ApiServer
) -> None:
    spec = {"warmup": {"count": 1}}
    await scene.pool(spec)
    await scene.instance("shared", "shared", state="Running")
    pool = manifest(spec)
    instance = {
        "apiVersion": pool["apiVersion"],
        "kind": "AgentInstance",
        "metadata": {"name": "shared"},
        "spec": {"pool": "support", "tenant": "acme", "project": "shared", "state": "Running"},
    }

    async def settled() -> bool:
        bodies = [await scene.client.get(POOLS, "default", "support")]
        bodies.append(await scene.client.get(INSTANCES, "default", "shared"))
        return all(body is not None and reading(body) == CURRENT for body in bodies) and await scene.ready()

    await scene.until(settled)
    written = len(await ran_dry(scene, api))
    merge = {"content-type": "application/merge-patch+json"}
    seen = set()
    for number in range(TIMES):
        for place, body in (("agentpools/support", pool), ("agentinstances/shared", instance)):
            applied = api.apply(f"{PATH}/{place}", body, manager="gitops")
            assert applied.is_success, applied.text
            merged = api.client.patch(
                f"{PATH}/{place}", json=body, headers=merge, params={"fieldManager": "kubectl"}
            )
            assert merged.is_success, merged.text
            if number:
                seen.add((place, applied.json()["metadata"]["generation"]))
                # The first one puts its name into managedFields; after it nothing changes at all.
                seen.add((place, merged.json()["metadata"]["resourceVersion"]))
    await asyncio.sleep(QUIET_SECONDS)
    assert len(seen) == 4, seen
    assert {("agentpools/support", 1), ("agentinstances/shared", 1)} <= seen
    assert api.writes(OPERATOR)[written:] == []
    assert await settled()


async def test_an_operator_that_starts_anew_changes_nothing(scene: Scene, api: ApiServer) -> None:
    await scene.pool({"warmup": {"count": 2}})
    await scene.instance("vip", "vip", tier="HOT")

    async def lives() -> bool:
        return (await scene.status(INSTANCES, "vip")).get("state") == "READY" and await scene.ready()

    await scene.until(lives)
    cold = next(
        one for one in scene.node.hosts.values() if one.status.role == "Generic" and not one.instances
    )
    cold.arrive("acme", "cold")

    async def adopted() -> bool:
        return len(await scene.client.list(INSTANCES, "default")) == 2 and await scene.ready()

    await scene.until(adopted)
    written = len(await ran_dry(scene, api))
    before = [(await scene.status(POOLS, "support")), (await scene.status(INSTANCES, "vip"))]
    await scene.stop()
    await scene.start()
    await asyncio.sleep(QUIET_SECONDS)
    assert api.writes(OPERATOR)[written:] == []
    assert [(await scene.status(POOLS, "support")), (await scene.status(INSTANCES, "vip"))] == before
