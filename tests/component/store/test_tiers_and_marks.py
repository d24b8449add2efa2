# SPDX-License-Identifier: Apache-2.0
"""A release in another tier, and what is written down of an instance whoever holds it, in both stores."""

from __future__ import annotations

import pytest

from agentpool_agent.store import Claim, Store, Write
from agentpool_core.errors import InstanceNotFound, PoolExhausted
from agentpool_core.lifecycle import Origin, PauseReason, Tier
from agentpool_core.names import InstanceKey
from support.store_calls import A1, B1, CLAIM, KEY


@pytest.fixture
def store(each_store: Store) -> Store:
    return each_store


async def test_a_release_in_another_tier_is_refused_when_that_is_full_and_changes_nothing(
    store: Store,
) -> None:
    await store.claim(Claim(InstanceKey("ns", "pool", "tenant", "other"), A1, Tier.HOT))
    owned = await store.claim(CLAIM)
    with pytest.raises(PoolExhausted):
        await store.release(owned, PauseReason.EVICTED, tier=Tier.HOT, cap=1)
    await store.save(owned, Write({"part": b"1"}))
    await store.release(owned, PauseReason.EVICTED, tier=Tier.HOT, cap=2)
    record = await store.get(KEY.instance_id)
    assert record is not None
    assert (record.owner, record.tier) == (None, Tier.HOT)


async def test_a_mark_says_who_declares_it_and_that_its_tier_is_kept_whoever_holds_it(store: Store) -> None:
    owned = await store.claim(CLAIM)
    marked = await store.mark(KEY.instance_id, declared_uid="uid-1", pinned=True)
    assert (marked.origin, marked.declared_uid, marked.pinned) == (Origin.DECLARED, "uid-1", True)
    assert (await store.mark(KEY.instance_id)) == marked
    await store.save(owned, Write({"part": b"1"}))
    await store.release(owned, PauseReason.EVICTED)
    again = await store.claim(Claim(KEY, B1, Tier.WARM))
    assert (again.origin, again.declared_uid) == (Origin.DECLARED, "uid-1")
    assert not (await store.mark(KEY.instance_id, pinned=False)).pinned


async def test_what_the_store_does_not_know_cannot_be_marked(store: Store) -> None:
    with pytest.raises(InstanceNotFound):
        await store.mark(KEY.instance_id, pinned=True)
