# SPDX-License-Identifier: Apache-2.0
"""The Redis store when Redis is away, slow, empty, older than it was, damaged or full."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from redis.asyncio import Redis

from agentpool_agent.store import Claim, Ownership, RedisStore, Write
from agentpool_agent.store.client import Argument, RedisClient
from agentpool_agent.store.scripts import Script
from agentpool_core.errors import (
    InstanceNotFound,
    OwnershipLost,
    StoreDataLost,
    StoreUnavailable,
)
from agentpool_core.lifecycle import PauseReason, Tier
from agentpool_core.names import Incarnation, InstanceKey, tenant_hash
from support.redis import RedisServer, redis_server
from support.store_calls import A1, B1, CALLS, CLAIM, KEY, KEYS


class HeldClient(RedisClient):
    """Keeps the last script back instead of sending it."""

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[Argument]) -> list[Any]:
        self.held = (script, keys, args)
        raise StoreUnavailable("held back")

    async def deliver(self) -> list[Any]:
        return await super().run(*self.held)


async def test_every_call_says_that_a_store_is_away(store: RedisStore, own_server: RedisServer) -> None:
    owned = await store.claim(CLAIM)
    own_server.stop()
    for name, call in CALLS.items():
        with pytest.raises(StoreUnavailable):
            await call(store, owned)
            pytest.fail(f"{name} did not fail")
    own_server.start()


@pytest.mark.parametrize("name", ["claim", "load", "save", "ping"])
async def test_a_frozen_store_is_given_up_in_time(
    store: RedisStore, own_server: RedisServer, name: str
) -> None:
    owned = await store.claim(CLAIM)
    own_server.freeze()
    started = time.monotonic()
    with pytest.raises(StoreUnavailable):
        await CALLS[name](store, owned)
    assert 0.25 < time.monotonic() - started < 0.8
    own_server.thaw()
    await store.ping()


async def test_tcp_and_unix_sockets_reach_the_same_store(store: RedisStore, own_server: RedisServer) -> None:
    await store.claim(CLAIM)
    other = RedisStore(own_server.tcp_url, "pool-uid", "ns", "pool")
    record = await other.get(KEY.instance_id)
    await other.close()
    assert record is not None and record.owner == A1


async def test_a_save_that_was_applied_unheard_ends_the_ownership_instead_of_mixing_states(
    store: RedisStore, own_server: RedisServer
) -> None:
    owned = await store.claim(CLAIM)
    await store.save(owned, Write({"a": b"1", "b": b"1"}))
    own_server.freeze()
    with pytest.raises(StoreUnavailable):
        await store.save(owned, Write({"a": b"unheard"}))
    own_server.thaw()
    await store.ping()
    with pytest.raises(OwnershipLost):
        await store.save(owned, Write({"b": b"2"}))
    again = await store.claim(CLAIM)
    assert (await store.load(again)).parts == {"a": b"unheard", "b": b"1"}
    await store.save(again, Write({"b": b"2"}))


async def test_an_unheard_save_that_comes_again_is_made_once(
    store: RedisStore, raw: Redis, own_server: RedisServer
) -> None:
    owned = await store.claim(CLAIM)
    await store.save(owned, Write({"a": b"1"}))
    own_server.freeze()
    with pytest.raises(StoreUnavailable) as unheard:
        await store.save(owned, Write({"a": b"2"}))
    with pytest.raises(StoreUnavailable) as not_sent:
        # A new connection is not even greeted.
        await store.save(owned, Write({"a": b"2"}), again=True)
    assert (unheard.value.unheard, not_sent.value.unheard) == (True, False)
    own_server.thaw()
    await store.save(owned, Write({"a": b"2"}), again=True)
    assert await raw.hget(KEYS.record(KEY.instance_id), "version") == b"2"
    assert (await store.load(owned, previous=True)).parts == {"a": b"1"}
    assert (await store.load(owned)).parts == {"a": b"2"}
    await store.save(owned, Write({"a": b"3"}))


async def test_an_unheard_save_that_never_arrived_is_made_when_it_comes_again(
    store: RedisStore, own_server: RedisServer
) -> None:
    owned = await store.claim(CLAIM)
    await store.save(owned, Write({"a": b"1"}))
    client = HeldClient(own_server.url)
    late = RedisStore(own_server.url, "pool-uid", "ns", "pool", client=client)
    await late.load(owned)
    with pytest.raises(StoreUnavailable):
        await late.save(owned, Write({"a": b"2"}))
    first = client.held
    with pytest.raises(StoreUnavailable):
        await late.save(owned, Write({"a": b"2"}), again=True)
    assert (await client.deliver())[0] == b"OK"
    client.held = first
    assert (await client.deliver())[0] == b"OK", "the first one, late: it finds itself made"
    await store.load(owned)
    await store.save(owned, Write({"a": b"3"}))
    assert await client.deliver() == [b"GONE"]
    assert (await store.load(owned)).parts == {"a": b"3"}
    await late.close()


async def test_another_write_is_not_taken_for_the_unheard_one(
    store: RedisStore, own_server: RedisServer
) -> None:
    owned = await store.claim(CLAIM)
    await store.save(owned, Write({"a": b"1"}))
    own_server.freeze()
    with pytest.raises(StoreUnavailable):
        await store.save(owned, Write({"a": b"given up"}))
    with pytest.raises(StoreUnavailable):
        await store.save(owned, Write({"a": b"another"}))
    own_server.thaw()
    await store.ping()
    with pytest.raises(OwnershipLost):
        await store.save(owned, Write({"a": b"another"}), again=True)


async def test_a_write_does_not_come_again_behind_a_new_claim(
    store: RedisStore, own_server: RedisServer
) -> None:
    owned = await store.claim(CLAIM)
    own_server.freeze()
    with pytest.raises(StoreUnavailable):
        await store.save(owned, Write({"a": b"1"}))
    own_server.thaw()
    await store.claim(CLAIM)
    with pytest.raises(OwnershipLost):
        await store.save(owned, Write({"a": b"1"}), again=True)


async def test_what_was_certainly_not_sent_or_was_refused_is_not_called_unheard(
    store: RedisStore, raw: Redis, own_server: RedisServer
) -> None:
    owned = await store.claim(CLAIM)
    await raw.delete(KEYS.index)
    await raw.set(KEYS.index, "not ours")
    with pytest.raises(StoreUnavailable) as refused:
        await store.claim(Claim(KEY, B1, Tier.WARM, ended=frozenset({A1})))
    own_server.stop()
    await asyncio.sleep(0.05)  # the loop sees the connections end
    with pytest.raises(StoreUnavailable) as away:
        await store.save(owned, Write({"a": b"1"}))
    assert not refused.value.unheard and not away.value.unheard
    own_server.start()


async def test_a_save_that_never_arrived_changes_nothing_for_the_next() -> None:
    with redis_server(append=True, arguments=("--appendfsync", "always")) as durable:
        kept = RedisStore(durable.url, "pool-uid", "ns", "pool")
        await kept.initialise()
        owned = await kept.claim(CLAIM)
        await kept.save(owned, Write({"a": b"1"}))
        durable.stop()
        with pytest.raises(StoreUnavailable):
            await kept.save(owned, Write({"a": b"2"}))
        durable.start()
        await kept.save(owned, Write({"b": b"3"}))
        assert (await kept.load(owned)).parts == {"a": b"1", "b": b"3"}
        await kept.close()


async def test_a_store_restarted_empty_lets_only_holders_in_and_loses_nothing_they_hold(
    store: RedisStore, own_server: RedisServer
) -> None:
    owned = await store.claim(CLAIM)
    await store.save(owned, Write({"a": b"1"}))
    own_server.stop()
    own_server.start()
    await asyncio.sleep(0.05)  # the loop sees the old connections end
    for refused in (
        lambda: store.ping(),
        lambda: store.claim(Claim(KEY, B1, Tier.WARM, ended=frozenset({A1}))),
        lambda: store.claim(CLAIM),
        lambda: store.load(owned),
        lambda: store.save(owned, Write({"a": b"2"})),
        lambda: store.release(owned, PauseReason.EVICTED),
        lambda: store.erase(KEY.instance_id, B1),
        lambda: store.wish(KEY.instance_id, None),
    ):
        with pytest.raises(StoreDataLost) as lost:
            await refused()
        assert lost.value.retry_after_seconds is not None and 0 <= lost.value.retry_after_seconds <= 10
    fresh = await store.register(owned, Write({"a": b"1"}, rate=b"bucket"))
    assert fresh.epoch > owned.epoch and fresh.generation != owned.generation
    await store.save(fresh, Write({"b": b"2"}))
    assert (await store.load(fresh)).parts == {"a": b"1", "b": b"2"}
    assert (await store.claim(CLAIM)).epoch == fresh.epoch
    with pytest.raises(OwnershipLost):
        await store.register(owned, Write({"a": b"old"}))


async def test_after_the_recovery_time_anybody_may_claim(
    raw: Redis, own_server: RedisServer, clock: Any
) -> None:
    store = RedisStore(own_server.url, "pool-uid", "ns", "pool", clock=clock)
    with pytest.raises(StoreDataLost) as lost:
        await store.claim(CLAIM)
    assert lost.value.retry_after_seconds == pytest.approx(10, abs=0.01)
    clock.advance(9.9)
    with pytest.raises(StoreDataLost):
        await store.claim(CLAIM)
    clock.advance(0.2)
    owned = await store.claim(CLAIM)
    await raw.flushall()
    with pytest.raises(StoreDataLost):
        await store.save(owned, Write())
    clock.advance(11)
    await store.claim(Claim(KEY, B1, Tier.WARM))
    with pytest.raises(OwnershipLost):
        await store.register(owned, Write())
    with pytest.raises(InstanceNotFound):
        await store.erase("inst-other", B1)
    await store.close()


async def test_initialise_keeps_a_generation_that_is_there(store: RedisStore, raw: Redis) -> None:
    before = await raw.get(KEYS.generation)
    await store.initialise()
    assert await raw.get(KEYS.generation) == before


async def test_a_store_that_came_back_with_an_older_state_asks_for_registration(
    store: RedisStore, raw: Redis
) -> None:
    owned = await store.claim(CLAIM)
    await store.save(owned, Write({"a": b"1", "b": b"1"}))
    older = {key: await raw.dump(key) for key in await raw.keys()}
    await store.save(owned, Write({"a": b"2"}))
    for key, dump in older.items():
        await raw.restore(key, 0, dump or b"", replace=True)
    with pytest.raises(StoreDataLost):
        await store.save(owned, Write({"b": b"2"}))
    fresh = await store.register(owned, Write({"a": b"2", "b": b"2"}))
    assert (await store.load(fresh)).parts == {"a": b"2", "b": b"2"}


async def test_a_registration_whose_answer_was_lost_may_be_repeated(
    store: RedisStore, raw: Redis, own_server: RedisServer
) -> None:
    owned = await store.claim(CLAIM)
    await raw.flushall()
    own_server.freeze()
    with pytest.raises(StoreUnavailable):
        await store.register(owned, Write({"a": b"1"}))
    own_server.thaw()
    fresh = await store.register(owned, Write({"a": b"1"}))
    assert (await store.load(fresh)).parts == {"a": b"1"}
    counts: dict[bytes, bytes] = await raw.hgetall(KEYS.counts)  # type: ignore[assignment]
    tenant = f"tenant:{tenant_hash(KEY.tenant_id)}".encode()
    assert counts == {b"total": b"1", b"tier:WARM": b"1", tenant: b"1"}


async def test_a_registration_without_a_loss_of_data_may_be_repeated_too(
    store: RedisStore, own_server: RedisServer
) -> None:
    owned = await store.claim(CLAIM)
    own_server.freeze()
    with pytest.raises(StoreUnavailable):
        await store.register(owned, Write({"a": b"1"}))
    own_server.thaw()
    await store.ping()
    fresh = await store.register(owned, Write({"a": b"1"}))
    assert (await store.load(fresh)).parts == {"a": b"1"}


async def test_a_late_registration_does_not_reach_a_later_claim_of_its_owner(
    store: RedisStore, own_server: RedisServer
) -> None:
    owned = await store.claim(CLAIM)
    client = HeldClient(own_server.url)
    late = RedisStore(own_server.url, "pool-uid", "ns", "pool", client=client)
    await store.register(owned, Write({"a": b"1"}))
    with pytest.raises(StoreUnavailable):
        await late.register(owned, Write({"a": b"old"}))
    fresh = await store.claim(CLAIM)
    await store.release(fresh, PauseReason.EVICTED)
    await store.claim(CLAIM)
    assert await client.deliver() == [b"GONE"]
    await late.close()


async def test_a_late_registration_takes_nothing_back_from_a_later_one(
    store: RedisStore, raw: Redis, own_server: RedisServer
) -> None:
    owned = await store.claim(CLAIM)
    await raw.flushall()
    late = RedisStore(own_server.url, "pool-uid", "ns", "pool", client=HeldClient(own_server.url))
    with pytest.raises(StoreUnavailable):
        await late.register(owned, Write({"a": b"old"}))
    fresh = await store.register(owned, Write({"a": b"new"}))
    assert isinstance(late._client, HeldClient)
    assert await late._client.deliver() == [b"GONE"]
    assert (await store.load(fresh)).parts == {"a": b"new"}
    await late.close()


WRONG = [
    pytest.param(KEYS.generation, id="generation"),
    pytest.param(KEYS.index, id="index"),
    pytest.param(KEYS.owners, id="owners"),
    pytest.param(KEYS.counts, id="counts"),
    pytest.param(KEYS.record(KEY.instance_id), id="record"),
    pytest.param(KEYS.checkpoint(KEY.instance_id), id="checkpoint"),
    pytest.param(KEYS.previous(KEY.instance_id), id="previous"),
    pytest.param(KEYS.idempotency(KEY.instance_id), id="finals"),
    pytest.param(KEYS.idempotency_order(KEY.instance_id), id="order of finals"),
]


@pytest.mark.parametrize("key", WRONG)
async def test_a_key_of_a_wrong_type_is_refused_before_anything_is_changed(
    store: RedisStore, raw: Redis, key: str
) -> None:
    owned = await store.claim(CLAIM)
    await store.save(owned, Write({"a": b"1"}, finals={"k": b"1"}))
    await raw.delete(key)
    await raw.rpush(key, "not ours")
    before = {name: await raw.dump(name) for name in await raw.keys()}
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "save": lambda: store.save(owned, Write({"a": b"2"}, finals={"k": b"2"}, rate=b"r")),
        "claim": lambda: store.claim(Claim(KEY, B1, Tier.HOT, ended=frozenset({A1}))),
        "release": lambda: store.release(owned, PauseReason.EVICTED, rate=b"r"),
        "register": lambda: store.register(owned, Write({"a": b"3"})),
        "reap": lambda: store.reap(A1),
    }
    failed = []
    for name, call in calls.items():
        try:
            await call()
        except StoreUnavailable:
            failed.append(name)
            assert {name: await raw.dump(name) for name in await raw.keys()} == before
        else:
            break  # this operation does not touch the key, and what follows has another state before it
    assert failed or key in (KEYS.index, KEYS.owners, KEYS.counts)
    if not failed:
        with pytest.raises(StoreUnavailable):
            await store.claim(Claim(InstanceKey("ns", "pool", "other", "p"), B1, Tier.HOT))


async def test_scripts_are_sent_again_after_the_server_forgot_them(store: RedisStore, raw: Redis) -> None:
    owned = await store.claim(CLAIM)
    await store.save(owned, Write({"a": b"1"}))
    await raw.script_flush()
    await store.save(owned, Write({"a": b"2"}))
    assert (await store.load(owned)).parts == {"a": b"2"}


async def test_a_hundred_first_claims_at_once_have_one_winner_per_host(store: RedisStore) -> None:
    owners = [Incarnation(f"pod-{number}", "0001") for number in range(100)]
    outcomes = await asyncio.gather(
        *(store.claim(Claim(KEY, owner, Tier.WARM)) for owner in owners), return_exceptions=True
    )
    assert sum(isinstance(outcome, Ownership) for outcome in outcomes) == 1
