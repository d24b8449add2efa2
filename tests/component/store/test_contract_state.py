# SPDX-License-Identifier: Apache-2.0
"""What both stores promise of states and records beyond one ownership: the previous state, failure histories,
tiers, export and import, and what is removed because nobody used it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agentpool_agent.store import Caps, Checkpoint, Claim, Store, Write
from agentpool_agent.store.base import PRUNE_BATCH
from agentpool_core.errors import (
    InstanceExists,
    InstanceNotFound,
    InstancePaused,
    NotOwner,
    OwnershipLost,
    StateCorrupt,
)
from agentpool_core.lifecycle import Origin, PauseReason, Tier, Wish
from agentpool_core.names import Incarnation, InstanceKey

A1, B1 = Incarnation("pod-a", "0001"), Incarnation("pod-b", "0001")
KEY = InstanceKey("ns", "pool", "tenant", "project")
ID = KEY.instance_id
FIRST = {"a": b"1", "b": b"1"}


def claim(owner: Incarnation = A1, **changes: Any) -> Claim:
    return replace(Claim(KEY, owner, Tier.WARM), **changes)


def other(project: str) -> InstanceKey:
    return replace(KEY, project_id=project)


PREVIOUS = [
    pytest.param([Write(FIRST), Write({"a": b"2"})], FIRST, id="a changed part is as it was"),
    pytest.param([Write(FIRST), Write({"c": b"2"})], FIRST, id="an added part is not there"),
    pytest.param([Write(FIRST), Write({}, frozenset({"b"}))], FIRST, id="a removed part is there"),
    pytest.param(
        [Write(FIRST), Write({"b": b"2", "c": b"2"}, frozenset({"a", "b", "never there"}))],
        FIRST,
        id="all of it at once, one part both written and removed",
    ),
    pytest.param(
        [Write(FIRST), Write({"a": b"2"}), Write({"b": b"3"})],
        {"a": b"2", "b": b"1"},
        id="only the last change is taken back",
    ),
    pytest.param(
        [Write(FIRST), Write({"a": b"2"}), Write(finals={"key": b"final"}), Write(rate=b"r")],
        FIRST,
        id="a write that changes no part is no change",
    ),
]


@pytest.mark.parametrize(("writes", "want"), PREVIOUS)
async def test_the_previous_state_is_that_before_the_last_change(
    each_store: Store, writes: list[Write], want: dict[str, bytes]
) -> None:
    owned = await each_store.claim(claim())
    for write in writes:
        await each_store.save(owned, write)
    present = (await each_store.load(owned)).parts
    assert (await each_store.load(owned, previous=True)).parts == want
    # Looking at it changes nothing.
    assert (await each_store.load(owned)).parts == present


async def test_without_a_state_before_there_is_no_previous_one(each_store: Store) -> None:
    owned = await each_store.claim(claim())
    with pytest.raises(StateCorrupt, match="no earlier"):
        await each_store.load(owned, previous=True)
    await each_store.save(owned, Write(FIRST))
    with pytest.raises(StateCorrupt, match="no earlier"):
        await each_store.load(owned, previous=True)
    # An instance is not made empty by its recovery.
    await each_store.save(owned, Write({"a": b"2"}))
    assert (await each_store.load(owned)).parts == {"a": b"2", "b": b"1"}


async def test_the_previous_state_outlives_the_owner(each_store: Store) -> None:
    owned = await each_store.claim(claim())
    await each_store.save(owned, Write(FIRST))
    await each_store.save(owned, Write({"a": b"2"}))
    await each_store.release(owned, PauseReason.EVICTED)
    owned = await each_store.claim(claim(B1))
    assert (await each_store.load(owned, previous=True)).parts == FIRST
    later = await each_store.claim(claim(A1, ended=frozenset({B1})))
    assert (await each_store.load(later, previous=True)).parts == FIRST
    with pytest.raises(OwnershipLost):
        await each_store.load(owned, previous=True)


async def test_a_change_on_top_of_the_previous_state_takes_the_last_one_back(each_store: Store) -> None:
    owned = await each_store.claim(claim())
    await each_store.save(owned, Write(FIRST))
    await each_store.save(owned, Write({"a": b"bad", "c": b"bad"}, frozenset({"b"})))
    assert (await each_store.load(owned, previous=True)).parts == FIRST
    await each_store.save(owned, Write(finals={"key": b"final"}, rate=b"r"))
    assert (await each_store.read(ID))[1].parts == {"a": b"bad", "c": b"bad"}
    await each_store.save(owned, Write({"d": b"3"}))
    assert (await each_store.load(owned)).parts == {**FIRST, "d": b"3"}
    assert (await each_store.load(owned, previous=True)).parts == FIRST


async def test_a_change_after_the_present_state_was_loaded_again_rests_on_that(each_store: Store) -> None:
    owned = await each_store.claim(claim())
    await each_store.save(owned, Write(FIRST))
    await each_store.save(owned, Write({"a": b"2"}))
    await each_store.load(owned, previous=True)
    await each_store.load(owned)
    await each_store.save(owned, Write({"b": b"3"}))
    assert (await each_store.load(owned)).parts == {"a": b"2", "b": b"3"}
    await each_store.load(owned, previous=True)
    owned = await each_store.claim(claim())
    await each_store.save(owned, Write({"b": b"4"}))
    assert (await each_store.load(owned)).parts == {"a": b"2", "b": b"4"}


async def test_a_note_takes_the_rate_bucket_along_if_it_has_one(each_store: Store) -> None:
    owned = await each_store.claim(claim())
    await each_store.save(owned, Write({"a": b"1"}, rate=b"before"))
    await each_store.note(owned, b"once")
    assert (await each_store.read(ID))[1].rate == b"before"
    await each_store.note(owned, b"once", b"after")
    assert (await each_store.read(ID))[1] == Checkpoint({"a": b"1"}, b"after")
    await each_store.save(owned, Write({"a": b"2"}))
    assert (await each_store.read(ID))[1] == Checkpoint({"a": b"2"}, b"after"), "it is no write of state"


async def test_a_failure_history_stays_with_the_instance_until_it_is_erased(each_store: Store) -> None:
    owned = await each_store.claim(claim())
    assert owned.failures == b""
    await each_store.note(owned, b"once\x00\xff")
    assert (await each_store.claim(claim())).failures == b"once\x00\xff"
    await each_store.release(owned, PauseReason.EVICTED)
    with pytest.raises(OwnershipLost):
        await each_store.note(owned, b"of another life")
    record = await each_store.get(ID)
    assert record is not None and record.failures == b"once\x00\xff"
    owned = await each_store.claim(claim(B1))
    assert owned.failures == b"once\x00\xff"
    await each_store.note(owned, b"")
    assert (await each_store.claim(claim(B1))).failures == b""
    await each_store.note(owned, b"twice")
    await each_store.erase(ID, B1)
    assert (await each_store.claim(claim())).failures == b""


async def test_a_note_is_no_change_of_the_state(each_store: Store) -> None:
    owned = await each_store.claim(claim())
    await each_store.save(owned, Write(FIRST))
    await each_store.note(owned, b"once")
    await each_store.save(owned, Write({"a": b"2"}))
    assert (await each_store.load(owned)).parts == {"a": b"2", "b": b"1"}


async def test_a_move_releases_into_another_tier(each_store: Store) -> None:
    owned = await each_store.claim(claim())
    await each_store.release(owned, PauseReason.EVICTED, tier=Tier.HOT)
    record = await each_store.get(ID)
    assert record is not None and (record.tier, record.owner) == (Tier.HOT, None)
    # It was taken out of the count of the tier that it left.
    await each_store.claim(claim(key=other("2"), caps=Caps(tier=1)))
    owned = await each_store.claim(claim(tier=Tier.HOT, caps=Caps(tier=1)))
    await each_store.release(owned, PauseReason.EVICTED)
    record = await each_store.get(ID)
    assert record is not None and record.tier is Tier.HOT


async def test_only_what_nobody_holds_is_placed(each_store: Store) -> None:
    with pytest.raises(InstanceNotFound):
        await each_store.place(ID, Tier.HOT)
    owned = await each_store.claim(claim())
    with pytest.raises(NotOwner) as refused:
        await each_store.place(ID, Tier.HOT)
    assert refused.value.details == {"owner": str(A1)}
    await each_store.release(owned, PauseReason.USER_REQUESTED)
    placed = await each_store.place(ID, Tier.COLD)
    assert (placed.tier, placed.paused) == (Tier.COLD, PauseReason.USER_REQUESTED)
    assert await each_store.get(ID) == placed


async def test_the_last_state_is_read_whoever_holds_it(each_store: Store) -> None:
    with pytest.raises(InstanceNotFound):
        await each_store.read(ID)
    owned = await each_store.claim(claim())
    await each_store.save(owned, Write(FIRST, rate=b"bucket"))
    record, checkpoint = await each_store.read(ID)
    assert (record.key, record.owner, checkpoint) == (KEY, A1, Checkpoint(FIRST, b"bucket"))
    await each_store.save(owned, Write({"a": b"2"}))
    await each_store.release(owned, PauseReason.EVICTED)
    record, checkpoint = await each_store.read(ID)
    assert record.owner is None and checkpoint.parts == {"a": b"2", "b": b"1"}


async def test_a_planted_instance_wakes_with_its_state(each_store: Store) -> None:
    record = await each_store.plant(KEY, Tier.COLD, Checkpoint(FIRST, b"bucket"), replace=False)
    assert (record.key, record.tier, record.owner) == (KEY, Tier.COLD, None)
    assert (record.paused, record.origin) == (PauseReason.EVICTED, Origin.OBSERVED)
    assert [found.key for found in (await each_store.list()).records] == [KEY]
    owned = await each_store.claim(claim(caps=Caps(total=1, tier=1, tenant=1)))
    assert not owned.fresh and owned.epoch > record.epoch
    assert await each_store.load(owned) == Checkpoint(FIRST, b"bucket")


async def test_a_state_is_replaced_on_purpose_only(each_store: Store) -> None:
    owned = await each_store.claim(claim(origin=Origin.DECLARED, declared_uid="uid"))
    await each_store.save(owned, Write({"z": b"9"}, finals={"key": b"final"}, rate=b"old"))
    await each_store.note(owned, b"failures")
    for replaced in (False, True):
        with pytest.raises(NotOwner):
            await each_store.plant(KEY, Tier.COLD, Checkpoint(FIRST), replace=replaced)
    await each_store.wish(ID, Wish.PAUSE)
    await each_store.release(owned, PauseReason.USER_REQUESTED, clear_wish=False)
    before = await each_store.read(ID)
    with pytest.raises(InstanceExists):
        await each_store.plant(KEY, Tier.COLD, Checkpoint(FIRST), replace=False)
    assert await each_store.read(ID) == before
    record = await each_store.plant(KEY, Tier.COLD, Checkpoint(FIRST), replace=True)
    assert (record.tier, record.origin, record.declared_uid) == (Tier.WARM, Origin.DECLARED, "uid")
    assert (record.paused, record.wish, record.failures) == (PauseReason.EVICTED, None, b"")
    assert record.epoch > owned.epoch
    assert await each_store.read(ID) == (record, Checkpoint(FIRST))
    assert await each_store.recall(ID, "key") is None
    for late in (each_store.save(owned, Write({"a": b"2"})), each_store.register(owned, Write())):
        with pytest.raises(OwnershipLost):
            await late


async def test_what_nobody_used_for_long_is_removed(each_store: Store, clock: Any) -> None:
    kept = {
        "held": claim(key=other("held")),
        "declared": claim(key=other("declared"), origin=Origin.DECLARED, declared_uid="uid"),
    }
    held = await each_store.claim(kept["held"])
    await each_store.release(await each_store.claim(kept["declared"]), PauseReason.EVICTED)
    for project, reason in (("1", PauseReason.EVICTED), ("2", PauseReason.USER_REQUESTED)):
        owned = await each_store.claim(claim(key=other(project)))
        await each_store.save(owned, Write(FIRST, finals={"key": b"final"}))
        await each_store.release(owned, reason)
    clock.advance(1000)
    used = await each_store.claim(claim(key=other("used")))
    await each_store.release(used, PauseReason.EVICTED)
    assert await each_store.prune(clock.now / 1e6 - 2000) == 0
    assert await each_store.prune(clock.now / 1e6 - 500) == 2
    assert await each_store.prune(clock.now / 1e6 - 500) == 0
    left = {record.key.project_id for record in (await each_store.list()).records}
    assert left == {"held", "declared", "used"}
    assert await each_store.recall(other("1").instance_id, "key") is None
    await each_store.save(held, Write(FIRST))
    assert (await each_store.claim(claim(key=other("1")))).fresh


async def test_many_old_instances_are_removed_a_few_at_once(each_store: Store, clock: Any) -> None:
    for number in range(PRUNE_BATCH + 50):
        await each_store.plant(other(f"p{number}"), Tier.WARM, Checkpoint(FIRST), replace=False)
    clock.advance(10)
    rounds = [await each_store.prune(clock.now / 1e6) for _ in range(3)]
    assert max(rounds) <= PRUNE_BATCH and sum(rounds) == PRUNE_BATCH + 50
    assert not (await each_store.list()).records


async def test_a_user_paused_instance_stays_so_after_it_is_placed(each_store: Store) -> None:
    await each_store.release(await each_store.claim(claim()), PauseReason.USER_REQUESTED)
    await each_store.place(ID, Tier.HOT)
    with pytest.raises(InstancePaused):
        await each_store.claim(claim())
