# SPDX-License-Identifier: Apache-2.0
"""When the gateway may take requests."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from random import Random
from types import SimpleNamespace
from typing import Any, cast

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

    def subscribe(self, listener: Callable[[], None]) -> None: ...

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
    membership, made, table = fleet("Redis")
    name = PoolName("default", "support")
    host = table.add(HostMember(name, "a", "a", "127.0.0.1:1"))
    link = SimpleNamespace(table=table, host=host)
    cast("dict[str, Any]", made.links)["a"] = link
    membership.pools = {name: PoolMember(effective_pool(), (replace(host.member, leaving=True),))}
    await made.run()
    assert cast("dict[str, Any]", made.links) == {"a": link}
    assert host.member.leaving
