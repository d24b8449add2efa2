# SPDX-License-Identifier: Apache-2.0
"""For whom flags are on: strategies by a table, percentages by their properties, changes of a rollout."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentpool_core.flags import (
    POOL_FLAG,
    Flag,
    Plan,
    Reason,
    Schedule,
    Strategy,
    enable_for_tenant,
    fault,
    place,
    roll_back,
    set_flag,
    set_percentage,
)

NOW = datetime(2026, 11, 28, 9, tzinfo=UTC).timestamp()
S = Strategy


def flag(strategy: Strategy, **more: Any) -> Flag:
    """An enabled flag that lists the tenant `listed` and the project `one` of `acme`."""
    lists: dict[str, Any] = {
        "tenants": frozenset({"listed"}),
        "projects": frozenset({("acme", "one")}),
        "schedule": Schedule(NOW - 10, ((0, 0), (20, 100)), True),
    }
    return Flag("beta", **{"enabled": True, "strategy": strategy, "percentage": 50, **lists, **more})


LISTED, PROJECT, OTHER = ("listed", "any"), ("acme", "one"), ("acme", "two")
TABLE = [
    (S.ALL, OTHER, True, Reason.STATIC),
    (S.NONE, LISTED, False, Reason.STATIC),
    (S.ALLOWLIST, LISTED, True, Reason.TARGETING_MATCH),
    (S.ALLOWLIST, PROJECT, True, Reason.TARGETING_MATCH),
    (S.ALLOWLIST, OTHER, False, Reason.DEFAULT),
    (S.DENYLIST, LISTED, False, Reason.TARGETING_MATCH),
    (S.DENYLIST, PROJECT, False, Reason.TARGETING_MATCH),
    (S.DENYLIST, OTHER, True, Reason.DEFAULT),
    (S.PERCENTAGE, LISTED, True, Reason.TARGETING_MATCH),
    (S.PERCENTAGE, PROJECT, True, Reason.TARGETING_MATCH),
    (S.GRADUAL, LISTED, True, Reason.TARGETING_MATCH),
    (S.GRADUAL, PROJECT, True, Reason.TARGETING_MATCH),
]


@pytest.mark.parametrize(
    ("strategy", "who", "on", "reason"), [pytest.param(*row, id=f"{row[0]} for {row[1]}") for row in TABLE]
)
def test_a_strategy_says_for_whom_and_why(
    strategy: Strategy, who: tuple[str, str], on: bool, reason: Reason
) -> None:
    assert flag(strategy).evaluate(*who, NOW) == (on, reason)


@pytest.mark.parametrize("strategy", Strategy)
@pytest.mark.parametrize("who", [LISTED, PROJECT, OTHER])
def test_not_enabled_wins_over_any_strategy(strategy: Strategy, who: tuple[str, str]) -> None:
    off = flag(strategy, enabled=False)
    assert off.evaluate(*who, NOW) == (False, Reason.DISABLED)
    assert off.reached(NOW) == 0


def test_without_its_schedule_a_gradual_flag_is_at_zero() -> None:
    assert not any(flag(S.GRADUAL, schedule=None).on("t", str(n), NOW) for n in range(1000))


IDS = st.text(min_size=1, max_size=30)
PERCENT = st.integers(0, 100)


@given(IDS, IDS, PERCENT, PERCENT)
def test_who_is_on_stays_on_while_the_percentage_grows(tenant: str, project: str, a: int, b: int) -> None:
    low, high = (flag(S.PERCENTAGE, percentage=share) for share in sorted((a, b)))
    assert low.on(tenant, project, NOW) <= high.on(tenant, project, NOW)


@given(IDS, IDS)
def test_nobody_is_on_at_zero_and_everybody_at_a_hundred(tenant: str, project: str) -> None:
    none = Flag("beta", True, S.PERCENTAGE, 0)
    assert not none.on(tenant, project, NOW)
    assert replace(none, percentage=100).on(tenant, project, NOW)


@pytest.mark.parametrize("share", [1, 10, 25, 50, 75, 99])
@pytest.mark.parametrize("name", [POOL_FLAG, "beta"])
def test_the_share_of_many_projects_is_the_percentage(name: str, share: int) -> None:
    count = 20_000
    one = Flag(name, True, S.PERCENTAGE, share)
    on = sum(one.on(f"tenant-{n % 97}", f"project-{n}", NOW) for n in range(count))
    # Five standard deviations of a fair draw: fixed ids, so it either holds for ever or never.
    bound = 5 * (count * share / 100 * (1 - share / 100)) ** 0.5
    assert abs(on - count * share / 100) < bound


def test_flags_choose_independently_of_each_other() -> None:
    count = 20_000
    first, second = (Flag(name, True, S.PERCENTAGE, 50) for name in ("alpha", "beta"))
    both = sum(first.on("t", str(n), NOW) and second.on("t", str(n), NOW) for n in range(count))
    assert abs(both - count / 4) < 5 * (count * 0.25 * 0.75) ** 0.5


def test_a_place_is_the_same_everywhere_and_for_ever() -> None:
    # Written down: another value would move the projects of every rollout under way.
    assert place("agent_pool_enabled", "acme", "handbook") == 0xD80E1F2908EB54CF
    assert place("f", "a/b", "c") != place("f", "a", "b/c")


RAMP = Plan(20, 80, 60.0, ()).schedule(NOW)
STEPS = Plan(None, None, None, ((60, 50), (0, 25), (120, 100))).schedule(NOW)
MOMENTS = [
    ("a ramp is where it begins before it begins", RAMP, -1, 20),
    ("at its start", RAMP, 0, 20),
    ("half way", RAMP, 30, 50),
    ("at its end", RAMP, 60, 80),
    ("and stays there", RAMP, 6000, 80),
    ("steps are at zero before the first one", STEPS, -0.1, 0),
    ("the first step", STEPS, 0, 25),
    ("it stays until the next", STEPS, 59.9, 25),
    ("the next", STEPS, 60, 50),
    ("the last one stays", STEPS, 1e9, 100),
]


@pytest.mark.parametrize(
    ("schedule", "after", "percentage"), [pytest.param(*row[1:], id=row[0]) for row in MOMENTS]
)
def test_a_schedule_is_a_function_of_time(schedule: Schedule, after: float, percentage: float) -> None:
    assert schedule.percentage(NOW + after) == pytest.approx(percentage)


STEP_LISTS = st.dictionaries(st.integers(0, 10_000), PERCENT, min_size=1, max_size=8).map(
    lambda found: tuple(zip(sorted(found), sorted(found.values()), strict=True))
)
PLANS = st.one_of(
    st.builds(Plan, st.none(), st.none(), st.none(), STEP_LISTS),
    st.builds(
        lambda ends, seconds: Plan(min(ends), max(ends), seconds, ()),
        st.tuples(PERCENT, PERCENT),
        st.floats(0.1, 1e6),
    ),
)


@given(PLANS, st.floats(-1e4, 1e7), st.floats(0, 1e7))
def test_the_percentage_of_a_sound_plan_never_falls(plan: Plan, at: float, later: float) -> None:
    assert plan.fault() is None
    schedule = plan.schedule(NOW)
    assert 0 <= schedule.percentage(NOW + at) <= schedule.percentage(NOW + at + later) <= 100


FAULTS = [
    ("PERCENTAGE without one", S.PERCENTAGE, None, None, "percentage"),
    ("GRADUAL without a schedule", S.GRADUAL, 5, None, "schedule"),
    ("a schedule that is neither ramp nor steps", S.GRADUAL, None, Plan(None, None, None, ()), "schedule"),
    ("one that is both", S.GRADUAL, None, Plan(None, None, 5.0, ((0, 1),)), "schedule"),
    ("a ramp that falls", S.GRADUAL, None, Plan(50, 20, 5.0, ()), "schedule.to_percentage"),
    ("steps that fall", S.GRADUAL, None, Plan(None, None, None, ((0, 50), (9, 20))), "schedule.steps"),
    ("two steps at once", S.GRADUAL, None, Plan(None, None, None, ((0, 5), (0, 9))), "schedule.steps"),
    ("steps with an end", S.GRADUAL, None, Plan(None, 50, None, ((0, 5),)), "schedule.steps"),
]


@pytest.mark.parametrize(
    ("strategy", "percentage", "plan", "field"), [pytest.param(*row[1:], id=row[0]) for row in FAULTS]
)
def test_what_is_wrong_with_a_flag_names_its_field(
    strategy: Strategy, percentage: int | None, plan: Plan | None, field: str
) -> None:
    found = fault(strategy, percentage, plan)
    assert found is not None and found.field == field and found.remedy.endswith(".")


def test_a_rollback_is_one_change_and_what_it_leaves_over_is_no_fault() -> None:
    assert fault(S.NONE, 50, Plan(None, None, 60.0, ())) is None


# What rollouts do (A70, A72, A73).

FLAGS = st.builds(
    Flag,
    st.just("f"),
    st.booleans(),
    st.sampled_from(Strategy),
    PERCENT,
    st.frozensets(st.sampled_from(["a", "b", "c"])),
    st.frozensets(st.tuples(st.sampled_from(["a", "b", "c"]), st.sampled_from(["p", "q"]))),
    st.just(STEPS),
)
EVERYBODY = [(tenant, project) for tenant in ("a", "b", "c", "d") for project in ("p", "q", "r")]


@given(FLAGS, st.sampled_from(["a", "b", "d"]), st.floats(-10, 200))
def test_to_enable_it_for_a_tenant_changes_nothing_for_others(before: Flag, tenant: str, at: float) -> None:
    after = enable_for_tenant({"f": before}, "f", tenant)["f"]
    for who in EVERYBODY:
        expected = who[0] == tenant or before.on(*who, NOW + at)
        assert after.on(*who, NOW + at) == expected, who


@given(FLAGS, PERCENT)
def test_a_percentage_keeps_on_whom_an_allow_list_names(before: Flag, share: int) -> None:
    after = set_percentage({"f": before}, "f", share)["f"]
    assert (after.enabled, after.strategy, after.percentage) == (True, S.PERCENTAGE, share)
    named = before.tenants if before.strategy is not S.DENYLIST else frozenset()
    assert all(after.on(tenant, "any", NOW) for tenant in named)
    assert after.tenants == named, "a deny list must not become an allow list"


@given(FLAGS)
def test_after_a_rollback_it_is_off_for_everybody(before: Flag) -> None:
    after = roll_back({"f": before}, "f")["f"]
    assert (after.enabled, after.strategy) == (False, S.NONE)
    assert not any(after.on(*who, NOW) for who in EVERYBODY)


def test_the_recipe_of_a_rollout() -> None:
    flags = enable_for_tenant({}, POOL_FLAG, "acme")
    assert flags[POOL_FLAG].strategy is S.ALLOWLIST
    assert [flags[POOL_FLAG].on(who, "p", NOW) for who in ("acme", "other")] == [True, False]
    before: set[int] = set()
    for share in (25, 50, 100):
        flags = set_percentage(flags, POOL_FLAG, share)
        on = {n for n in range(400) if flags[POOL_FLAG].on("crowd", str(n), NOW)}
        assert before <= on and flags[POOL_FLAG].on("acme", "p", NOW)
        before = on
    assert len(before) == 400
    flags = roll_back(flags, POOL_FLAG)
    assert not flags[POOL_FLAG].on("acme", "p", NOW)


def test_setting_a_flag_leaves_others_and_what_was_given_alone() -> None:
    given_flags = {"a": Flag("a", True, S.ALL)}
    assert set_flag(given_flags, Flag("b", True, S.NONE)).keys() == {"a", "b"}
    assert given_flags.keys() == {"a"}
