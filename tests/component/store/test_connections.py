# SPDX-License-Identifier: Apache-2.0
"""Connections to Redis that are there before a first request needs them."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from agentpool_agent.store import RedisStore
from agentpool_agent.store.client import READY_CONNECTIONS
from agentpool_core.errors import StoreDataLost, StoreUnavailable
from support.redis import RedisServer


async def test_what_a_start_needs_at_once_is_connected_before_and_again_after_trouble(
    store: RedisStore, own_server: RedisServer
) -> None:
    async def connected() -> int:
        async with Redis.from_url(own_server.url) as redis:
            return len(await redis.client_list()) - 1

    await store.ping()
    assert await connected() == READY_CONNECTIONS
    await store.ping()
    assert await connected() == READY_CONNECTIONS
    own_server.stop()
    with pytest.raises(StoreUnavailable):
        await store.ping()
    own_server.start()
    with pytest.raises(StoreDataLost):
        # The server kept nothing; what matters here is that it answers.
        await store.ping()
    assert await connected() == READY_CONNECTIONS
