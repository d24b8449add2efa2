# SPDX-License-Identifier: Apache-2.0
"""Tiers that are declared or follow traffic: the live instance moves, and no pod is late."""

from __future__ import annotations

import time
from typing import Any

from agentpool_core.names import InstanceKey
from agentpool_operator.kube.kinds import EVENTS, INSTANCES, POOLS
from agentpool_proto.v1 import host_pb2, types_pb2
from support.fake_hosts import PodHost
from support.operators import Scene

SMALL = {"warmup": {"count": 2}, "tiers": {"warm": {"replicas": 1}}}
VIP = InstanceKey("default", "support", "acme", "vip").instance_id


async def shows(scene: Scene, name: str, **wanted: str) -> None:
    """Wait until the status of an AgentInstance says so."""

    async def check() -> bool:
        status = await scene.status(INSTANCES, name)
        return {key: status.get(key) for key in wanted} == wanted

    try:
        await scene.until(check)
    except TimeoutError:
        raise AssertionError(f"{name} shows {await scene.status(INSTANCES, name)}, not {wanted}") from None


async def uid_of(scene: Scene, name: str) -> str:
    """UID of an AgentInstance."""
    body = await scene.client.get(INSTANCES, "default", name)
    assert body is not None
    return str(body["metadata"]["uid"])


async def warm(scene: Scene) -> PodHost:
    """A ready pool's shared host."""
    await scene.pool(SMALL)
    await scene.until(scene.ready)
    return await scene.host("warm")


async def test_an_instance_made_by_traffic_and_then_declared_is_told_to_the_store(scene: Scene) -> None:
    host = await warm(scene)
    host.arrive("acme", "vip", "WARM")
    await scene.instance("vip", "vip")
    await shows(scene, "vip", state="READY", tier="WARM")
    await scene.until(lambda: host.instances[VIP].declared_uid != "")
    assert host.instances[VIP].declared_uid == await uid_of(scene, "vip")
    assert host.activated == []


async def test_one_that_is_evicted_is_told_without_being_woken(scene: Scene) -> None:
    host = await warm(scene)
    host.arrive("acme", "vip", "WARM")
    host.leave(VIP)
    await scene.instance("vip", "vip")
    await scene.until(lambda: host.store.shelf[VIP].declared_uid != "")
    assert (host.activated, list(host.instances)) == ([], [])


async def test_warm_by_traffic_and_declared_hot_gets_its_pod_and_then_moves_into_it(scene: Scene) -> None:
    host = await warm(scene)
    host.arrive("acme", "vip", "WARM")
    await scene.instance("vip", "vip", tier="HOT")
    await shows(scene, "vip", state="READY", tier="HOT")
    (pod,) = await scene.pods("hot")
    hot = scene.node.named(pod["metadata"]["name"])
    assert VIP in hot.instances
    assert VIP not in host.instances
    (move,) = [one for one in host.moves if one.tier]
    assert move.tier == "HOT"
    # It was served on the shared host until its own pod was there.
    assert [one.tier for one in hot.activated] == ["HOT"]


async def test_warm_by_traffic_paused_and_declared_hot_is_resumed_in_its_own_pod(scene: Scene) -> None:
    host = await warm(scene)
    host.arrive("acme", "vip", "WARM")
    await scene.instance("vip", "vip", state="Paused")
    await shows(scene, "vip", state="PAUSED", reason="UserRequested")
    await scene.instance("vip", "vip", tier="HOT", state="Running")
    await shows(scene, "vip", state="READY", tier="HOT")


async def test_a_hot_instance_declared_warm_gives_its_pod_back_and_keeps_its_state(scene: Scene) -> None:
    host = await warm(scene)
    await scene.instance("vip", "vip", tier="HOT")
    await shows(scene, "vip", state="READY", tier="HOT")
    await scene.instance("vip", "vip", tier="WARM")
    await shows(scene, "vip", state="PAUSED", reason="Evicted", tier="WARM")

    async def retired() -> bool:
        return not await scene.pods("hot")

    await scene.until(retired)
    assert host.store.shelf[VIP].tier == "WARM"
    assert "terminate" not in host.calls


async def test_a_cold_instance_declared_hot_stays_on_its_pod_which_is_labelled_anew(scene: Scene) -> None:
    await warm(scene)
    generic = await scene.host("generic")
    generic.arrive("acme", "vip", "COLD")
    await scene.instance("vip", "vip", tier="HOT")
    await shows(scene, "vip", state="READY", tier="HOT", pod=generic.pod)

    async def labelled() -> bool:
        mine = [one for one in await scene.pods() if one["metadata"]["uid"] == generic.incarnation.pod_uid]
        return [one["metadata"]["labels"].get("agentpool.dev/tier") for one in mine] == ["hot"]

    await scene.until(labelled)
    assert await scene.pods("hot") == []


async def test_an_instance_of_high_criticality_becomes_hot_by_itself(
    scene: Scene,
) -> None:
    await scene.pool({**SMALL, "tiering": {"mode": "Automatic"}})
    await scene.until(scene.ready)
    host = await scene.host("warm")
    await scene.instance("vip", "vip", criticality="High")
    await shows(scene, "vip", state="READY", tier="HOT")
    assert [one.tier for one in host.moves if one.tier] == ["HOT"]

    async def told() -> bool:
        events = await scene.client.list(EVENTS, "default")
        notes = [one["note"] for one in events if one.get("reason") == "TierChanged"]
        return any(VIP in note and "criticality High" in note for note in notes)

    await scene.until(told)


async def test_a_failing_instance_shows_what_is_done_about_it(scene: Scene) -> None:
    host = await warm(scene)
    host.arrive("acme", "vip", "WARM")
    await scene.instance("vip", "vip")
    await shows(scene, "vip", state="READY")
    one = host.instances[VIP]
    one.state, one.reason = "ERROR", "Its worker is gone."
    recovery: dict[str, Any] = {"cause": "Crash", "failures": 6, "failed_at": 1.0, "message": "It died."}
    one.recovery.CopyFrom(types_pb2.Recovery(strategy="RESTART", **recovery))
    host.keep(one)

    async def condition(kind: str, wanted: str) -> bool:
        return (await scene.condition("vip", kind, INSTANCES)).get("status") == wanted

    await scene.until(lambda: condition("Recovering", "True"))
    one.recovery.CopyFrom(types_pb2.Recovery(strategy="ESCALATE", **{**recovery, "failed_at": 2.0}))
    host.keep(one)
    await scene.until(lambda: condition("Escalated", "True"))
    assert await condition("Stalled", "True")

    async def pool_says() -> bool:
        found = await scene.condition("support", "InstancesFailing", POOLS)
        return found.get("status") == "True" and VIP in found["message"]

    await scene.until(pool_says)
    events = await scene.client.list(EVENTS, "default")
    reasons = {event.get("reason") for event in events}
    assert {"RecoveryRestart", "RecoveryEscalate"} <= reasons


async def test_an_escalated_instance_that_nobody_declared_is_told_of_on_its_pool(scene: Scene) -> None:
    host = await warm(scene)
    host.arrive("acme", "vip", "WARM")
    one = host.instances[VIP]
    one.state = "ERROR"
    one.recovery.CopyFrom(types_pb2.Recovery(strategy="ESCALATE", cause="Hang", failures=9, failed_at=1.0))
    host.keep(one)

    async def told() -> bool:
        events = await scene.client.list(EVENTS, "default")
        return any(e.get("reason") == "InstanceEscalated" and VIP in e["note"] for e in events)

    await scene.until(told)


async def test_a_new_hot_instance_that_no_waiting_pod_takes_gets_a_pod_of_its_own(scene: Scene) -> None:
    tiers = {"hot": {"maxInstances": 1}, "warm": {"replicas": 1}}
    await scene.pool({"warmup": {"count": 0}, "tiers": tiers})
    await scene.until(scene.ready)
    host = await scene.host("warm")
    asked = [
        host_pb2.Awaited(
            instance_id=InstanceKey("default", "support", "acme", project).instance_id,
            tenant_id="acme",
            project_id=project,
            tier="HOT",
            asked_at=time.time() - ago,
        )
        for project, ago in (("vip", 1.0), ("beyond-the-cap", 0.0), ("long-ago", 3600.0))
    ]
    host.status.awaited.extend(asked)
    host.report_status()

    async def made() -> bool:
        pods = await scene.pods("hot")
        return [one["metadata"]["labels"]["agentpool.dev/instance"] for one in pods] == [VIP]

    await scene.until(made)
    (pod,) = await scene.pods("hot")
    reserved = [one["name"] for one in pod["spec"]["containers"][0]["env"]]
    assert "AGENTPOOL_RESERVED_FOR" in reserved
    await scene.until(lambda: pod["metadata"]["uid"] in scene.node.hosts)
    scene.node.hosts[pod["metadata"]["uid"]].arrive("acme", "vip", "HOT")
    await shows(scene, VIP, state="READY", tier="HOT", pod=pod["metadata"]["name"])
    records = await scene.client.list(INSTANCES, "default")
    assert [one["metadata"]["name"] for one in records] == [VIP]
