# SPDX-License-Identifier: Apache-2.0
"""What arrives soon: steps and rises are followed, and nothing is expected that was never near."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentpool_core.scaling import Arrivals
from agentpool_core.scaling.forecast import GAP_SECONDS, MOST_GROWTH, REMEMBERED

LOOK = 5.0


def seen(rates: list[float], every: float = LOOK) -> Arrivals:
    known = Arrivals()
    for number, rate in enumerate(rates):
        known = known.after(rate, number * every)
    return known


def test_nothing_measured_nothing_expected() -> None:
    assert Arrivals().ahead(60) == 0.0


def test_a_constant_rate_goes_on() -> None:
    assert seen([7.0] * 60).ahead(60) == pytest.approx(7.0)


def test_a_rise_is_believed_for_a_while() -> None:
    # One request per second more, each ten seconds.
    rising = seen([10.0 + number // 2 for number in range(60)])
    assert rising.rate == 39.0
    assert rising.ahead(60) == pytest.approx(41.2, abs=0.1)
    assert rising.ahead(10) < rising.ahead(60) < rising.ahead(600)


def test_a_step_is_followed_within_two_means_and_not_overshot() -> None:
    step = seen([3.0] * 24 + [30.0] * 4)
    assert step.rate == 30.0
    assert 30.0 <= step.ahead(60) <= 45.0


def test_a_fall_is_no_reason_to_expect_less_than_there_is() -> None:
    assert seen([30.0] * 24 + [3.0] * 1).ahead(60) >= 3.0
    assert seen([30.0] * 24 + [3.0] * 60).ahead(60) == pytest.approx(3.0, abs=0.5)


def test_a_gap_ends_what_was_known() -> None:
    known = seen([3.0, 9.0] * 20)
    after = known.after(5.0, known.measured_at + GAP_SECONDS + 1)
    assert (after.level, after.trend, after.peaks, after.ahead(60)) == (None, 0.0, (), 5.0)


@given(st.lists(st.floats(0, 1e4), min_size=1, max_size=120), st.floats(1, 3600))
def test_it_is_bounded_by_what_was_seen(rates: list[float], horizon: float) -> None:
    known = seen(rates)
    assert known.rate <= known.ahead(horizon) <= MOST_GROWTH * max(rates) + 1e-6
    assert len(known.peaks) <= REMEMBERED
