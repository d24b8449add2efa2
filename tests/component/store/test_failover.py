# SPDX-License-Identifier: Apache-2.0
"""The Redis store behind Sentinel: it follows the master, and asks holders for what the new master lacks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from agentpool_agent.store import Claim, Ownership, RedisStore, Write
from agentpool_core.errors import InstanceNotFound, OwnershipLost, StoreDataLost, StoreUnavailable
from agentpool_core.lifecycle import PauseReason, Tier
from agentpool_core.names import InstanceKey
from support.sentinel import Replicated, replicated_redis
from support.store_calls import A1, B1, CLAIM, KEY

pytestmark = pytest.mark.timeout(180)
OTHER = InstanceKey("ns", "pool", "tenant", "other")


@pytest.fixture
async def servers() -> AsyncIterator[Replicated]:
    with replicated_redis() as made:
        await made.ready()
        yield made


@pytest.fixture
async def store(servers: Replicated, clock: Any) -> AsyncIterator[RedisStore]:
    made = RedisStore(servers.url, "pool-uid", "ns", "pool", clock=clock, timeout_seconds=4)
    await made.initialise()
    yield made
    await made.close()


async def answered(call: Callable[[], Awaitable[Any]]) -> Any:
    """What it answers once the store can be reached; each try is one call of its own."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return await call()
        except StoreUnavailable:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.1)


async def refused(call: Callable[[], Awaitable[Any]]) -> StoreDataLost:
    with pytest.raises(StoreDataLost) as lost:
        await answered(call)
    return lost.value


async def test_a_first_master_makes_nobody_wait(store: RedisStore) -> None:
    owned = await store.claim(CLAIM)
    await store.save(owned, Write({"a": b"1"}))
    await store.ping()
    assert (await store.load(owned)).parts == {"a": b"1"}


async def test_the_store_follows_the_master_and_holders_go_on(
    store: RedisStore, servers: Replicated, clock: Any
) -> None:
    owned = await store.claim(CLAIM)
    await store.save(owned, Write({"a": b"1"}))
    await servers.caught_up()
    servers.master.stop()
    with pytest.raises(StoreUnavailable):
        await store.get(KEY.instance_id)
    await servers.fail_over()
    lost = await refused(store.ping)
    assert lost.retry_after_seconds == pytest.approx(10, abs=0.1)
    # Nothing of this instance is missing, so its holder is not disturbed; nobody else may claim yet.
    await store.save(owned, Write({"b": b"2"}))
    await refused(lambda: store.claim(Claim(KEY, B1, Tier.WARM, ended=frozenset({A1}))))
    clock.advance(11)
    taken = await store.claim(Claim(KEY, B1, Tier.WARM, ended=frozenset({A1})))
    assert (await store.load(taken)).parts == {"a": b"1", "b": b"2"}
    await store.ping()


async def test_a_holder_brings_back_what_the_new_master_lacks(
    store: RedisStore, servers: Replicated, clock: Any
) -> None:
    saved = await store.claim(CLAIM)
    await store.save(saved, Write({"a": b"1"}))
    await servers.caught_up()
    await servers.cut_off()
    await store.save(saved, Write({"a": b"2"}))
    claimed = await store.claim(Claim(OTHER, A1, Tier.WARM))
    await store.save(claimed, Write({"x": b"acknowledged"}))
    await servers.fail_over()
    await refused(lambda: store.save(saved, Write({"b": b"3"})))
    await refused(lambda: store.save(claimed, Write({"y": b"3"})))
    await refused(lambda: store.claim(Claim(OTHER, B1, Tier.WARM)))
    saved = await store.register(saved, Write({"a": b"2"}))
    claimed = await store.register(claimed, Write({"x": b"acknowledged"}))
    clock.advance(11)
    for owned, parts in ((saved, {"a": b"2"}), (claimed, {"x": b"acknowledged"})):
        taken = await store.claim(Claim(owned.key, B1, Tier.WARM, ended=frozenset({A1})))
        assert (await store.load(taken)).parts == parts


async def test_what_nobody_holds_any_more_can_be_lost_and_no_older_owner_comes_back(
    store: RedisStore, servers: Replicated, clock: Any
) -> None:
    # Replication is asynchronous: this is what is lost, and guarantees.md says so.
    owned = await store.claim(CLAIM)
    await store.save(owned, Write({"a": b"1"}))
    gone = await store.claim(Claim(OTHER, A1, Tier.WARM))
    await servers.caught_up()
    await servers.cut_off()
    await store.save(owned, Write({"a": b"acknowledged, and lost"}))
    await store.release(owned, PauseReason.EVICTED)
    await store.erase(gone.key.instance_id, A1)
    await servers.fail_over()
    await refused(lambda: store.erase(gone.key.instance_id, B1, frozenset({A1})))
    clock.advance(11)
    taken = await store.claim(Claim(KEY, B1, Tier.WARM, ended=frozenset({A1})))
    assert taken.epoch > owned.epoch
    assert (await store.load(taken)).parts == {"a": b"1"}
    with pytest.raises(OwnershipLost):
        await store.save(owned, Write({"a": b"3"}))
    # The erased instance is back, and can be erased again.
    await store.erase(gone.key.instance_id, B1, frozenset({A1}))
    with pytest.raises(InstanceNotFound):
        await store.read(gone.key.instance_id)


async def test_hosts_that_connect_at_different_times_open_one_window(
    store: RedisStore, servers: Replicated, clock: Any
) -> None:
    owned: Ownership = await store.claim(CLAIM)
    await servers.caught_up()
    await servers.fail_over()
    await refused(store.ping)
    clock.advance(6)
    late = RedisStore(servers.url, "pool-uid", "ns", "pool", clock=clock, timeout_seconds=4)
    lost = await refused(late.ping)
    assert lost.retry_after_seconds == pytest.approx(4, abs=0.1)
    clock.advance(5)
    await late.ping()
    await store.save(owned, Write({"a": b"1"}))
    await late.close()
