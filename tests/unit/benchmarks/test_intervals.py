# SPDX-License-Identifier: Apache-2.0
"""What a few rounds show and what they do not."""

from __future__ import annotations

import random
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.comparison import Comparison, comparisons, report, values_of
from benchmarks.intervals import Interval, bootstrap, bootstrap_ratio
from benchmarks.rows import Row
from benchmarks.samples import Summary


@given(st.lists(st.floats(0.1, 1000), min_size=1, max_size=12))
def test_the_interval_holds_the_median_and_lies_within_what_was_seen(values: list[float]) -> None:
    found = bootstrap(values, random.Random(1), resamples=200)
    assert min(values) <= found.low <= found.high <= max(values)
    assert found.median == median(values)


def test_more_spread_gives_a_wider_interval() -> None:
    narrow = bootstrap([10.0, 10.1, 9.9, 10.0, 10.1, 9.9], random.Random(1))
    wide = bootstrap([5.0, 15.0, 8.0, 12.0, 10.0, 20.0], random.Random(1))
    assert narrow.high - narrow.low < wide.high - wide.low


def test_the_interval_holds_the_true_median_about_as_often_as_it_claims() -> None:
    rng = random.Random(2)
    held = 0
    for _ in range(100):
        found = bootstrap([rng.gauss(10, 1) for _ in range(12)], rng, resamples=200)
        held += found.low <= 10 <= found.high
    assert held >= 88


def test_no_values_is_an_error() -> None:
    with pytest.raises(ValueError, match="no values"):
        bootstrap([], random.Random(1))


def test_a_ratio_of_the_same_blocks_is_one_and_its_interval_around_it() -> None:
    blocks = [[float(value) for value in range(start, start + 20)] for start in range(1, 11)]
    found = bootstrap_ratio(blocks, blocks, lambda times: Summary.of(times).p99, random.Random(1))
    assert found.median == 1.0
    assert found.low <= 1.0 <= found.high


def test_a_ratio_tells_a_doubled_time() -> None:
    before = [[1.0, 2.0, 3.0]] * 6
    after = [[2.0, 4.0, 6.0]] * 6
    found = bootstrap_ratio(before, after, lambda times: Summary.of(times).p99, random.Random(1))
    assert (found.low, found.median, found.high) == (2.0, 2.0, 2.0)


@pytest.mark.parametrize(
    ("name", "base", "head", "rounds", "verdict"),
    [
        pytest.param("path, p50, ms", (4, 5), (1, 2), 6, "better", id="less time is better"),
        pytest.param("path, p50, ms", (1, 2), (4, 5), 6, "worse", id="more time is worse"),
        pytest.param("path, requests/s", (1, 2), (4, 5), 6, "better", id="more requests are better"),
        pytest.param("path, requests/s", (4, 5), (1, 2), 6, "worse", id="fewer requests are worse"),
        pytest.param("path, p50, ms", (1, 3), (3, 5), 6, "no difference shown", id="intervals that touch"),
        pytest.param(
            "path, p50, ms", (4, 5), (1, 2), 5, "nothing can be said of 5 rounds", id="too few rounds"
        ),
    ],
)
def test_verdicts(
    name: str, base: tuple[float, float], head: tuple[float, float], rounds: int, verdict: str
) -> None:
    intervals = [Interval(sum(bounds) / 2, *bounds) for bounds in (base, head)]
    assert Comparison(name, intervals[0], intervals[1], rounds).verdict == verdict


def test_only_what_both_sides_have_is_compared() -> None:
    found = comparisons(
        {"a, p50, ms": [1.0] * 6, "b, MB": [1.0]}, {"a, p50, ms": [2.0] * 6}, random.Random(1)
    )
    assert [one.name for one in found] == ["a, p50, ms"]
    assert "| a, p50, ms | 1 (1 to 1) | 2 (2 to 2) | +100.0 % | worse |" in report(found)


def test_rows_become_values_with_their_units() -> None:
    rows = [Row("path", Summary.of([1.0, 2.0])), Row("per core", figure=1500.0, unit="requests/s")]
    assert values_of(rows) == {"path, p50, ms": 1.0, "path, p99, ms": 2.0, "per core, requests/s": 1500.0}
