# SPDX-License-Identifier: Apache-2.0
"""What the Redis store needs of the server: its settings and the rights of its user."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import pytest
from redis.asyncio import Redis

from agentpool_agent.store import Checkpoint, RedisStore, Write
from agentpool_core.errors import StoreUnavailable
from agentpool_core.lifecycle import PauseReason, Tier
from support.redis import RedisServer
from support.store_calls import A1, CALLS, CLAIM, KEY

HELD_OR_NOT = ("register", "release", "pause", "erase", "place", "plant", "load of the previous state")
"""Calls that need another state of the instance than the others."""

PROBLEMS = [
    pytest.param({}, ["appendonly"], id="without persistence"),
    pytest.param({"appendonly": "yes"}, [], id="set as it should be"),
    pytest.param(
        {"appendonly": "yes", "maxmemory-policy": "allkeys-lru"}, ["noeviction"], id="with eviction"
    ),
]


@pytest.mark.parametrize(("settings", "named"), PROBLEMS)
async def test_problems_name_what_to_set(
    store: RedisStore, raw: Redis, settings: dict[str, str], named: list[str]
) -> None:
    for name, value in settings.items():
        await raw.config_set(name, value)
    problems = await store.problems()
    assert len(problems) == len(named)
    assert all(word in problem for word, problem in zip(named, problems, strict=True))


IN_ORDER = ("register", "release", "pause", "erase", "place", "plant", "load of the previous state")
"""Calls that need the instance in a certain state; they are made one by one."""


async def test_a_user_limited_to_the_prefix_can_do_all_but_read_the_settings(
    own_server: RedisServer, raw: Redis
) -> None:
    execute: Callable[..., Awaitable[object]] = raw.execute_command
    await execute(
        *("ACL SETUSER host on >word resetkeys ~ap:{pool-uid}:* resetchannels -@all".split()),
        *("+@hash +@sortedset +@string +@keyspace -@dangerous".split()),
        *("+evalsha +eval +time +ping".split()),
    )
    url = own_server.tcp_url.replace("redis://", "redis://host:word@")
    store = RedisStore(url, "pool-uid", "ns", "pool")
    await store.initialise()
    owned = await store.claim(CLAIM)
    for name, call in CALLS.items():
        if name not in IN_ORDER:
            await call(store, owned)
    owned = await store.claim(CLAIM)
    await store.save(owned, Write({"a": b"1"}, finals={"k": b"1"}))
    await store.release(await store.register(owned, Write({"a": b"1"})), PauseReason.EVICTED)
    await store.pause(KEY.instance_id, None)
    await store.place(KEY.instance_id, Tier.HOT)
    await store.plant(KEY, Tier.WARM, Checkpoint({"a": b"1"}), replace=True)
    owned = await store.claim(CLAIM)
    await store.save(owned, Write({"a": b"2"}))
    await store.load(owned, previous=True)
    await store.prune(time.time() + 1)
    # It cannot tell, and that is no problem of the store's.
    assert await store.problems() == ()
    await store.erase(KEY.instance_id, A1)
    foreign = RedisStore(url, "another-pool", "ns", "pool")
    with pytest.raises(StoreUnavailable, match="refused"):
        await foreign.claim(CLAIM)
    await store.close()
    await foreign.close()
