# SPDX-License-Identifier: Apache-2.0
"""The pool's feature flags in both stores: one document, whose version never falls."""

from __future__ import annotations

import pytest

from agentpool_agent.store import KeptFlags, RedisStore, Store
from support.redis import RedisServer


@pytest.fixture
def store(each_store: Store) -> Store:
    return each_store


async def test_none_are_kept_before_the_first(store: Store) -> None:
    assert await store.flags.read(0) is None
    assert await store.flags.read(7) == KeptFlags()


async def test_what_was_put_is_read_by_whoever_does_not_know_it(store: Store) -> None:
    kept, done = await store.flags.replace(0, b"one")
    assert (kept.document, done) == (b"one", True)
    assert await store.flags.read(0) == kept
    assert await store.flags.read(kept.version) is None


async def test_a_change_of_an_earlier_version_is_not_made_and_the_later_one_told(store: Store) -> None:
    first, _ = await store.flags.replace(0, b"one")
    second, _ = await store.flags.replace(first.version, b"two")
    assert second.version > first.version
    assert await store.flags.replace(first.version, b"three") == (second, False)
    assert await store.flags.read(0) == second


async def test_the_version_is_above_that_of_whoever_knew_more_than_the_store(store: Store) -> None:
    ahead = 4_000_000_000_000_000
    kept, done = await store.flags.replace(ahead, b"put back")
    assert (kept.version, done) == (ahead + 1, True)


async def test_they_outlive_the_store_that_put_them(server: RedisServer, pool_uid: str) -> None:
    stores = [RedisStore(server.url, uid, "ns", "pool") for uid in (pool_uid, pool_uid, "another")]
    kept, _ = await stores[0].flags.replace(0, b"one")
    assert await stores[1].flags.read(0) == kept
    assert await stores[2].flags.read(0) is None
    for store in stores:
        await store.close()
