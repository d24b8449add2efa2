# SPDX-License-Identifier: Apache-2.0
"""An AgentPool becomes pods, stays what it is, and says why when it cannot."""

from __future__ import annotations

import asyncio

import redis.asyncio as redis_client

from agentpool_core.config import EffectivePool
from agentpool_core.names import StoreKeys
from agentpool_operator.kube.kinds import BUDGETS, DEPLOYMENTS, INSTANCES, PODS, POOLS, SECRETS, SERVICES
from agentpool_operator.plan.generic import surge
from agentpool_operator.reconcile.access import value_of
from agentpool_operator.reconcile.pool import COUNTS_SECONDS
from support.fake_hosts import PodHost
from support.operators import BROKEN, Scene
from support.redis import RedisServer

SMALL = {"warmup": {"count": 2}}


async def versions(scene: Scene) -> dict[str, str]:
    found = {}
    for kind in (POOLS, DEPLOYMENTS, SERVICES, BUDGETS, SECRETS, PODS, INSTANCES):
        for body in await scene.client.list(kind, "default"):
            found[f"{kind.kind}/{body['metadata']['name']}"] = body["metadata"]["resourceVersion"]
    return found


async def test_a_pool_becomes_ready_and_then_nothing_is_written(scene: Scene) -> None:
    await scene.pool(SMALL)
    await scene.until(scene.ready)
    assert (len(await scene.pods("warm")), len(await scene.pods("generic"))) == (2, 2)
    # Counts may follow a little later.
    await asyncio.sleep(2 * COUNTS_SECONDS)
    before = await versions(scene)
    # Longer than a resync.
    await asyncio.sleep(3)
    assert await versions(scene) == before


async def test_hosts_get_the_effective_configuration_and_status_shows_it(scene: Scene) -> None:
    await scene.pool(SMALL)
    await scene.until(scene.ready)
    await scene.pool({**SMALL, "tiers": {"warm": {"idleSeconds": 7}}})

    def told() -> bool:
        return all(host.configured[-1].generation == 2 for host in scene.node.hosts.values())

    await scene.until(told)
    await scene.until(scene.ready)
    status = await scene.status(POOLS, "support")
    shown = EffectivePool.model_validate(status["effective"])
    assert all(host.configured[-1] == shown for host in scene.node.hosts.values())
    assert shown.tiers["WARM"].idle_seconds == 7  # type: ignore[index]
    assert shown.tiers["HOT"].idle_seconds is None  # type: ignore[index]
    assert (status["replicas"], status["readyReplicas"]) == (2, 2)


async def test_a_missing_image_makes_no_more_pods_than_wanted_and_a_reason(scene: Scene) -> None:
    agent = {"entrypoint": "package.module:Agent", "image": BROKEN}
    await scene.pool({"warmup": {"count": 3}, "agent": agent})

    async def told() -> bool:
        return (await scene.condition()).get("reason") == "ImageMissing"

    await scene.until(told)
    await asyncio.sleep(3)
    assert scene.node.most == {"warm": 2, "generic": 3}
    message = (await scene.condition())["message"]
    assert BROKEN in message
    assert "imagePullSecrets" in message
    warm = await scene.condition(kind="WarmupComplete")
    assert (warm["status"], warm["reason"]) == ("False", "ImageMissing")
    # The spec alone mends it.
    await scene.pool({"warmup": {"count": 3}})
    await scene.until(scene.ready)
    assert scene.node.most["generic"] <= 3 + surge(3)


async def test_a_changed_template_replaces_waiting_pods_within_the_bounds(scene: Scene) -> None:
    await scene.pool({"warmup": {"count": 4}})
    await scene.until(scene.ready)
    old = {body["metadata"]["uid"] for body in await scene.pods("generic")}
    agent = {"entrypoint": "package.module:Other"}
    await scene.pool({"warmup": {"count": 4}, "agent": agent})

    async def replaced() -> bool:
        now = {body["metadata"]["uid"] for body in await scene.pods("generic")}
        return not now & old and await scene.ready()

    await scene.until(replaced)
    assert scene.node.most["generic"] <= 4 + surge(4)


async def test_more_pods_wait_while_they_are_taken_fast_and_never_more_than_may(scene: Scene) -> None:
    await scene.pool({"warmup": {"count": 2, "maxCount": 5}})
    await scene.until(scene.ready)
    assert (await scene.status(POOLS, "support"))["generic"] == {"wanted": 2, "ready": 2}
    for number in range(8):

        def free() -> bool:
            return any(_free(host) for host in scene.node.hosts.values())

        await scene.until(free)
        next(host for host in scene.node.hosts.values() if _free(host)).arrive("acme", f"p{number}")

    async def five() -> bool:
        return bool((await scene.status(POOLS, "support"))["generic"] == {"wanted": 5, "ready": 5})

    await scene.until(five)
    taken = sum(1 for host in scene.node.hosts.values() if host.instances)
    assert taken == 8
    assert scene.node.most["generic"] <= taken + 5 + surge(5)
    # The next operator does not forget what this one learnt.
    await scene.stop()
    await scene.start()
    await asyncio.sleep(3)
    assert len(await scene.pods("generic")) == taken + 5


def _free(host: PodHost) -> bool:
    return bool(host.status.role == "Generic" and host.status.ready and not host.instances)


async def test_a_waiting_pod_that_was_used_and_dies_young_is_replaced_at_once(scene: Scene) -> None:
    await scene.pool({"warmup": {"count": 1}})
    await scene.until(scene.ready)
    host = await scene.host("generic")
    host.arrive("acme", "short")

    async def replaced() -> bool:
        return len(await scene.pods("generic")) == 2

    await scene.until(replaced)
    await scene.node.fail(host.pod, ran_seconds=2)

    async def gone() -> bool:
        left = await scene.pods("generic")
        return len(left) == 1 and await scene.ready()

    await scene.until(gone)


async def test_shared_pods_go_one_at_a_time_the_emptiest_first(scene: Scene) -> None:
    await scene.pool({"tiers": {"warm": {"replicas": 3}}, "warmup": {"count": 0}})
    await scene.until(scene.ready)
    busiest = await scene.host("warm")
    busiest.hold("acme", "one")
    await scene.pool({"tiers": {"warm": {"replicas": 1}}, "warmup": {"count": 0}})
    costs: list[str] = []

    async def one_left() -> bool:
        for body in await scene.pods("warm"):
            cost = (body["metadata"].get("annotations") or {}).get(
                "controller.kubernetes.io/pod-deletion-cost"
            )
            if cost and body["metadata"]["name"] not in costs:
                costs.append(body["metadata"]["name"])
        return len(await scene.pods("warm")) == 1

    await scene.until(one_left)
    assert busiest.pod not in costs
    budget = await scene.client.get(BUDGETS, "default", "support-warm")
    assert budget is not None
    assert budget["spec"]["minAvailable"] == 0


async def test_each_pool_has_a_user_of_its_own_that_ends_with_it(scene: Scene, redis: RedisServer) -> None:
    pool = await scene.pool(SMALL)
    await scene.until(scene.ready)
    uid = pool["metadata"]["uid"]
    url = value_of(await scene.client.get(SECRETS, "default", "support-agentpool-redis"), "url")
    mine = redis_client.Redis.from_url(url, protocol=2)
    everything = redis_client.Redis.from_url(redis.tcp_url, protocol=2)
    assert await mine.set(StoreKeys(uid).record("inst-1"), "x")
    for command in (("GET", "ap:{other}:generation"), ("KEYS", "*"), ("SCAN", "0"), ("CONFIG", "GET", "*")):
        try:
            await mine.execute_command(*command)
        except redis_client.RedisError as exc:
            assert "permission" in str(exc)
        else:
            raise AssertionError(f"{command} is allowed")
    await scene.client.delete(POOLS, "default", "support", uid)

    async def swept() -> bool:
        users = await everything.execute_command("ACL", "USERS")
        keys = [key async for key in everything.scan_iter(f"ap:{{{uid}}}:*")]
        return f"ap-{uid}".encode() not in users and not keys

    await scene.until(swept)
    await mine.aclose()
    await everything.aclose()
