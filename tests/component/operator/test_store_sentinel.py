# SPDX-License-Identifier: Apache-2.0
"""The pools' users behind Sentinel: they are on every server, so that a failover locks nobody out."""

from __future__ import annotations

import asyncio
import time

import pytest
from redis.asyncio import Redis

from agentpool_agent.store import Claim, RedisStore, Write
from agentpool_core.errors import StoreDataLost, StoreUnavailable
from agentpool_core.lifecycle import Tier
from agentpool_operator.store import PoolAccess, StoreAdmin, pool_url
from support.builders import incarnation, instance_key
from support.sentinel import replicated_redis

MINE = PoolAccess("uid-1", "a secret/with @odd:characters")


@pytest.mark.timeout(180)
async def test_a_pool_s_user_works_on_the_master_that_took_over() -> None:
    with replicated_redis() as servers:
        await servers.ready()
        admin = StoreAdmin(servers.url, "release")
        await admin.grant(MINE, "default/support")
        assert await admin.initialise(MINE.uid, "born") == "born"
        store = RedisStore(pool_url(servers.url, MINE), MINE.uid, "default", "support", timeout_seconds=4)
        owned = await store.claim(Claim(instance_key(), incarnation(), Tier.WARM))
        await store.save(owned, Write({"a": b"1"}))
        await servers.caught_up()
        await servers.fail_over()
        deadline = time.monotonic() + 60
        while True:
            try:
                await store.save(owned, Write({"a": b"2"}))
                break
            except StoreUnavailable:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.1)
        with pytest.raises(StoreDataLost):
            await store.ping()
        assert (await store.load(owned)).parts == {"a": b"2"}
        assert await admin.generation(MINE.uid) == "born"
        await admin.close()
        await store.close()


@pytest.mark.timeout(180)
async def test_a_pool_that_is_gone_leaves_its_user_on_no_server() -> None:
    with replicated_redis() as servers:
        await servers.ready()
        admin = StoreAdmin(servers.url, "release")
        await admin.grant(MINE, "default/support")
        async with Redis(port=servers.replica.port, decode_responses=True) as replica:
            assert MINE.user in await replica.acl_users()
            assert await admin.sweep(()) == [MINE.uid]
            assert MINE.user not in await replica.acl_users()
        await admin.close()
