# SPDX-License-Identifier: Apache-2.0
"""Who finds no place is told whose requests are too many, and when to come back."""

from __future__ import annotations

import pytest

from agentpool_core.errors import Overloaded
from agentpool_core.shares import Shares
from agentpool_gateway.dispatch.in_flight import RETRY_SECONDS, take_place


@pytest.mark.parametrize(
    ("limit", "tenant", "entered", "told"),
    [
        pytest.param(10, "flood", 8, "too many requests of this tenant", id="a tenant has its share"),
        pytest.param(10, None, 10, "too many requests in flight", id="all places are taken"),
        pytest.param(1, "acme", 1, "too many requests in flight", id="the only place can be had, once"),
    ],
)
def test_who_finds_no_place_is_told_why_and_when_to_come_back(
    limit: int, tenant: str | None, entered: int, told: str
) -> None:
    places = Shares(limit)
    for _ in range(entered):
        take_place(places, tenant)
    with pytest.raises(Overloaded, match=told) as refused:
        take_place(places, tenant)
    assert refused.value.retry_after_seconds == RETRY_SECONDS
    assert places.taken == entered
