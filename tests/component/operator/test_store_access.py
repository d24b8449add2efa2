# SPDX-License-Identifier: Apache-2.0
"""The pools' users on a real Redis: enough for the store, not a command more, and kept over a restart."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from agentpool_agent.store import Claim, Write, open_store
from agentpool_core.lifecycle import PauseReason, Tier
from agentpool_operator.store import PoolAccess, StoreAdmin, StoreAway, pool_url
from support.builders import incarnation, instance_key
from support.redis import RedisServer, redis_server

MINE = PoolAccess("uid-1", "a secret/with @odd:characters")
OTHER = PoolAccess("uid-2", "another")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    users = tmp_path / "users.acl"
    users.touch()
    with redis_server(append=True, arguments=("--aclfile", str(users))) as server:
        yield server


@pytest.fixture
async def admin(server: RedisServer) -> AsyncIterator[StoreAdmin]:
    admin = StoreAdmin(server.tcp_url, "release")
    yield admin
    await admin.close()


async def test_the_store_works_with_the_pool_s_user(server: RedisServer, admin: StoreAdmin) -> None:
    await admin.grant(MINE, "default/support")
    name = await admin.initialise(MINE.uid, "born")
    assert name == "born"
    store = open_store(pool_url(server.tcp_url, MINE), pool_uid=MINE.uid, namespace="default", pool="support")
    key = instance_key()
    owned = await store.claim(Claim(key, incarnation(), Tier.WARM))
    await store.save(owned, Write(parts={"a": b"1"}))
    assert (await store.load(owned)).parts == {"a": b"1"}
    await store.release(owned, PauseReason.EVICTED)
    assert len((await store.list()).records) == 1
    await store.erase(key.instance_id, incarnation())
    await store.close()


FORBIDDEN = [
    ("GET", "ap:{uid-2}:generation"),
    ("SET", "elsewhere", "x"),
    ("EVAL", "return redis.call('GET', 'ap:{uid-2}:generation')", "0"),
    ("KEYS", "*"),
    ("SCAN", "0"),
    ("RANDOMKEY",),
    ("DBSIZE",),
    ("CONFIG", "GET", "*"),
    ("ACL", "LIST"),
    ("FLUSHALL",),
    ("CLIENT", "LIST"),
    ("PUBLISH", "channel", "x"),
    ("PUBLISH", "agentpool:pools:release", "x"),
    ("SHUTDOWN", "NOSAVE"),
]


@pytest.mark.parametrize("command", FORBIDDEN, ids=lambda command: " ".join(command)[:40])
async def test_the_pool_s_user_may_not(
    server: RedisServer, admin: StoreAdmin, command: tuple[str, ...]
) -> None:
    await admin.grant(MINE, "default/support")
    mine = Redis.from_url(pool_url(server.tcp_url, MINE), protocol=2)
    async with mine:
        with pytest.raises(RedisError, match=r"permission|can't access"):
            await mine.execute_command(*command)


async def test_users_outlive_a_restart(server: RedisServer, admin: StoreAdmin) -> None:
    await admin.grant(MINE, "default/support")
    server.stop()
    server.start()
    mine = Redis.from_url(pool_url(server.tcp_url, MINE), protocol=2)
    assert await mine.ping()
    await mine.aclose()


async def test_a_user_that_was_changed_is_set_right(server: RedisServer, admin: StoreAdmin) -> None:
    await admin.grant(MINE, "default/support")
    root = Redis.from_url(server.tcp_url, protocol=2)
    await root.execute_command("ACL", "SETUSER", MINE.user, "+@all", "~*")
    await admin.grant(MINE, "default/support", force=True)
    mine = Redis.from_url(pool_url(server.tcp_url, MINE), protocol=2)
    with pytest.raises(RedisError):
        await mine.execute_command("KEYS", "*")
    await mine.aclose()
    await root.aclose()


async def test_only_pools_of_this_operator_that_are_gone_are_swept(
    server: RedisServer, admin: StoreAdmin
) -> None:
    stranger = StoreAdmin(server.tcp_url, "another-release")
    await admin.grant(MINE, "default/support")
    await admin.initialise(MINE.uid, "born")
    await stranger.grant(OTHER, "default/other")
    await stranger.initialise(OTHER.uid, "born")
    assert await admin.sweep([MINE.uid]) == []
    assert await admin.sweep([]) == [MINE.uid]
    root = Redis.from_url(server.tcp_url, protocol=2, decode_responses=True)
    assert OTHER.user in await root.execute_command("ACL", "USERS")
    assert MINE.user not in await root.execute_command("ACL", "USERS")
    assert [key async for key in root.scan_iter("ap:*")] == ["ap:{uid-2}:generation"]
    await root.aclose()
    await stranger.close()


async def test_users_of_pools_that_went_while_the_data_was_lost_are_swept_too(
    server: RedisServer, admin: StoreAdmin
) -> None:
    stranger = StoreAdmin(server.tcp_url, "another-release")
    await admin.grant(MINE, "default/support")
    await stranger.grant(OTHER, "default/other")
    root = Redis.from_url(server.tcp_url, protocol=2, decode_responses=True)
    await root.flushall()
    assert await admin.sweep([MINE.uid]) == []
    assert await admin.sweep([]) == [MINE.uid]
    users = await root.execute_command("ACL", "USERS")
    assert (MINE.user in users, OTHER.user in users) == (False, True)
    await root.aclose()
    await stranger.close()


async def test_unsafe_settings_are_named(server: RedisServer, admin: StoreAdmin) -> None:
    assert await admin.problems() == []
    root = Redis.from_url(server.tcp_url, protocol=2)
    await root.execute_command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    (problem,) = await admin.problems()
    assert "noeviction" in problem
    await root.aclose()


async def test_a_silent_redis_is_told_as_that(server: RedisServer, admin: StoreAdmin) -> None:
    server.stop()
    with pytest.raises(StoreAway):
        await admin.grant(MINE, "default/support")
