# SPDX-License-Identifier: Apache-2.0
"""The Redis store when Redis answers, and refuses: full, paused, a replica, or with keys of a wrong type."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from redis.asyncio import Redis

from agentpool_agent.store import Checkpoint, Claim, Ownership, RedisStore, Write
from agentpool_core.errors import InstanceNotFound, StoreUnavailable
from agentpool_core.lifecycle import PauseReason, Tier, Wish
from agentpool_core.names import InstanceKey
from support.redis import RedisServer, redis_server
from support.store_calls import A1, B1, CALLS, CLAIM, KEY, KEYS

EVICTED = InstanceKey("ns", "pool", "tenant", "evicted")
NEW = InstanceKey("ns", "pool", "tenant", "new")
Call = Callable[[RedisStore, Ownership], Awaitable[object]]


async def everything(raw: Redis) -> dict[bytes | str, bytes | None]:
    return {name: await raw.dump(name) for name in await raw.keys()}


@pytest.fixture
async def full(store: RedisStore, raw: Redis) -> AsyncIterator[Ownership]:
    """What is held in a store whose memory is full, in which another instance is evicted."""
    evicted = await store.claim(Claim(EVICTED, A1, Tier.WARM))
    await store.save(evicted, Write({"a": b"1"}))
    await store.release(evicted, PauseReason.EVICTED)
    owned = await store.claim(CLAIM)
    await store.save(owned, Write({"a": b"1"}))
    await store.save(owned, Write({"a": b"2"}))
    await raw.config_set("maxmemory", "1mb")
    yield owned
    await raw.config_set("maxmemory", "0")


NEEDS_MEMORY: dict[str, Call] = {
    "save": lambda store, owned: store.save(owned, Write({"a": b"3", "b": b"3"}, finals={"key": b"final"})),
    "save of removals": lambda store, owned: store.save(owned, Write({}, frozenset({"a"}))),
    "save of a final event": lambda store, owned: store.save(owned, Write(finals={"key": b"final"})),
    "claim of a new instance": lambda store, owned: store.claim(Claim(NEW, B1, Tier.WARM)),
    "import": lambda store, owned: store.plant(NEW, Tier.WARM, Checkpoint({"a": b"1"}), replace=False),
    "import over another": lambda store, owned: store.plant(EVICTED, Tier.WARM, Checkpoint(), replace=True),
}


@pytest.mark.parametrize("name", NEEDS_MEMORY)
async def test_a_full_store_refuses_what_needs_memory_and_changes_nothing(
    store: RedisStore, raw: Redis, full: Ownership, name: str
) -> None:
    before = await everything(raw)
    with pytest.raises(StoreUnavailable, match="full") as refused:
        await NEEDS_MEMORY[name](store, full)
    assert "maxmemory" in refused.value.hint and refused.value.retryable
    assert await everything(raw) == before
    await raw.config_set("maxmemory", "0")
    await store.save(full, Write({"a": b"4"}))
    assert (await store.load(full, previous=True)).parts == {"a": b"2"}


async def wake(store: RedisStore, owned: Ownership) -> None:
    woken = await store.claim(Claim(EVICTED, B1, Tier.WARM))
    assert (await store.load(woken)).parts == {"a": b"1"}


NEEDS_NONE: dict[str, Call] = {
    "load": lambda store, owned: store.load(owned),
    "load of the previous state": lambda store, owned: store.load(owned, previous=True),
    "read": lambda store, owned: store.read(KEY.instance_id),
    "get": lambda store, owned: store.get(KEY.instance_id),
    "list": lambda store, owned: store.list(),
    "recall": lambda store, owned: store.recall(KEY.instance_id, "key"),
    "ping": lambda store, owned: store.ping(),
    "the owner's claim": lambda store, owned: store.claim(CLAIM),
    "waking an evicted instance": wake,
    "a takeover": lambda store, owned: store.claim(Claim(KEY, B1, Tier.HOT, ended=frozenset({A1}))),
    "release": lambda store, owned: store.release(owned, PauseReason.EVICTED, tier=Tier.HOT),
    "note": lambda store, owned: store.note(owned, b"failed"),
    "wish": lambda store, owned: store.wish(KEY.instance_id, Wish.PAUSE),
    "pause": lambda store, owned: store.pause(EVICTED.instance_id, PauseReason.USER_REQUESTED),
    "place": lambda store, owned: store.place(EVICTED.instance_id, Tier.HOT),
    "reap": lambda store, owned: store.reap(A1),
    "erase": lambda store, owned: store.erase(KEY.instance_id, A1),
    "prune": lambda store, owned: store.prune(4e9),
}


@pytest.mark.parametrize("name", NEEDS_NONE)
async def test_a_full_store_serves_on_what_needs_no_memory(
    store: RedisStore, full: Ownership, name: str
) -> None:
    await NEEDS_NONE[name](store, full)


async def test_a_paused_store_is_given_up_in_time_and_used_again(store: RedisStore, raw: Redis) -> None:
    owned = await store.claim(CLAIM)
    pause: Callable[..., Awaitable[object]] = raw.execute_command
    await pause("CLIENT", "PAUSE", "100000", "WRITE")
    for name in ("claim", "save", "release", "note"):
        with pytest.raises(StoreUnavailable, match="did not answer"):
            await CALLS[name](store, owned)
    assert (await store.load(owned)).parts == {}
    await pause("CLIENT", "UNPAUSE")
    # Nothing of what was given up arrived late.
    await store.save(owned, Write({"a": b"1"}))
    assert (await store.load(owned)).parts == {"a": b"1"}


async def test_a_server_that_became_a_replica_is_left_for_the_present_master(
    store: RedisStore, raw: Redis, own_server: RedisServer
) -> None:
    owned = await store.claim(CLAIM)
    with redis_server() as elsewhere:
        await raw.replicaof("127.0.0.1", str(elsewhere.port))
        with pytest.raises(StoreUnavailable, match="replica"):
            await store.save(owned, Write({"a": b"1"}))
        clients = [client for client in await raw.client_list() if client["cmd"].startswith("eval")]
        assert not clients, "a connection to the replica is kept"
        await raw.replicaof("NO", "ONE")
    await store.initialise()


UNHELD: dict[str, Call] = {
    "claim": lambda store, owned: store.claim(Claim(KEY, B1, Tier.HOT)),
    "plant": lambda store, owned: store.plant(KEY, Tier.HOT, Checkpoint({"a": b"9"}), replace=True),
    "place": lambda store, owned: store.place(KEY.instance_id, Tier.HOT),
    "read": lambda store, owned: store.read(KEY.instance_id),
}
TOUCHED = [
    pytest.param(KEYS.record(KEY.instance_id), set(UNHELD), id="record"),
    pytest.param(KEYS.checkpoint(KEY.instance_id), {"claim", "plant", "read"}, id="checkpoint"),
    pytest.param(KEYS.previous(KEY.instance_id), {"claim", "plant"}, id="previous"),
    pytest.param(KEYS.idempotency(KEY.instance_id), {"plant"}, id="finals"),
    pytest.param(KEYS.index, {"claim", "plant"}, id="index"),
]


@pytest.mark.parametrize(("key", "refusing"), TOUCHED)
async def test_a_key_of_a_wrong_type_is_refused_by_each_call_that_touches_it(
    store: RedisStore, raw: Redis, key: str, refusing: set[str]
) -> None:
    owned = await store.claim(CLAIM)
    await store.save(owned, Write({"a": b"1"}))
    await store.release(owned, PauseReason.EVICTED)
    await raw.delete(key)
    await raw.rpush(key, "not ours")
    before = await everything(raw)
    for name in sorted(refusing):
        with pytest.raises(StoreUnavailable, match="WRONGTYPE"):
            await UNHELD[name](store, owned)
        assert await everything(raw) == before


async def test_a_record_of_a_wrong_type_keeps_no_other_from_being_removed(
    store: RedisStore, raw: Redis
) -> None:
    for key in (KEY, EVICTED):
        await store.plant(key, Tier.WARM, Checkpoint({"a": b"1"}), replace=False)
    await raw.delete(KEYS.record(KEY.instance_id))
    await raw.rpush(KEYS.record(KEY.instance_id), "not ours")
    assert await store.prune(4e9) == 1
    with pytest.raises(InstanceNotFound):
        await store.read(EVICTED.instance_id)


@pytest.mark.parametrize("memory", ["0", "1mb"], ids=["memory left", "a full store"])
async def test_a_record_of_a_wrong_type_keeps_no_other_from_being_released(
    store: RedisStore, raw: Redis, memory: str
) -> None:
    keys = [InstanceKey("ns", "pool", "tenant", f"project-{number}") for number in range(4)]
    for key in keys:
        await store.claim(Claim(key, A1, Tier.WARM))
    # Members are gone through by their names: there are others in front of it and behind it.
    damaged = sorted(keys, key=lambda key: key.instance_id)[1]
    await raw.delete(KEYS.record(damaged.instance_id))
    await raw.rpush(KEYS.record(damaged.instance_id), "not ours")
    await raw.config_set("maxmemory", memory)
    assert await store.reap(A1) == 3
    await raw.config_set("maxmemory", "0")
    for key in keys:
        if key != damaged:
            assert (await store.claim(Claim(key, B1, Tier.WARM))).owner == B1


ENDS: dict[str, Call] = {
    "erase": lambda store, owned: store.erase(KEY.instance_id, A1),
    "prune": lambda store, owned: store.prune(4e9),
}


@pytest.mark.parametrize("name", ENDS)
async def test_nothing_is_left_of_an_instance_that_is_removed(
    store: RedisStore, raw: Redis, name: str
) -> None:
    owned = await store.claim(CLAIM)
    await store.save(owned, Write({"a": b"1"}, finals={"key": b"final"}, rate=b"r"))
    await store.save(owned, Write({"a": b"2"}))
    await store.note(owned, b"failed")
    await store.release(owned, PauseReason.EVICTED)
    calls = await raw.info("commandstats")
    await ENDS[name](store, owned)
    assert await raw.keys() == [KEYS.generation.encode()]
    # One script: no crash in between can leave a part of it.
    after = await raw.info("commandstats")
    assert sum(_scripts(after)) - sum(_scripts(calls)) == 1


def _scripts(stats: dict[str, dict[str, int]]) -> list[int]:
    # A script that the server does not know is sent twice, and fails the first time.
    return [
        found["calls"] - found["failed_calls"]
        for name, found in stats.items()
        if name in ("cmdstat_evalsha", "cmdstat_eval")
    ]


async def test_an_instance_is_planted_by_one_script(store: RedisStore, raw: Redis) -> None:
    calls = await raw.info("commandstats")
    await store.plant(KEY, Tier.WARM, Checkpoint({"a": b"1"}), replace=False)
    after = await raw.info("commandstats")
    assert sum(_scripts(after)) - sum(_scripts(calls)) == 1
