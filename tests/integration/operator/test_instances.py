# SPDX-License-Identifier: Apache-2.0
"""AgentInstances: recorded when traffic makes them, driven when users declare them."""

from __future__ import annotations

import asyncio

from agentpool_core.names import InstanceKey
from agentpool_operator.kube.kinds import INSTANCES, PODS, Object
from support.operators import Scene

SMALL = {"warmup": {"count": 2}}
FOUND = InstanceKey("default", "support", "acme", "found").instance_id


async def state(scene: Scene, name: str) -> tuple[str, str]:
    status = await scene.status(INSTANCES, name)
    return status.get("state", ""), status.get("reason", "")


async def shows(scene: Scene, name: str, *wanted: str) -> None:
    async def check() -> bool:
        return await state(scene, name) == wanted

    try:
        await scene.until(check)
    except TimeoutError:
        raise AssertionError(f"{name} shows {await scene.status(INSTANCES, name)}, not {wanted}") from None


async def own_pods(scene: Scene) -> list[Object]:
    return [b for b in await scene.pods() if "agentpool.dev/instance" in b["metadata"]["labels"]]


async def test_a_cold_instance_gets_the_pod_it_moved_into_and_gives_it_back(scene: Scene) -> None:
    await scene.pool(SMALL)
    await scene.until(scene.ready)
    host = await scene.host("generic")
    host.arrive("acme", "found", "COLD")
    await shows(scene, FOUND, "READY", "")
    record = await scene.client.get(INSTANCES, "default", FOUND)
    assert record is not None
    assert record["spec"] == {"pool": "support", "tenant": "acme", "project": "found"}
    (pod,) = await own_pods(scene)
    assert pod["metadata"]["uid"] == host.incarnation.pod_uid
    (owner,) = pod["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"]) == ("AgentInstance", record["metadata"]["uid"])

    async def refilled() -> bool:
        return await scene.ready() and len(await scene.pods("generic")) == 3

    await scene.until(refilled)
    host.leave(FOUND)

    async def gone() -> bool:
        return not await own_pods(scene) and await scene.client.get(INSTANCES, "default", FOUND) is None

    await scene.until(gone)
    assert "retire" in host.calls
    assert scene.node.most["generic"] <= 3 + 1


async def test_twenty_cold_instances_each_get_one_pod(scene: Scene) -> None:
    await scene.pool({"warmup": {"count": 4}})
    await scene.until(scene.ready)
    for number in range(20):

        async def free() -> bool:
            return any(_free(scene, uid) for uid in scene.node.hosts)

        await scene.until(free)
        uid = next(uid for uid in scene.node.hosts if _free(scene, uid))
        scene.node.hosts[uid].arrive("acme", f"project-{number}")

    async def adopted() -> bool:
        return len(await own_pods(scene)) == 20 and await scene.ready()

    await scene.until(adopted, 40)
    pods = await own_pods(scene)
    assert len({body["metadata"]["labels"]["agentpool.dev/instance"] for body in pods}) == 20
    assert len(await scene.pods("generic")) == 24


def _free(scene: Scene, uid: str) -> bool:
    host = scene.node.hosts[uid]
    return host.status.role == "Generic" and host.status.ready and not host.instances


async def test_deleting_a_record_drains_the_pod_and_keeps_the_state(scene: Scene) -> None:
    await scene.pool(SMALL)
    await scene.until(scene.ready)
    host = await scene.host("generic")
    host.arrive("acme", "found")
    await shows(scene, FOUND, "READY", "")
    record = await scene.client.get(INSTANCES, "default", FOUND)
    assert record is not None
    await scene.client.delete(INSTANCES, "default", FOUND, record["metadata"]["uid"])

    async def gone() -> bool:
        return not await own_pods(scene)

    await scene.until(gone)
    assert "terminate" not in host.calls


async def test_a_hot_instance_has_a_pod_at_all_times(scene: Scene) -> None:
    await scene.pool(SMALL)
    await scene.instance("vip", "vip", tier="HOT")
    await shows(scene, "vip", "READY", "")
    (pod,) = await scene.pods("hot")
    status = await scene.status(INSTANCES, "vip")
    assert (status["pod"], status["tier"]) == (pod["metadata"]["name"], "HOT")
    declared = await scene.client.get(INSTANCES, "default", "vip")
    assert declared is not None
    host = scene.node.named(pod["metadata"]["name"])
    assert [one.declared_uid for one in host.activated] == [declared["metadata"]["uid"]]

    await scene.instance("vip", "vip", tier="HOT", state="Paused")
    await shows(scene, "vip", "PAUSED", "UserRequested")

    async def no_pod() -> bool:
        return not await scene.pods("hot")

    await scene.until(no_pod)
    await scene.instance("vip", "vip", tier="HOT", state="Running")
    await shows(scene, "vip", "READY", "")

    await scene.client.delete(INSTANCES, "default", "vip", declared["metadata"]["uid"])

    def erased() -> bool:
        held = [one for host in scene.node.hosts.values() for one in host.instances]
        return not held and not scene.node.store.shelf

    await scene.until(erased)
    await scene.until(no_pod)


async def test_a_lost_hot_pod_is_replaced_by_the_one_that_the_instance_moved_to(scene: Scene) -> None:
    await scene.pool(SMALL)
    await scene.instance("vip", "vip", tier="HOT")
    await shows(scene, "vip", "READY", "")
    (pod,) = await scene.pods("hot")
    await scene.until(scene.ready)
    generic = next(
        host for host in scene.node.hosts.values() if host.status.role == "Generic" and not host.instances
    )
    await scene.node.fail(pod["metadata"]["name"])
    # The gateway brings the proof that the owner ended.
    scene.node.store.owners.clear()
    generic.arrive("acme", "vip", "HOT")

    async def moved() -> bool:
        return (await scene.status(INSTANCES, "vip")).get("pod") == generic.pod and not await scene.pods(
            "hot"
        )

    await scene.until(moved)
    await asyncio.sleep(6)
    assert await scene.pods("hot") == []


async def test_a_lost_hot_pod_that_nothing_replaces_is_made_anew(scene: Scene) -> None:
    await scene.pool({"warmup": {"count": 0}})
    await scene.instance("vip", "vip", tier="HOT")
    await shows(scene, "vip", "READY", "")
    (pod,) = await scene.pods("hot")
    await scene.client.delete(PODS, "default", pod["metadata"]["name"], pod["metadata"]["uid"])

    async def anew() -> bool:
        name = (await scene.status(INSTANCES, "vip")).get("pod")
        return name not in ("", pod["metadata"]["name"])

    await scene.until(anew, 30)


async def test_what_a_vanished_pod_never_released_is_not_said_to_be_there(scene: Scene) -> None:
    await scene.pool({"warmup": {"count": 0}})
    await scene.until(scene.ready)
    await scene.instance("shared", "shared", state="Running")
    await shows(scene, "shared", "READY", "")
    name = (await scene.status(INSTANCES, "shared"))["pod"]
    pod = scene.node.named(name)
    # A forced deletion: the store goes on naming the owner.
    await scene.client.delete(PODS, "default", name, pod.incarnation.pod_uid)
    await shows(scene, "shared", "PAUSED", "Evicted")
    status = await scene.status(INSTANCES, "shared")
    assert (status.get("pod", ""), scene.node.store.owners[pod.key_id("acme", "shared")]) == (
        "",
        pod.incarnation,
    )


async def test_a_warm_instance_is_activated_paused_and_terminated(scene: Scene) -> None:
    await scene.pool({"warmup": {"count": 0}})
    await scene.until(scene.ready)
    await scene.instance("shared", "shared", state="Running")
    await shows(scene, "shared", "READY", "")
    await scene.instance("shared", "shared", state="Paused")
    await shows(scene, "shared", "PAUSED", "UserRequested")
    await scene.instance("shared", "shared", state="Terminated")
    await shows(scene, "shared", "TERMINATED", "")
    assert await own_pods(scene) == []


async def test_two_declarations_of_one_instance_are_told_apart(scene: Scene) -> None:
    await scene.pool({"warmup": {"count": 0}})
    await scene.instance("first", "same")
    await shows(scene, "first", "READY", "")
    await scene.instance("second", "same")

    async def told() -> bool:
        return (await scene.condition("second", of=INSTANCES)).get("reason") == "Duplicate"

    await scene.until(told)


async def test_an_instance_without_a_pool_says_so(scene: Scene) -> None:
    await scene.instance("lonely", "lonely")

    async def told() -> bool:
        return (await scene.condition("lonely", of=INSTANCES)).get("reason") == "PoolNotFound"

    await scene.until(told)
