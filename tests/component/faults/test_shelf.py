# SPDX-License-Identifier: Apache-2.0
"""What simulated hosts save is erased by the operator's own sweep, as a real host's state is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from redis import Redis

from agentpool_operator.store.access import PoolAccess, StoreAdmin
from agentpool_proto.v1 import types_pb2
from faults.shelf import PoolStore, Shelf
from support.redis import RedisServer, redis_server

ONE = types_pb2.Instance(id="inst-a", tenant_id="acme", project_id="one", state="PAUSED")


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with redis_server(append=True) as server:
        yield server


@pytest.fixture
def redis(server: RedisServer) -> Iterator[Redis]:
    with Redis.from_url(server.url, protocol=2) as client:
        yield client


async def test_the_sweep_of_a_pool_that_is_gone_erases_what_its_hosts_saved(
    server: RedisServer, redis: Redis
) -> None:
    admin = StoreAdmin(server.tcp_url, "realm")
    for uid in ("gone", "there"):
        await admin.grant(PoolAccess(uid, "secret"), uid)
        PoolStore(redis, uid).shelf["inst-a"] = ONE
    assert dict(Shelf(redis, "gone")) == {"inst-a": ONE}
    await admin.sweep({"there"})
    await admin.close()
    assert dict(Shelf(redis, "gone")) == {}
    assert dict(Shelf(redis, "there")) == {"inst-a": ONE}


async def test_without_its_user_a_pool_saves_nothing(redis: Redis) -> None:
    shelf = Shelf(redis, "unknown")
    shelf["inst-a"] = ONE
    assert "inst-a" not in shelf
    assert shelf.pop("inst-a", None) is None
