# SPDX-License-Identifier: Apache-2.0
"""Places that no tenant has all of."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agentpool_core.shares import Refusal, Shares


def fill(places: Shares, tenant: str | None, most: int = 10_000) -> int:
    """How many places it gets."""
    for number in range(most):
        if places.refusal(tenant) is not None:
            return number
        places.take(tenant)
    return most


def test_a_flood_has_four_fifths_and_the_others_find_the_rest() -> None:
    places = Shares(1000)
    assert fill(places, "flood") == 800
    assert places.refusal("flood") is Refusal.SHARE
    assert fill(places, "calm", 50) == 50
    assert fill(places, None) == 150
    assert places.refusal("new") is Refusal.FULL


def test_a_lower_limit_takes_nothing_away_and_gives_nothing() -> None:
    places = Shares(10)
    assert fill(places, None, 8) == 8
    places.limit = 5
    assert places.refusal() is Refusal.FULL
    for _ in range(4):
        places.give()
    assert places.refusal() is None


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=200), st.integers(1, 20))
def test_places_are_neither_lost_nor_made(steps: list[tuple[str, bool]], limit: int) -> None:
    places, held = Shares(limit), dict.fromkeys("abc", 0)
    for tenant, enters in steps:
        if enters:
            held[tenant] += fill(places, tenant, 1)
        elif held[tenant]:
            places.give(tenant)
            held[tenant] -= 1
        assert places.taken == sum(held.values()) <= limit
        assert {tenant: places.held(tenant) for tenant in "abc"} == held
