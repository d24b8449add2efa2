# SPDX-License-Identifier: Apache-2.0
"""When the gateway may take requests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from random import Random

import pytest

from agentpool_core.names import Incarnation
from agentpool_gateway.membership.base import HostMember, PoolMember, PoolName
from agentpool_gateway.membership.table import PoolTable
from agentpool_gateway.membership.watcher import Fleet
from agentpool_proto.v1.host_pb2 import HostStatus
from agentpool_rpc.tokens import TokenSigner, generate_keypair
from support.builders import effective_pool


class FakeMembership:
    """A membership without pools of its own."""

    def __init__(self) -> None:
        self.ready = False
        self.pools: Mapping[PoolName, PoolMember] = {}
        self.tell: Callable[[], None] = lambda: None

    def subscribe(self, listener: Callable[[], None]) -> None:
        self.tell = listener

    def announced(self, incarnation: Incarnation) -> None: ...

    async def ended(self, incarnation: Incarnation) -> bool:
        return False

    async def run(self) -> None: ...


def fleet(storage: str) -> tuple[FakeMembership, Fleet, PoolTable]:
    membership = FakeMembership()
    signer = TokenSigner(generate_keypair()[0], "test", time.time)
    made = Fleet(membership, signer, Random(1))
    table = PoolTable(effective_pool({"checkpoint": {"storage": storage}}))
    made.tables[PoolName("default", "support")] = table
    return membership, made, table


@pytest.mark.parametrize("storage", ["Redis", "Memory"])
async def test_it_is_not_ready_before_the_membership_was_read(storage: str) -> None:
    membership, made, _ = fleet(storage)
    assert not made.ready
    membership.ready = True
    assert made.ready


@pytest.mark.parametrize("storage", ["Redis", "Memory"])
async def test_it_is_ready_after_every_host_was_watched_or_tried_and_stays_so(storage: str) -> None:
    membership, made, table = fleet(storage)
    membership.ready = True
    hosts = [table.add(HostMember(PoolName("default", "support"), p, p, "127.0.0.1:1")) for p in ("a", "b")]
    table.snapshot(hosts[0], HostStatus(incarnation="a/1"), [])
    assert not made.ready
    table.disconnected(hosts[1])
    assert made.ready
    table.add(HostMember(PoolName("default", "support"), "c", "c", "127.0.0.1:1"))
    assert made.ready


async def test_a_host_hears_that_its_pod_is_being_deleted_and_keeps_its_link() -> None:
    membership, made, _ = fleet("Redis")
    name = PoolName("default", "support")
    member = HostMember(name, "a", "a", "127.0.0.1:1")
    membership.pools = {name: PoolMember(effective_pool(), (member,))}
    running = asyncio.create_task(made.run())
    await asyncio.sleep(0)
    link = made.links["a"]
    membership.pools = {name: PoolMember(effective_pool(), (replace(member, leaving=True),))}
    membership.tell()
    assert made.links["a"] is link
    assert link.host.member.leaving
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
