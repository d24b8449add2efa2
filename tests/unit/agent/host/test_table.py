# SPDX-License-Identifier: Apache-2.0
"""The pure rules about a host's instances: use, idleness, victims, floors, back-off."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentpool_agent.host.table import Entry, Table, idle_entries
from agentpool_core.errors import IllegalTransition
from agentpool_core.lifecycle import State, Tier, Wish
from agentpool_core.names import InstanceKey


def entry(project: str, last_used: float = 0.0, state: State = State.READY, tier: Tier = Tier.WARM) -> Entry:
    """An instance in some state."""
    key = InstanceKey("default", "support", "tenant", project)
    return Entry(key, project, tier, created_at=0.0, last_used=last_used, state=state)


def table(*entries: Entry) -> Table:
    """A table that knows these."""
    made = Table()
    for one in entries:
        made.put(one)
    return made


def test_acquire_makes_busy_and_the_last_release_makes_ready() -> None:
    one = entry("a")
    rows = table(one)
    rows.acquire(one, 5.0)
    rows.acquire(one, 6.0)
    rows.release(one, 7.0)
    assert (one.state, one.active, one.total) == (State.BUSY, 1, 1)
    rows.release(one, 9.0)
    assert (one.state, one.active, one.total, one.last_used) == (State.READY, 0, 2, 9.0)
    rows.release(one, 10.0)
    assert one.active == 0, "never below zero"


@pytest.mark.parametrize(
    ("now", "active", "idle"),
    [
        pytest.param(300.0, 0, False, id="exactly at the limit it is not idle"),
        pytest.param(300.1, 0, True, id="strictly over the limit it is idle"),
        pytest.param(9999.0, 1, False, id="with something active it never is"),
    ],
)
def test_idle_is_strict_and_needs_nothing_active(now: float, active: int, idle: bool) -> None:
    one = entry("a")
    one.load.active_commands = active
    assert one.idle(now, 300.0) is idle


def test_the_victim_is_the_least_recently_used_that_may_leave() -> None:
    a, b, c = entry("a"), entry("b"), entry("c")
    rows = table(a, b, c)
    rows.acquire(a, 1.0)
    rows.release(a, 1.0)
    assert rows.victim() is b
    rows.acquire(b, 2.0)
    assert rows.victim() is c
    c.leaving = True
    assert rows.victim() is a
    a.wish = Wish.PAUSE
    assert rows.victim() is None


def test_slots_are_counted_for_residents_and_not_for_what_leaves() -> None:
    rows = table(*(entry(state, state=State(state)) for state in State))
    assert (rows.residents, rows.taken_slots) == (4, 4)
    rows.entries["READY"].leaving = True
    assert (rows.residents, rows.taken_slots) == (4, 3)


def test_an_illegal_move_changes_nothing_and_tells_nobody() -> None:
    told: list[str] = []
    one = entry("a", state=State.BUSY)
    rows = Table(changed=lambda name, _urgent: told.append(name))
    rows.put(one)
    told.clear()
    with pytest.raises(IllegalTransition):
        rows.move(one, State.PAUSED)
    assert (one.state, told) == (State.BUSY, [])


IDLE = 300.0


@pytest.mark.parametrize(
    ("rows", "floor", "want"),
    [
        pytest.param([("a", 0), ("b", 10), ("c", 20)], 0, ["a", "b", "c"], id="longest idle first"),
        pytest.param([("a", 0), ("b", 10), ("c", 20)], 2, ["a"], id="never under the floor"),
        pytest.param([("a", 0), ("b", 990)], 1, ["a"], id="the busy and the fresh count towards the floor"),
        pytest.param([("a", 0)], 1, [], id="the last ones stay"),
        pytest.param([("a", 700), ("b", 699)], 0, ["b"], id="at the limit it stays"),
    ],
)
def test_idle_clean_up_takes_what_it_may(rows: list[tuple[str, int]], floor: int, want: list[str]) -> None:
    found = idle_entries(
        table(*(entry(name, used) for name, used in rows)), 1000.0, lambda _: IDLE, {Tier.WARM: floor}
    )
    assert [one.instance_id for one in found] == want


def test_a_tier_that_is_never_idle_stays_and_floors_are_per_tier() -> None:
    rows = table(entry("hot", tier=Tier.HOT), entry("cold", tier=Tier.COLD), entry("warm"))
    found = idle_entries(rows, 1e6, lambda tier: None if tier is Tier.HOT else IDLE, {Tier.WARM: 1})
    assert [one.instance_id for one in found] == ["cold"]


@given(
    st.lists(st.tuples(st.floats(0, 1000), st.sampled_from([State.READY, State.BUSY, State.PAUSED]))),
    st.integers(0, 5),
)
def test_no_sweep_goes_under_the_floor(rows: list[tuple[float, State]], floor: int) -> None:
    made = table(*(entry(str(number), used, state) for number, (used, state) in enumerate(rows)))
    residents = made.residents
    gone = idle_entries(made, 1000.0, lambda _: IDLE, {Tier.WARM: floor})
    assert all(one.state is State.READY and 1000.0 - one.last_used > IDLE for one in gone)
    assert residents - len(gone) >= min(floor, residents)


def test_only_so_many_entries_without_a_slot_are_remembered() -> None:
    rows = Table(remembered=3)
    for one in (entry("resident"), *(entry(str(n), state=State.PAUSED) for n in range(5))):
        rows.put(one)
    assert list(rows.entries) == ["resident", "3", "4"]
