# SPDX-License-Identifier: Apache-2.0
"""What is said of an owner that another host named."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from random import Random
from types import SimpleNamespace
from typing import Any, cast

import grpc
import pytest
from grpc.aio import AioRpcError, Metadata

from agentpool_core.errors import NotOwner
from agentpool_core.names import Incarnation
from agentpool_gateway.dispatch.journey import Journey
from agentpool_gateway.membership.base import HostMember, PoolMember, PoolName
from agentpool_gateway.membership.table import PoolTable
from agentpool_gateway.membership.watcher import Fleet, HostLink
from agentpool_proto.v1.host_pb2 import HostStatus
from agentpool_rpc.status import TRAILER, to_status
from agentpool_rpc.tokens import TokenSigner, TokenVerifier, Verb, generate_keypair
from support.builders import effective_pool

SUPPORT = PoolName("default", "support")
OWNER = Incarnation.draw("owner", 1, b"rand")
HERE = Incarnation.draw("here", 1, b"rand")


class Proof:
    """A membership that calls every incarnation dead."""

    ready = True
    pools: Mapping[PoolName, PoolMember] = {}

    def subscribe(self, listener: Callable[[], None]) -> None: ...

    def announced(self, incarnation: Incarnation) -> None: ...

    async def ended(self, incarnation: Incarnation) -> bool:
        return True

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

    link = cast("HostLink", SimpleNamespace(host=here, authorization=authorization))
    cast("dict[str, Any]", fleet.links)["here"] = link
    journey = Journey(fleet, table, "inst-1", deadline=time.monotonic() + 60)
    await journey.next_host()
    await journey.failed(link, not_owner(), accepted=False)
    _, token = await journey.next_host()
    claims = TokenVerifier([public], time.time).verify(token, str(HERE), Verb.INVOKE)
    assert claims.ended == proven
