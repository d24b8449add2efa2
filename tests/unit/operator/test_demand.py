# SPDX-License-Identifier: Apache-2.0
"""How many pods wait: more while they are taken fast, fewer only slowly, never beyond the bounds."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentpool_core.cluster import ROLE_WARM
from agentpool_operator.plan.demand import (
    HALF_LIFE_SECONDS,
    REMEMBERED,
    START_SECONDS,
    Demand,
    after,
    falls_after,
    horizon_seconds,
    standby,
    start_seconds,
)
from support.kube_objects import NOW, pod


def taken(rate: float, seconds: float, start: float = 5.0) -> Demand:
    """The demand after takes that came evenly, `rate` a second."""
    demand = Demand(at=NOW)
    for number in range(round(rate * seconds)):
        demand = after(demand, 1, start, NOW + number / rate)
    return demand


LEVELS = {
    "nothing taken: the fewest": (Demand(at=NOW), 3, 10, 3),
    "two a second while pods start in five: twenty": (taken(2, 60), 3, 100, 20),
    "no more than the pool allows": (taken(2, 60), 3, 10, 10),
    "a slow trickle: the fewest": (taken(0.05, 200), 3, 10, 3),
    "slow pods: more of them": (taken(1, 120, start=30), 3, 100, 60),
    "none may wait": (taken(2, 60), 0, 0, 0),
    "the most is below the fewest wanted by habit": (taken(2, 60), 5, 5, 5),
}


@pytest.mark.parametrize("name", LEVELS)
def test_how_many_wait(name: str) -> None:
    demand, least, most, expected = LEVELS[name]
    assert standby(demand, least, most) == expected


def test_it_falls_by_half_in_five_minutes_and_one_by_one() -> None:
    demand = taken(2, 60)
    seconds = range(0, round(2 * HALF_LIFE_SECONDS), 5)
    seen = [standby(after(demand, 0, 5.0, demand.at + second), 0, 100) for second in seconds]
    assert seen[0] == 20
    assert seen[round(HALF_LIFE_SECONDS / 5)] == pytest.approx(10, abs=1)
    assert all(0 <= earlier - later <= 1 for earlier, later in zip(seen, seen[1:], strict=False))


def test_a_burst_does_not_grow_without_bound() -> None:
    demand = after(Demand(at=NOW), 10 * REMEMBERED, 5.0, NOW)
    assert len(demand.takes) == REMEMBERED


def test_how_long_a_pod_takes_is_measured_on_those_that_started() -> None:
    one, two, three = (pod(str(s), created_at=NOW, ready_at=NOW + s) for s in (2.0, 7.0, 60.0))
    assert start_seconds([one, two, three]) == 7.0
    assert start_seconds([pod("shared", ROLE_WARM, created_at=NOW, ready_at=NOW + 1), two]) == 7.0
    assert start_seconds([pod("rising", ready=False, created_at=NOW)]) == START_SECONDS


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[tuple[float, int]], float, int, int]:
    steps = draw(st.lists(st.tuples(st.floats(0, 400), st.integers(0, 5)), max_size=40))
    least = draw(st.integers(0, 10))
    return steps, draw(st.floats(0.1, 200)), least, least + draw(st.integers(0, 20))


@given(histories())
def test_it_stays_within_the_bounds_and_rises_only_when_pods_are_taken(
    history: tuple[list[tuple[float, int]], float, int, int],
) -> None:
    steps, start, least, most = history
    demand, now = Demand(at=NOW), NOW
    for pause, count in steps:
        before = standby(demand, least, most)
        now += pause
        demand = after(demand, count, start, now)
        found = standby(demand, least, most)
        assert least <= found <= most
        assert found <= before or count > 0
        assert found >= min(most, count)


@given(histories())
def test_the_next_look_comes_when_the_number_falls_and_not_much_before(
    history: tuple[list[tuple[float, int]], float, int, int],
) -> None:
    steps, start, least, most = history
    demand, now = Demand(at=NOW), NOW
    for pause, count in steps:
        now += pause
        demand = after(demand, count, start, now)
    # Long enough for no take to count any more.
    demand = replace(demand, takes=())
    wait = falls_after(demand, least, most)
    present = standby(demand, least, most)
    if wait is None:
        assert present == least
        return
    assert standby(after(demand, 0, start, now + wait + 0.01), least, most) < present
    if wait > 1.0:
        assert standby(after(demand, 0, start, now + wait * 0.9), least, most) == present


@given(st.floats(0, 10_000))
def test_the_time_that_counts_is_bounded(start: float) -> None:
    assert 10.0 <= horizon_seconds(start) <= 240.0
