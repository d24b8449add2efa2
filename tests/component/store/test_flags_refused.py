# SPDX-License-Identifier: Apache-2.0
"""The pool's feature flags on a Redis in trouble."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from agentpool_agent.store import RedisStore
from agentpool_core.errors import StoreUnavailable
from agentpool_core.names import StoreKeys


async def test_a_rollback_is_possible_when_the_store_is_full(raw: Redis, store: RedisStore) -> None:
    kept, _ = await store.flags.replace(0, b"on")
    await raw.config_set("maxmemory", "1")
    assert (await store.flags.replace(kept.version, b"off"))[1]


async def test_a_foreign_value_under_the_key_is_not_overwritten(raw: Redis, store: RedisStore) -> None:
    key = StoreKeys("pool-uid").flags
    await raw.set(key, "foreign")
    with pytest.raises(StoreUnavailable):
        await store.flags.replace(0, b"one")
    assert await raw.get(key) == b"foreign"
