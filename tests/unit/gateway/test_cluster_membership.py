# SPDX-License-Identifier: Apache-2.0
"""Pools and hosts of a cluster, and the proofs of hosts' ends that take more than one pod's object."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from agentpool_core.names import Incarnation
from agentpool_gateway.membership.base import HostMember, PoolName
from agentpool_gateway.membership.cluster import ClusterMembership
from support.builders import pod, pool_object

SUPPORT = PoolName("default", "support")


class Pods:
    """What a list of the cluster's pods says, and how often it was asked for."""

    def __init__(self, *uids: str) -> None:
        self.uids = frozenset(uids)
        self.lists = 0
        self.away = False
        self.listed = asyncio.Event()

    async def __call__(self) -> frozenset[str]:
        self.lists += 1
        self.listed.set()
        if self.away:
            raise OSError("away")
        return self.uids


class World:
    """A membership whose mirrors a test feeds."""

    def __init__(self, present: Pods | None = None) -> None:
        self.present = present or Pods()
        self.membership = ClusterMembership(self.present, time.monotonic)
        self.pools = self.membership.pool_mirror()
        self.pods = self.membership.pod_mirror()
        self.changes = 0
        self.membership.subscribe(self._count)

    def _count(self) -> None:
        self.changes += 1

    async def show(self, pools: list[dict[str, object]], pods: list[dict[str, object]]) -> None:
        self.pools.replace(pools, "1")
        self.membership.changed()
        self.pods.replace(pods, "1")
        self.membership.changed()
        await asyncio.sleep(0)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.membership.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Log lines go nowhere: writing one to a file would count as a blocking call."""
    with capture_logs():
        yield


def owner(uid: str, nonce: int = 1) -> Incarnation:
    return Incarnation.draw(uid, nonce, b"rand")


async def test_the_pods_of_a_resolved_pool_are_its_hosts_and_changes_come_together() -> None:
    world = World()
    await world.show([pool_object()], [pod("support-1", ip="10.0.0.1"), pod("support-2", ip="fd00::2")])
    assert world.membership.pools[SUPPORT].hosts == (
        HostMember(SUPPORT, "support-1", "uid-support-1", "10.0.0.1:7400"),
        HostMember(SUPPORT, "support-2", "uid-support-2", "[fd00::2]:7400"),
    )
    assert world.changes == 1


async def test_a_pod_that_is_being_deleted_stays_a_host_and_is_said_to_leave() -> None:
    world = World()
    await world.show([pool_object()], [pod("support-1")])
    before = world.membership.pools[SUPPORT].hosts
    world.pods.apply({"type": "MODIFIED", "object": pod("support-1", deleted=True)})
    world.membership.changed()
    await asyncio.sleep(0)
    after = world.membership.pools[SUPPORT].hosts
    assert [one.leaving for one in (*before, *after)] == [False, True]
    # Its link is kept: what lives there is served on.
    assert before == after


POOLS = [
    pytest.param(pool_object(resolved=False), [], [], id="a pool that the operator has not resolved"),
    pytest.param(
        pool_object(effective_uid="earlier"), [], [], id="a status that speaks of an earlier pool of the name"
    ),
    pytest.param(
        pool_object(), [pod("x", namespace="elsewhere")], [SUPPORT], id="a pod of another namespace"
    ),
    pytest.param(pool_object(), [pod("x", pool_uid="other")], [SUPPORT], id="a pod of another pool"),
    pytest.param(pool_object(), [pod("x", phase="Failed")], [SUPPORT], id="a pod that has ended"),
    pytest.param(pool_object(), [pod("x", ip="")], [SUPPORT], id="a pod without an address"),
]


@pytest.mark.parametrize(("pool", "pods", "served"), POOLS)
async def test_what_is_not_a_host_of_the_pool_is_left_out(
    pool: dict[str, object], pods: list[dict[str, object]], served: list[PoolName]
) -> None:
    world = World()
    await world.show([pool], pods)
    assert list(world.membership.pools) == served
    assert all(not one.hosts for one in world.membership.pools.values())


async def test_it_is_ready_once_pools_and_pods_were_listed() -> None:
    world = World()
    assert not world.membership.ready
    world.pools.replace([], "1")
    assert not world.membership.ready
    world.pods.replace([], "1")
    assert world.membership.ready


async def test_a_configuration_that_is_not_understood_keeps_the_last_one() -> None:
    world = World()
    await world.show([pool_object(generation=1)], [])
    body = pool_object(generation=2)
    body["status"]["effective"]["tiers"] = "of a later version"
    world.pools.apply({"type": "MODIFIED", "object": body})
    world.membership.changed()
    await asyncio.sleep(0)
    assert world.membership.pools[SUPPORT].config.generation == 1


async def test_a_deleted_pod_ends_its_hosts_until_it_is_seen_again() -> None:
    world = World()
    await world.show([pool_object()], [pod("support-1")])
    assert not await world.membership.ended(owner("uid-support-1"))
    world.pods.apply({"type": "DELETED", "object": pod("support-1")})
    assert await world.membership.ended(owner("uid-support-1"))
    await world.show([pool_object()], [pod("support-1")])
    assert not await world.membership.ended(owner("uid-support-1"))


async def test_a_later_host_of_the_pod_ends_the_earlier_one() -> None:
    world = World()
    await world.show([pool_object()], [pod("support-1")])
    world.membership.announced(owner("uid-support-1", 2))
    world.membership.announced(owner("uid-support-1", 1))
    assert await world.membership.ended(owner("uid-support-1", 1))
    assert not await world.membership.ended(owner("uid-support-1", 2))


async def test_an_owner_whose_pod_nobody_here_saw_is_ended_once_a_fresh_list_does_not_have_it() -> None:
    world = World(Pods("uid-new"))
    await world.show([pool_object()], [])
    async with world.running():
        assert not await world.membership.ended(owner("uid-old"))
        assert not await world.membership.ended(owner("uid-new"))
        await world.present.listed.wait()
        await asyncio.sleep(0)
        assert await world.membership.ended(owner("uid-old"))
        assert not await world.membership.ended(owner("uid-new"))
    assert world.present.lists == 1, "one list answers for all that were asked for, and the next one waits"


async def test_nothing_is_proven_while_the_cluster_cannot_be_asked_or_was_never_listed() -> None:
    world = World()
    assert not await world.membership.ended(owner("uid-old"))
    await world.show([pool_object()], [])
    world.present.away = True
    async with world.running():
        await world.membership.ended(owner("uid-old"))
        await world.present.listed.wait()
        await asyncio.sleep(0)
        assert not await world.membership.ended(owner("uid-old"))
