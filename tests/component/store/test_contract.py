# SPDX-License-Identifier: Apache-2.0
"""Every promise of the ownership protocol, held by both stores."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from agentpool_agent.store import Caps, Checkpoint, Claim, RedisStore, Store, Write
from agentpool_agent.store.base import IDEMPOTENCY_KEPT, IDEMPOTENCY_SECONDS, SWAP_SECONDS
from agentpool_core.errors import (
    AgentPoolError,
    InstanceNotFound,
    InstancePaused,
    NotOwner,
    OwnershipLost,
    PoolExhausted,
)
from agentpool_core.lifecycle import Origin, PauseReason, Tier, Wish
from agentpool_core.names import Incarnation, InstanceKey

A1, A2 = Incarnation("pod-a", "0001"), Incarnation("pod-a", "0002")
B1, C1 = Incarnation("pod-b", "0001"), Incarnation("pod-c", "0001")
KEY = InstanceKey("ns", "pool", "tenant", "project")


def key(project: str, tenant: str = "tenant") -> InstanceKey:
    return InstanceKey("ns", "pool", tenant, project)


def claim(owner: Incarnation = A1, **changes: Any) -> Claim:
    return replace(Claim(KEY, owner, Tier.WARM), **changes)


@pytest.fixture
def store(each_store: Store) -> Store:
    return each_store


async def test_a_new_instance_is_fresh_and_its_epoch_is_the_time(store: Store, clock: Any) -> None:
    owned = await store.claim(claim())
    assert (owned.fresh, owned.epoch, owned.owner, owned.tier) == (True, clock.now, A1, Tier.WARM)
    assert await store.load(owned) == Checkpoint({}, b"")


async def test_the_present_owner_gets_its_ownership_again_with_the_same_epoch(store: Store) -> None:
    first = await store.claim(claim())
    await store.save(first, Write({"part": b"1"}))
    again = await store.claim(claim(tier=Tier.HOT))
    assert again == replace(first, fresh=False)
    await store.save(again, Write({"part": b"2"}))


TAKEOVERS = [
    pytest.param(A1, B1, frozenset(), False, id="another pod without proof is refused"),
    pytest.param(A1, B1, frozenset({A1}), True, id="another pod with proof takes over"),
    pytest.param(A1, B1, frozenset({A2, C1}), False, id="proof of another life or pod is no proof"),
    pytest.param(A1, A2, frozenset(), True, id="a later life of the same pod takes over"),
    pytest.param(A2, A1, frozenset(), False, id="an earlier life of the same pod is refused"),
]


@pytest.mark.parametrize(("holder", "wanted", "ended", "won"), TAKEOVERS)
async def test_takeover(
    store: Store, holder: Incarnation, wanted: Incarnation, ended: frozenset[Incarnation], won: bool
) -> None:
    old = await store.claim(claim(holder))
    await store.save(old, Write({"part": b"kept"}))
    if won:
        new = await store.claim(claim(wanted, ended=ended))
        assert new.epoch > old.epoch
        assert await store.load(new) == Checkpoint({"part": b"kept"})
        for late in (
            store.load(old),
            store.save(old, Write({"part": b"lost"})),
            store.register(old, Write()),
        ):
            with pytest.raises(OwnershipLost):
                await late
        with pytest.raises(OwnershipLost):
            await store.release(old, PauseReason.EVICTED)
    else:
        with pytest.raises(NotOwner) as refused:
            await store.claim(claim(wanted, ended=ended))
        assert refused.value.details == {"owner": str(holder)}
        await store.save(old, Write({"part": b"still his"}))


async def test_two_gateways_of_opposite_opinions_cannot_make_an_instance_fly(
    store: Store, clock: Any
) -> None:
    await store.claim(claim(A1))
    await store.claim(claim(B1, ended=frozenset({A1})))
    with pytest.raises(NotOwner):
        await store.claim(claim(A1, ended=frozenset({B1})))
    clock.advance(SWAP_SECONDS)
    assert (await store.claim(claim(A1, ended=frozenset({B1})))).owner == A1


async def test_a_restart_is_not_slowed_by_an_earlier_swap(store: Store) -> None:
    await store.claim(claim(B1))
    await store.claim(claim(A1, ended=frozenset({B1})))
    assert (await store.claim(claim(A2))).owner == A2


async def test_a_save_changes_and_removes_parts_and_keeps_the_rest(store: Store) -> None:
    owned = await store.claim(claim())
    await store.save(owned, Write({"a": b"1", "b": b"", "c": bytes(range(256))}, rate=b"bucket"))
    await store.save(owned, Write({"a": b"2"}, frozenset({"c", "never there"})))
    assert await store.load(owned) == Checkpoint({"a": b"2", "b": b""}, b"bucket")


async def test_state_outlives_release_and_the_next_owner_loads_it(store: Store) -> None:
    owned = await store.claim(claim())
    await store.save(owned, Write({"a": b"1"}, rate=b"old"))
    await store.release(owned, PauseReason.EVICTED, rate=b"new")
    with pytest.raises(OwnershipLost):
        await store.save(owned, Write({"a": b"2"}))
    new = await store.claim(claim(B1))
    assert not new.fresh and new.epoch > owned.epoch
    assert await store.load(new) == Checkpoint({"a": b"1"}, b"new")


async def test_an_epoch_grows_even_when_the_clock_stands(store: Store, clock: Any) -> None:
    first = await store.claim(claim())
    await store.release(first, PauseReason.EVICTED)
    clock.advance(-60)
    assert (await store.claim(claim(B1))).epoch == first.epoch + 1


async def test_a_registration_without_loss_writes_the_whole_state(store: Store) -> None:
    owned = await store.claim(claim())
    await store.save(owned, Write({"a": b"1", "b": b"1"}, rate=b"r"))
    fresh = await store.register(owned, Write({"a": b"2"}))
    assert fresh.epoch > owned.epoch
    assert await store.load(fresh) == Checkpoint({"a": b"2"})
    with pytest.raises(OwnershipLost):
        await store.save(owned, Write())


async def test_a_paused_instance_is_woken_only_on_purpose(store: Store) -> None:
    await store.release(await store.claim(claim()), PauseReason.USER_REQUESTED)
    with pytest.raises(InstancePaused):
        await store.claim(claim())
    assert (await store.claim(claim(resume=True))).owner == A1
    record = await store.get(KEY.instance_id)
    assert record is not None and record.paused is None


async def test_pause_changes_the_reason_of_what_nobody_holds(store: Store) -> None:
    owned = await store.claim(claim())
    with pytest.raises(NotOwner):
        await store.pause(KEY.instance_id, PauseReason.USER_REQUESTED)
    await store.release(owned, PauseReason.EVICTED)
    assert (
        await store.pause(KEY.instance_id, PauseReason.USER_REQUESTED)
    ).paused is PauseReason.USER_REQUESTED
    with pytest.raises(InstancePaused):
        await store.claim(claim())
    assert (await store.pause(KEY.instance_id, None)).paused is PauseReason.EVICTED
    await store.claim(claim())


async def test_a_wish_lasts_until_release_clears_it(store: Store) -> None:
    owned = await store.claim(claim())
    assert (await store.wish(KEY.instance_id, Wish.PAUSE)).wish is Wish.PAUSE
    await store.release(owned, PauseReason.EVICTED, clear_wish=False)
    owned = await store.claim(claim(B1))
    record = await store.get(KEY.instance_id)
    assert record is not None and record.wish is Wish.PAUSE
    await store.release(owned, PauseReason.EVICTED)
    assert (await store.wish(KEY.instance_id, None)).wish is None


@pytest.mark.parametrize("what", ["pause", "wish", "erase"])
async def test_what_is_not_known_is_not_found(store: Store, what: str) -> None:
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "pause": lambda: store.pause("inst-none", None),
        "wish": lambda: store.wish("inst-none", Wish.PAUSE),
        "erase": lambda: store.erase("inst-none", A1),
    }
    with pytest.raises(InstanceNotFound):
        await calls[what]()
    assert await store.get("inst-none") is None


ERASURES = [
    pytest.param(None, B1, frozenset(), True, id="anybody erases what nobody holds"),
    pytest.param(A1, A1, frozenset(), True, id="the owner erases what it holds"),
    pytest.param(A1, A2, frozenset(), True, id="a later life of the pod erases what the earlier one held"),
    pytest.param(A1, B1, frozenset({A1}), True, id="with proof, what a dead owner held is erased"),
    pytest.param(A1, B1, frozenset({C1}), False, id="without proof it stays"),
]


@pytest.mark.parametrize(("holder", "by", "ended", "erased"), ERASURES)
async def test_erase(
    store: Store, holder: Incarnation | None, by: Incarnation, ended: frozenset[Incarnation], erased: bool
) -> None:
    owned = await store.claim(claim(holder or A1))
    await store.save(owned, Write({"a": b"1"}, finals={"key": b"final"}))
    if holder is None:
        await store.release(owned, PauseReason.EVICTED)
    if not erased:
        with pytest.raises(NotOwner):
            await store.erase(KEY.instance_id, by, ended)
        assert await store.load(owned) == Checkpoint({"a": b"1"})
        return
    await store.erase(KEY.instance_id, by, ended)
    assert await store.get(KEY.instance_id) is None
    assert await store.recall(KEY.instance_id, "key") is None
    assert not (await store.list()).records
    for late in (store.save(owned, Write()), store.register(owned, Write({"a": b"1"})), store.load(owned)):
        with pytest.raises(OwnershipLost):
            await late
    again = await store.claim(claim(B1, caps=Caps(total=1)))
    assert again.fresh and await store.load(again) == Checkpoint()


async def test_reap_releases_all_that_a_dead_host_held_and_nothing_else(store: Store) -> None:
    for number in range(450):
        await store.claim(claim(A1, key=key(f"p{number}")))
    kept = await store.claim(claim(A2, key=key("other life")))
    assert await store.reap(A1) == 450
    assert await store.reap(A1) == 0
    record = await store.get(key("p7").instance_id)
    assert record is not None
    assert (record.owner, record.paused) == (None, PauseReason.EVICTED)
    await store.save(kept, Write({"a": b"1"}))
    await store.claim(claim(B1, key=key("room"), caps=Caps(total=2)))


CAPS = [
    pytest.param(Caps(total=2), claim(key=key("x", "other"), tier=Tier.HOT), "maxInstances", id="total"),
    pytest.param(Caps(tier=2), claim(key=key("x", "other")), "tier", id="tier"),
    pytest.param(Caps(tenant=2), claim(key=key("x"), tier=Tier.COLD), "tenant", id="tenant"),
]


@pytest.mark.parametrize(("caps", "wanted", "named"), CAPS)
async def test_a_cap_refuses_one_too_many_and_names_itself(
    store: Store, caps: Caps, wanted: Claim, named: str
) -> None:
    first = await store.claim(claim(key=key("1"), caps=caps))
    await store.claim(claim(key=key("2"), caps=caps))
    with pytest.raises(PoolExhausted, match=named):
        await store.claim(replace(wanted, caps=caps))
    assert await store.get(wanted.key.instance_id) is None
    await store.release(first, PauseReason.EVICTED)
    await store.claim(replace(wanted, caps=caps))


async def test_a_cap_counts_neither_other_tiers_nor_other_tenants(store: Store) -> None:
    caps = Caps(tier=1, tenant=1)
    await store.claim(claim(key=key("1", "one"), tier=Tier.WARM, caps=caps))
    await store.claim(claim(key=key("1", "two"), tier=Tier.HOT, caps=caps))


async def test_a_takeover_is_not_refused_by_a_cap_that_counts_the_dead_owner(store: Store) -> None:
    caps = Caps(total=1, tier=1, tenant=1)
    await store.claim(claim(A1, caps=caps))
    await store.claim(claim(B1, caps=caps, ended=frozenset({A1})))
    with pytest.raises(PoolExhausted):
        await store.claim(claim(B1, key=key("second"), caps=caps))


async def test_a_takeover_into_another_tier_moves_the_count(store: Store) -> None:
    await store.claim(claim(A1, tier=Tier.HOT))
    assert (await store.claim(claim(A2, tier=Tier.WARM, caps=Caps(tier=1)))).tier is Tier.WARM
    await store.claim(claim(B1, key=key("2"), tier=Tier.HOT, caps=Caps(tier=1)))
    with pytest.raises(PoolExhausted):
        await store.claim(claim(B1, key=key("3"), tier=Tier.WARM, caps=Caps(tier=1)))


async def test_a_final_event_is_recalled_by_its_key_until_it_is_old(store: Store, clock: Any) -> None:
    owned = await store.claim(claim())
    await store.save(owned, Write(finals={"key": b"final"}))
    assert await store.recall(KEY.instance_id, "key") == b"final"
    assert await store.recall(KEY.instance_id, "other") is None
    assert await store.recall("inst-none", "key") is None
    clock.advance(IDEMPOTENCY_SECONDS - 1)
    assert await store.recall(KEY.instance_id, "key") == b"final"
    clock.advance(2)
    assert await store.recall(KEY.instance_id, "key") is None


async def test_only_the_last_final_events_are_kept(store: Store) -> None:
    owned = await store.claim(claim())
    for number in range(IDEMPOTENCY_KEPT + 2):
        await store.save(owned, Write(finals={f"k{number}": str(number).encode()}))
    kept = [await store.recall(KEY.instance_id, f"k{number}") for number in range(IDEMPOTENCY_KEPT + 2)]
    assert kept[:2] == [None, None]
    assert kept[2:] == [str(number).encode() for number in range(2, IDEMPOTENCY_KEPT + 2)]


async def test_a_refused_write_changes_nothing(store: Store) -> None:
    stale = await store.claim(claim(A1))
    owned = await store.claim(claim(A2))
    await store.save(owned, Write({"a": b"1"}))
    before = await store.get(KEY.instance_id)
    with pytest.raises(OwnershipLost):
        await store.save(stale, Write({"a": b"2"}, finals={"key": b"final"}, rate=b"x"))
    assert await store.recall(KEY.instance_id, "key") is None
    assert await store.load(owned) == Checkpoint({"a": b"1"})
    assert await store.get(KEY.instance_id) == before


async def test_the_record_tells_who_and_when(store: Store, clock: Any) -> None:
    owned = await store.claim(claim(origin=Origin.DECLARED, declared_uid="uid"))
    assert (owned.origin, owned.declared_uid) == (Origin.DECLARED, "uid")
    record = await store.get(KEY.instance_id)
    assert record is not None
    assert (record.key, record.owner, record.epoch, record.tier) == (KEY, A1, owned.epoch, Tier.WARM)
    assert (record.origin, record.declared_uid) == (Origin.DECLARED, "uid")
    assert record.updated_at == pytest.approx(clock.now / 1e6, abs=1)
    clock.advance(100)
    await store.save(owned, Write())
    later = await store.get(KEY.instance_id)
    assert later is not None and later.updated_at - record.updated_at == pytest.approx(100, abs=0.1)


async def test_the_origin_of_a_known_instance_stays(store: Store) -> None:
    await store.release(
        await store.claim(claim(origin=Origin.DECLARED, declared_uid="uid")), PauseReason.EVICTED
    )
    assert (await store.claim(claim(B1))).declared_uid == "uid"


async def test_lists_come_in_pages_in_the_order_of_ids(store: Store) -> None:
    keys = [key(f"p{number}") for number in range(5)]
    for wanted in keys:
        await store.claim(claim(key=wanted))
    ids = sorted(wanted.instance_id for wanted in keys)
    seen, cursor, sizes = [], "", []
    while True:
        page = await store.list(cursor, 2)
        seen += [record.key.instance_id for record in page.records]
        sizes.append(len(page.records))
        cursor = page.cursor
        if not cursor:
            break
    assert (seen, sizes) == (ids, [2, 2, 1])
    whole = await store.list(limit=5)
    assert (len(whole.records), whole.cursor) == (5, "")
    assert len((await store.list(limit=0)).records) == 1
    assert not (await store.list("inst-zzzz")).records


async def test_names_of_any_text_survive(store: Store) -> None:
    odd = InstanceKey("ns", "pool", "té|nant/{x}", "pro\x00ject 🎈")
    owned = await store.claim(claim(key=odd))
    await store.save(owned, Write({"part:ü": b"1", "": b"2"}, finals={"k|é": b"3"}))
    assert await store.load(owned) == Checkpoint({"part:ü": b"1", "": b"2"})
    assert await store.recall(odd.instance_id, "k|é") == b"3"
    record = await store.get(odd.instance_id)
    assert record is not None and record.key == odd


async def test_a_healthy_store_answers_a_ping(store: Store) -> None:
    await store.ping()
    assert store.shared is isinstance(store, RedisStore)


async def test_every_refusal_is_an_error_of_the_table(store: Store) -> None:
    await store.claim(claim())
    with pytest.raises(AgentPoolError) as refused:
        await store.claim(claim(B1))
    assert refused.value.http_status == 503 and refused.value.retryable
