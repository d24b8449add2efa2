# SPDX-License-Identifier: Apache-2.0
"""What is said of an owner that another host named."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from random import Random
from types import SimpleNamespace
from typing import Any, cast

import grpc
import pytest
from grpc.aio import AioRpcError, Metadata

from agentpool_core.errors import (
    AgentPoolError,
    DeadlineExceeded,
    HostOverloaded,
    NoHost,
    NotOwner,
    PoolExhausted,
)
from agentpool_core.names import Incarnation
from agentpool_gateway.dispatch.journey import Journey
from agentpool_gateway.membership.base import HostMember, PoolMember, PoolName
from agentpool_gateway.membership.refusals import HOLD_SECONDS
from agentpool_gateway.membership.starts import MAX_STARTING, Starts
from agentpool_gateway.membership.table import Host, PoolTable
from agentpool_gateway.membership.watcher import Fleet, HostLink
from agentpool_proto.v1.host_pb2 import HostStatus
from agentpool_proto.v1.types_pb2 import Instance
from agentpool_rpc.status import TRAILER, to_status
from agentpool_rpc.tokens import TokenSigner, TokenVerifier, Verb, generate_keypair
from support.builders import effective_pool

SUPPORT = PoolName("default", "support")
OWNER = Incarnation.draw("owner", 1, b"rand")
HERE = Incarnation.draw("here", 1, b"rand")


class Proof:
    """A membership that calls every incarnation dead, or none."""

    ready = True
    pools: Mapping[PoolName, PoolMember] = {}

    def __init__(self, proven: bool = True) -> None:
        self.proven = proven
        self.asked = 0

    def subscribe(self, listener: Callable[[], None]) -> None: ...

    def announced(self, incarnation: Incarnation) -> None: ...

    async def ended(self, incarnation: Incarnation) -> bool:
        self.asked += 1
        return self.proven

    async def run(self) -> None: ...


def not_owner() -> AioRpcError:
    trailer = (TRAILER, to_status(NotOwner(str(OWNER))).SerializeToString())
    return AioRpcError(grpc.StatusCode.UNAVAILABLE, Metadata(), Metadata(trailer))


@pytest.mark.parametrize(
    ("tried", "proven"),
    [
        pytest.param(None, {OWNER}, id="its pod is not among the pool's: the membership's proof counts"),
        pytest.param(True, {OWNER}, id="its channel is broken: the membership's proof counts"),
        pytest.param(False, set(), id="nobody has tried its channel yet: it is not called dead"),
    ],
)
async def test_the_end_of_an_owner_takes_a_broken_channel_and_a_proof(
    tried: bool | None, proven: set[Incarnation]
) -> None:
    private, public = generate_keypair()
    fleet = Fleet(Proof(), TokenSigner(private, "test", time.time), Random(1))
    table = PoolTable(effective_pool())
    here = table.add(HostMember(SUPPORT, "here", "here", "127.0.0.1:1"))
    status = HostStatus(incarnation=str(HERE), ready=True, role="Shared", tiers=["WARM"], capacity=5)
    table.snapshot(here, status, [])
    if tried is not None:
        table.add(HostMember(SUPPORT, "owner", "owner", "127.0.0.1:2")).tried = tried
    signer = TokenSigner(private, "test", time.time)

    def authorization(ended: tuple[Incarnation, ...]) -> str:
        return signer.authorization(str(HERE), frozenset({Verb.INVOKE}), ended)

    link = cast("HostLink", SimpleNamespace(host=here, authorization=authorization, starts=Starts()))
    cast("dict[str, Any]", fleet.links)["here"] = link
    journey = Journey(fleet, table, "inst-1", deadline=time.monotonic() + 60)
    await journey.next_host()
    await journey.failed(link, not_owner(), accepted=False)
    _, token = await journey.next_host()
    claims = TokenVerifier([public], time.time).verify(token, str(HERE), Verb.INVOKE)
    assert claims.ended == proven


class World:
    """Two hosts; the one that holds the instance is silent."""

    def __init__(self, proven: bool) -> None:
        private, public = generate_keypair()
        self.membership = Proof(proven)
        self.verifier = TokenVerifier([public], time.time)
        self.signer = TokenSigner(private, "test", time.time)
        self.fleet = Fleet(self.membership, self.signer, Random(1))
        self.table = PoolTable(effective_pool())
        self.owner, self.here = self._host("owner", OWNER), self._host("here", HERE)
        self.table.delta(self.owner, None, [Instance(id="inst-1", epoch=1, state="READY", tier="WARM")], [])
        self.table.disconnected(self.owner)

    def _host(self, name: str, incarnation: Incarnation) -> Host:
        host = self.table.add(HostMember(SUPPORT, name, name, "127.0.0.1:1"))
        status = HostStatus(
            incarnation=str(incarnation), ready=True, role="Shared", tiers=["WARM"], capacity=5
        )
        self.table.snapshot(host, status, [])

        def authorization(ended: tuple[Incarnation, ...]) -> str:
            return self.signer.authorization(str(incarnation), frozenset({Verb.INVOKE}), ended)

        link = SimpleNamespace(host=host, authorization=authorization, starts=Starts())
        cast("dict[str, Any]", self.fleet.links)[name] = link
        return host

    def journey(self, seconds: float) -> Journey:
        return Journey(self.fleet, self.table, "inst-1", deadline=time.monotonic() + seconds)


async def test_a_silent_holder_is_not_called_until_the_deadline() -> None:
    world = World(proven=False)
    with pytest.raises(DeadlineExceeded) as caught:
        await world.journey(0.5).next_host()
    assert caught.value.retry_after_seconds == 1.0
    assert 2 <= world.membership.asked < 40, "it looks again and again, with pauses"


async def test_a_silent_holder_is_left_as_soon_as_its_end_is_proven() -> None:
    world = World(proven=False)
    waiting = asyncio.create_task(world.journey(60).next_host())
    await asyncio.sleep(0.05)
    assert not waiting.done()
    world.membership.proven = True
    link, token = await waiting
    assert link.host is world.here
    assert world.verifier.verify(token, str(HERE), Verb.INVOKE).ended == {OWNER}


async def test_only_so_many_wait_for_room_and_no_tenant_has_all_places() -> None:
    world = World(proven=True)
    world.table.configure(effective_pool({"limits": {"capacityQueueLength": 5}}))
    world.table.remove(world.owner, 0.0)
    world.table.remove(world.here, asyncio.get_running_loop().time())

    def journey(tenant: str) -> Journey:
        deadline = time.monotonic() + 60
        return Journey(world.fleet, world.table, "new", deadline, tenant_id=tenant)

    journeys = [journey("acme") for _ in range(6)]
    tasks = [asyncio.create_task(one.next_host()) for one in journeys]
    await asyncio.sleep(0.01)
    refused = [task for task in tasks if task.done()]
    assert len(refused) == 2, "four fifths of the places"
    for task in refused:
        with pytest.raises(PoolExhausted) as caught:
            task.result()
        assert caught.value.retry_after_seconds == 1.0
    journeys.append(journey("calm"))
    tasks.append(asyncio.create_task(journeys[-1].next_host()))
    await asyncio.sleep(0.01)
    assert (tasks[-1].done(), world.table.room.taken) == (False, 5)
    for task, one in zip(tasks, journeys, strict=True):
        task.cancel()
        one.settled()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert world.table.room.taken == 0


async def test_where_nobody_is_to_wait_a_missing_host_is_told_at_once() -> None:
    world = World(proven=True)
    world.table.configure(effective_pool({"limits": {"capacitySeconds": 0}}))
    world.table.remove(world.owner, 0.0)
    world.table.remove(world.here, asyncio.get_running_loop().time())
    with pytest.raises(NoHost):
        await Journey(world.fleet, world.table, "new", time.monotonic() + 60).next_host()


async def test_a_holder_that_is_back_is_gone_to() -> None:
    world = World(proven=False)
    waiting = asyncio.create_task(world.journey(60).next_host())
    await asyncio.sleep(0.05)
    status, held = world.owner.status, list(world.owner.instances.values())
    world.table.snapshot(world.owner, status, held)
    assert (await waiting)[0].host is world.owner


async def test_only_some_instances_start_at_one_host_and_each_end_lets_the_next_one_begin() -> None:
    world = World(proven=True)
    deadline = time.monotonic() + 60
    journeys = [
        Journey(world.fleet, world.table, f"new-{number}", deadline, tenant_id="acme")
        for number in range(MAX_STARTING + 5)
    ]
    world.table.remove(world.owner, 0.0)
    tasks = [asyncio.create_task(journey.next_host()) for journey in journeys]
    await asyncio.sleep(0.01)
    assert sum(task.done() for task in tasks) == MAX_STARTING
    journeys[0].settled()
    journeys[0].settled()
    await asyncio.sleep(0.01)
    assert sum(task.done() for task in tasks) == MAX_STARTING + 1
    assert world.here.load.metrics.queue_length == 4, "those that wait for their turn count as load"
    for journey in journeys[1:]:
        journey.settled()
    await asyncio.gather(*tasks)
    for journey in journeys:
        journey.settled()
    assert (len(world.table.placements), world.here.load.active) == (0, 0)


async def test_requests_of_one_instance_go_to_one_host_whatever_the_strategy_says() -> None:
    world = World(proven=True)
    world.table.configure(effective_pool({"balancing": {"strategy": "RoundRobin", "affinity": "None"}}))
    world.table.snapshot(world.owner, world.owner.status, [])
    journeys = [world.journey(60) for _ in range(4)]
    hosts = [(await journey.next_host())[0].host for journey in journeys]
    assert len({host.id for host in hosts}) == 1
    for journey in journeys:
        journey.settled()
    assert len(world.table.placements) == 0
    other = world.journey(60)
    assert (await other.next_host())[0].host is not hosts[0], "the next start has its own turn"


def refusal(failure: AgentPoolError) -> AioRpcError:
    trailer = (TRAILER, to_status(failure).SerializeToString())
    return AioRpcError(grpc.StatusCode.UNAVAILABLE, Metadata(), Metadata(trailer))


async def test_a_host_that_refused_for_its_load_is_spared_for_a_moment() -> None:
    world = World(proven=True)
    held = Instance(id="inst-1", epoch=2, state="READY", tier="WARM")
    world.table.delta(world.here, None, [held], [])
    world.table.remove(world.owner, 0.0)
    journey = world.journey(60)
    link, _ = await journey.next_host()
    with pytest.raises(HostOverloaded) as caught:
        await journey.failed(link, refusal(HostOverloaded("too much")), accepted=False)
    assert caught.value.retry_after_seconds
    with pytest.raises(HostOverloaded):
        await world.journey(60).next_host()
    await asyncio.sleep(HOLD_SECONDS)
    assert (await world.journey(60).next_host())[0].host is world.here
