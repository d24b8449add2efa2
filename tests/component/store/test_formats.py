# SPDX-License-Identifier: Apache-2.0
"""Stores of two versions on one Redis: what the earlier one wrote is read, what it left undone is known."""

from __future__ import annotations

import hashlib

import pytest
from redis.asyncio import Redis

from agentpool_agent.store import Claim, RedisStore, Write
from agentpool_agent.store.threads import THREAD_BYTES
from agentpool_core.errors import StateCorrupt
from agentpool_core.lifecycle import PauseReason, Tier
from support.store_calls import B1, CLAIM, KEY, KEYS

RECORD, CHECKPOINT = KEYS.record(KEY.instance_id), KEYS.checkpoint(KEY.instance_id)
TEXT = b"what the agent remembers " * 8000


async def test_a_state_that_an_earlier_version_stored_is_loaded_and_changed(
    store: RedisStore, raw: Redis
) -> None:
    owned = await store.claim(CLAIM)
    for name, body in (("a", b"1"), ("b", TEXT)):
        await raw.hset(CHECKPOINT, f"part:{name}", hashlib.sha256(body).digest() + body)
    assert (await store.load(owned)).parts == {"a": b"1", "b": TEXT}
    await store.save(owned, Write({"b": TEXT + b"more"}))
    assert (await store.load(owned)).parts == {"a": b"1", "b": TEXT + b"more"}
    assert (await store.load(owned, previous=True)).parts == {"a": b"1", "b": TEXT}


async def test_a_large_state_is_stored_compressed(store: RedisStore, raw: Redis) -> None:
    assert len(TEXT) > THREAD_BYTES
    owned = await store.claim(CLAIM)
    await store.save(owned, Write({"a": TEXT}))
    assert await raw.hstrlen(CHECKPOINT, "part:a") < len(TEXT) / 10
    assert (await store.load(owned)).parts == {"a": TEXT}
    assert (await store.read(KEY.instance_id))[1].parts == {"a": TEXT}


async def test_an_earlier_version_that_wrote_in_between_leaves_no_wrong_previous_state(
    store: RedisStore, raw: Redis
) -> None:
    owned = await store.claim(CLAIM)
    await store.save(owned, Write({"a": b"1"}))
    await store.save(owned, Write({"a": b"2"}))
    await store.release(owned, PauseReason.EVICTED)
    # It claims, writes and releases without a word of what it replaced.
    await raw.hincrby(RECORD, "epoch", 1)
    await raw.hset(CHECKPOINT, "part:a", hashlib.sha256(b"3").digest() + b"3")
    owned = await store.claim(Claim(KEY, B1, Tier.WARM))
    with pytest.raises(StateCorrupt, match="no earlier"):
        await store.load(owned, previous=True)
    assert (await store.load(owned)).parts == {"a": b"3"}
    assert not await raw.exists(KEYS.previous(KEY.instance_id))


async def test_a_damaged_part_is_taken_back_to_the_state_before_it(store: RedisStore, raw: Redis) -> None:
    owned = await store.claim(CLAIM)
    await store.save(owned, Write({"a": b"1", "b": b"1"}))
    await store.save(owned, Write({"a": b"2"}))
    await raw.hset(CHECKPOINT, "part:a", b"damaged")
    await store.release(owned, PauseReason.EVICTED)
    owned = await store.claim(CLAIM)
    with pytest.raises(StateCorrupt, match="'a'"):
        await store.load(owned)
    with pytest.raises(StateCorrupt, match="'a'"):
        await store.read(KEY.instance_id)
    assert (await store.load(owned, previous=True)).parts == {"a": b"1", "b": b"1"}
    await store.save(owned, Write({"b": b"3"}))
    assert (await store.load(owned)).parts == {"a": b"1", "b": b"3"}
