# SPDX-License-Identifier: Apache-2.0
"""The number of shared pods follows their load, says why, and is not fought over."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import httpx

from agentpool_core.cluster import DELETION_COST
from agentpool_core.lifecycle import Tier
from agentpool_core.placement import Candidate, Role, choose_shared
from agentpool_operator.kube.kinds import DEPLOYMENTS, EVENTS, PODS, POOLS, Object
from support.apiserver import ApiServer
from support.builders import manifest
from support.fake_hosts import PodHost
from support.operators import Scene

FEW: dict[str, Any] = {"warmup": {"count": 0}, "tiers": {"warm": {"resources": {"limits": {"cpu": "1"}}}}}
SCALED: dict[str, Any] = {"enabled": True, "minReplicas": 2, "maxReplicas": 5, "stabilizationSeconds": 4}
QUICK: dict[str, Any] = {**FEW, "scaling": {**SCALED, "cooldownSeconds": 1}}
SLOW: dict[str, Any] = {**FEW, "scaling": {**SCALED, "cooldownSeconds": 600}}
POOL = "/apis/agentpool.dev/v1alpha1/namespaces/default/agentpools/support"
LATER = 40.0


async def warm_hosts(scene: Scene) -> list[PodHost]:
    """Hosts of the shared pods that stay."""
    pods = [one for one in await scene.pods("warm") if "deletionTimestamp" not in one["metadata"]]
    return [host for one in pods if (host := scene.node.hosts.get(one["metadata"]["uid"])) is not None]


class Bearing:
    """Has every shared host say the same load, new ones included, until it ends."""

    def __init__(self, scene: Scene, **load: Any) -> None:
        self.scene, self.load = scene, load
        self._told: set[tuple[str, tuple[Any, ...]]] = set()

    async def __aenter__(self) -> Bearing:
        self._task = asyncio.create_task(self._tell())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()

    async def _tell(self) -> None:
        while True:
            for host in await warm_hosts(self.scene):
                mark = (host.pod, tuple(sorted(self.load.items())))
                if mark not in self._told:
                    self._told.add(mark)
                    host.bear(**self.load)
            await asyncio.sleep(0.2)


async def wanted(scene: Scene) -> int:
    """Replicas of the Deployment."""
    (body,) = await scene.client.list(DEPLOYMENTS, "default")
    return int(body["spec"]["replicas"])


async def scaling(scene: Scene) -> Object:
    return (await scene.status(POOLS, "support")).get("scaling") or {}


async def test_load_makes_pods_says_why_and_the_next_operator_goes_on(scene: Scene) -> None:
    await scene.pool(SLOW)
    await scene.until(scene.ready)
    assert await wanted(scene) == 2
    async with Bearing(scene, workers_cpu_millis=960, workers_memory_bytes=2**20):

        async def four() -> bool:
            return await wanted(scene) == 4

        await scene.until(four, LATER)
        await scene.until(scene.ready)

        async def told() -> bool:
            return (await scaling(scene)).get("currentReplicas") == 4

        await scene.until(told)
        status = await scaling(scene)
        assert status["desiredReplicas"] == 4
        last = status["lastAction"]
        assert (last["direction"], last["before"], last["after"], last["reason"]) == ("Up", 2, 4, "CpuHigh")
        assert last["loads"]["Cpu"] == 0.96
        assert "Cpu above 80%" in last["message"]
        assert status["cooldownUntil"] > last["at"]
        condition = await scene.condition(kind="ScalingActive")
        assert (condition["status"], condition["reason"]) == ("True", "Automatic")
        events = [one for one in await scene.client.list(EVENTS, "default") if one["reason"] == "ScaledUp"]
        assert len(events) == 1
        assert "From 2 to 4 pods" in events[0]["note"]
        # It is as full as before; the cooldown holds, and so it does after a change of the operator.
        await scene.stop()
        await scene.start()
        await asyncio.sleep(8)
        assert await wanted(scene) == 4
        assert (await scaling(scene)) == status
        body = await scene.client.get(POOLS, "default", "support")
        assert body is not None
        assert "replicas" not in body["spec"]["tiers"]["warm"]


async def test_a_smaller_number_drains_the_emptiest_first_and_one_after_another(scene: Scene) -> None:
    await scene.pool(QUICK)
    await scene.until(scene.ready)
    async with Bearing(scene, workers_cpu_millis=960, workers_memory_bytes=2**20) as bearing:

        async def four() -> bool:
            return await wanted(scene) == 4 and len(await warm_hosts(scene)) == 4

        await scene.until(four, LATER)
        full = (await warm_hosts(scene))[:2]
        for host in full:
            for number in range(3):
                host.arrive("acme", f"{host.pod}-{number}", "WARM")
        deletions: list[tuple[str, int]] = []
        watching = asyncio.create_task(victims(scene, deletions))
        bearing.load = {"workers_cpu_millis": 100, "workers_memory_bytes": 2**20}

        async def two() -> bool:
            return await wanted(scene) == 2 and len(await scene.pods("warm")) == 2

        await scene.until(two, LATER)
        watching.cancel()
        assert {host.pod for host in await warm_hosts(scene)} == {host.pod for host in full}
        # Each was marked before it went, and never two at once.
        gone = {name for name, cost in deletions if cost < 0}
        assert len(gone) == 2
        assert gone.isdisjoint({host.pod for host in full})
        assert (await scaling(scene))["lastAction"]["direction"] == "Down"


async def victims(scene: Scene, found: list[tuple[str, int]]) -> None:
    """Note down pods that are marked."""
    while True:
        marked = [
            (one["metadata"]["name"], int(cost))
            for one in await scene.pods("warm")
            if (cost := (one["metadata"].get("annotations") or {}).get(DELETION_COST)) is not None
        ]
        assert len(marked) <= 1, marked
        found.extend(one for one in marked if one not in found)
        await asyncio.sleep(0.05)


async def test_instances_spread_out_over_new_pods(scene: Scene) -> None:
    await scene.pool({**SLOW, "scaling": {**SLOW["scaling"], "minReplicas": 2}})
    await scene.until(scene.ready)
    first, second = await warm_hosts(scene)
    for number in range(24):
        first.arrive("acme", f"p{number}", "WARM")

    places = [
        Candidate(host.incarnation.pod_uid, Role.SHARED, frozenset({Tier.WARM}), 50, 0)
        for host in (first, second)
    ]

    def settled() -> bool:
        left = [choose_shared(one, Tier.WARM, places) for one in first.instances]
        return len(left) <= 14 or second.incarnation.pod_uid not in left

    await scene.until(settled, LATER)
    sent = [one.instance_id for one in first.moves if one.elsewhere]
    assert sent
    assert {choose_shared(one, Tier.WARM, places) for one in sent} == {second.incarnation.pod_uid}
    assert second.moves == []
    # What left is nobody's, with its state; its next request brings it up where there is room.
    assert all(one.reason == "Evicted" for one in first.store.shelf.values())


async def test_a_silent_host_is_no_reason_to_have_fewer(scene: Scene) -> None:
    await scene.pool({**FEW, "tiers": {"warm": {"replicas": 4, **FEW["tiers"]["warm"]}}})
    await scene.until(scene.ready)
    await scene.pool(QUICK)
    await asyncio.sleep(12)
    assert await wanted(scene) == 4
    assert (await scaling(scene))["desiredReplicas"] == 4


def scale(api: ApiServer, replicas: int) -> httpx.Response:
    """What `kubectl scale` sends."""
    headers = {"content-type": "application/merge-patch+json"}
    content = f'{{"spec": {{"replicas": {replicas}}}}}'
    return api.client.patch(f"{POOL}/scale", content=content, headers=headers)


async def test_kubectl_scale_is_refused_where_the_operator_chooses_and_rules_elsewhere(
    scene: Scene, api: ApiServer
) -> None:
    await scene.pool(SLOW)
    await scene.until(scene.ready)
    refused = scale(api, 4)
    assert refused.status_code == 422
    assert "set spec.scaling.mode to External" in refused.json()["message"]
    external = {**FEW, "scaling": {"enabled": True, "mode": "External"}}
    await scene.pool({**external, "tiers": {"warm": {"replicas": 2}}})
    await scene.until(scene.ready)
    assert scale(api, 4).status_code == 200

    async def four() -> bool:
        return await wanted(scene) == 4 and len(await scene.pods("warm")) == 4

    await scene.until(four)
    await scene.until(scene.ready)
    # What a HorizontalPodAutoscaler reads: the number, and the pods by selector.
    shown = api.client.get(f"{POOL}/scale").json()
    assert (shown["spec"]["replicas"], shown["status"]["replicas"]) == (4, 4)
    by_selector = await scene.client.list(PODS, "default", shown["status"]["selector"])
    names = {one["metadata"]["name"] for one in by_selector}
    assert names == {one["metadata"]["name"] for one in await scene.pods("warm")}
    assert "scaling" not in await scene.status(POOLS, "support")
    condition = await scene.condition(kind="ScalingActive")
    assert (condition["status"], condition["reason"]) == ("False", "External")


def apply(api: ApiServer, manager: str, spec: Object) -> httpx.Response:
    """What a tool for GitOps sends: server-side apply, nothing forced."""
    body = manifest(spec, name="support")
    headers = {"content-type": "application/apply-patch+yaml"}
    return api.client.patch(POOL, json=body, headers=headers, params={"fieldManager": manager})


def managers(pool: Object) -> dict[str, set[str]]:
    """Who has written `replicas` of the shared pods, with the subresources they did it by."""
    found: dict[str, set[str]] = {}
    for one in pool["metadata"]["managedFields"]:
        fields = one["fieldsV1"].get("f:spec", {}).get("f:tiers", {}).get("f:warm", {})
        if "f:replicas" in fields:
            found.setdefault(one["manager"], set()).add(one.get("subresource", ""))
    return found


async def test_the_number_belongs_to_the_scaler_and_neither_the_operator_nor_gitops_takes_it_back(
    scene: Scene, api: ApiServer
) -> None:
    external = {**FEW, "scaling": {"enabled": True, "mode": "External"}}
    without = external | {"tiers": {"warm": FEW["tiers"]["warm"]}}
    assert apply(api, "gitops", without).status_code == 201
    # The number to begin with, by a hand that does not come again.
    merge = {"content-type": "application/merge-patch+json"}
    first = {"spec": {"tiers": {"warm": {"replicas": 2}}}}
    assert api.client.patch(POOL, json=first, headers=merge).status_code == 200
    await scene.until(scene.ready)

    # As a HorizontalPodAutoscaler does it: it reads the subresource and replaces it.
    shown = api.client.get(f"{POOL}/scale").json()
    shown["spec"]["replicas"] = 4
    by = {"fieldManager": "autoscaler"}
    assert api.client.put(f"{POOL}/scale", json=shown, params=by).status_code == 200

    async def four() -> bool:
        return await wanted(scene) == 4 and len(await scene.pods("warm")) == 4

    await scene.until(four)
    await scene.until(scene.ready)
    # It tells of a stale read instead of overwriting what came meanwhile.
    assert api.client.put(f"{POOL}/scale", json=shown, params=by).status_code == 409

    assert apply(api, "gitops", without).status_code == 200, "a manifest without the number leaves it alone"
    refused = apply(api, "gitops", external | {"tiers": {"warm": {"replicas": 2, **FEW["tiers"]["warm"]}}})
    assert refused.status_code == 409
    assert "autoscaler" in refused.json()["message"], "one with the number is told whose it is"
    await scene.until(scene.ready)
    assert await wanted(scene) == 4
    pool = await scene.client.get(POOLS, "default", "support")
    assert pool is not None
    assert pool["spec"]["tiers"]["warm"]["replicas"] == 4
    assert managers(pool) == {"autoscaler": {"scale"}}
    condition = await scene.condition(kind="ScalingActive")
    assert (condition["status"], condition["reason"]) == ("False", "External")


async def test_a_pool_at_rest_is_not_written(scene: Scene) -> None:
    await scene.pool(SLOW)
    await scene.until(scene.ready)
    async with Bearing(scene, workers_cpu_millis=500, workers_memory_bytes=2**20) as bearing:
        await asyncio.sleep(8)
        before = await scene.client.get(POOLS, "default", "support")
        until = time.monotonic() + 8
        while time.monotonic() < until:
            bearing.load["workers_cpu_millis"] = 900 - bearing.load["workers_cpu_millis"]
            await asyncio.sleep(1)
        after = await scene.client.get(POOLS, "default", "support")
        assert before == after
