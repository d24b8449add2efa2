# SPDX-License-Identifier: Apache-2.0
"""Places for requests in flight: bounded, and never all of them one tenant's."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agentpool_core.errors import Unavailable
from agentpool_gateway.dispatch.in_flight import InFlight


def fill(places: InFlight, tenant: str | None, most: int = 10_000) -> int:
    """How many requests get in."""
    for number in range(most):
        try:
            places.enter(tenant)
        except Unavailable as exc:
            assert exc.retry_after_seconds == 1.0
            return number
    return most


def test_a_flood_leaves_places_for_the_others() -> None:
    places = InFlight(1000)
    assert fill(places, "flood") == 800
    assert fill(places, "calm", 50) == 50
    assert fill(places, "flood") == 0


def test_nobody_in_particular_may_have_all_places() -> None:
    assert fill(InFlight(10), None) == 10


def test_the_only_place_can_be_had() -> None:
    places = InFlight(1)
    assert fill(places, "acme") == 1
    places.leave("acme")
    assert fill(places, "other") == 1


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), st.booleans()), max_size=200), st.integers(1, 20))
def test_places_are_neither_lost_nor_made(steps: list[tuple[str, bool]], limit: int) -> None:
    places, held = InFlight(limit), dict.fromkeys("abc", 0)
    for tenant, enters in steps:
        if enters:
            held[tenant] += fill(places, tenant, 1)
        elif held[tenant]:
            places.leave(tenant)
            held[tenant] -= 1
        assert sum(held.values()) <= limit
    for tenant, number in held.items():
        for _ in range(number):
            places.leave(tenant)
    assert fill(places, None) == limit
