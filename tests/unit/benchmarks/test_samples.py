# SPDX-License-Identifier: Apache-2.0
"""Percentiles are values that were seen, windows lose no request, and drivers keep their schedule."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.load import Run, Sample, arrivals, closed_loop, open_loop
from benchmarks.milestones import Milestones, summaries
from benchmarks.rows import row_of
from benchmarks.samples import Summary
from benchmarks.windows import quick_again, windows

HIT = Milestones(placed=0.1, accepted=0.8, activated=0.0, admitted=0.1, first_event=1.0, done=1.2)
MISS = Milestones(placed=0.1, accepted=5.0, activated=4.0, admitted=4.1, first_event=6.0, done=6.5)


@pytest.mark.parametrize(
    ("samples", "p50", "p99"),
    [
        pytest.param([5.0], 5.0, 5.0, id="one sample is every percentile"),
        pytest.param([1.0, 2.0], 1.0, 2.0, id="of two, the median is the lower"),
        pytest.param(
            [float(n) for n in range(1, 101)], 50.0, 99.0, id="of a hundred, p99 is the second largest"
        ),
        pytest.param([3.0, 1.0, 2.0], 2.0, 3.0, id="order does not matter"),
    ],
)
def test_nearest_rank(samples: list[float], p50: float, p99: float) -> None:
    summary = Summary.of(samples)
    assert (summary.p50, summary.p99) == (p50, p99)


def test_no_samples_is_an_error() -> None:
    with pytest.raises(ValueError, match="no samples"):
        Summary.of([])


@given(
    st.lists(st.tuples(st.floats(0, 100), st.floats(0.1, 1000)), min_size=1), st.sampled_from([0.5, 1, 10])
)
def test_windows_hold_every_request_once_and_in_their_time(
    points: list[tuple[float, float]], seconds: float
) -> None:
    found = windows(points, seconds)
    assert sum(window.times.count for window in found) == len(points)
    assert [window.start for window in found] == sorted({window.start for window in found})
    for window in found:
        inside = [ms for at, ms in points if window.start <= at < window.start + seconds]
        assert window.times == Summary.of(inside)


@pytest.mark.parametrize(
    ("milliseconds", "expected"),
    [
        pytest.param([9, 9, 1, 1, 1], 2.0, id="the first of three quick ones"),
        pytest.param([1, 1, 9, 1, 1, 1], 3.0, id="a slow one between starts the count anew"),
        pytest.param([1, 1, 1], 0.0, id="it was never slow"),
        pytest.param([9, 1, 1], None, id="too few to be sure"),
        pytest.param([], None, id="nothing was asked"),
    ],
)
def test_quick_again(milliseconds: list[int], expected: float | None) -> None:
    points = [(float(at), float(value)) for at, value in enumerate(milliseconds)]
    assert quick_again(points, limit=2.0, in_a_row=3) == expected


def test_hits_and_misses_are_told_apart_by_their_milestones() -> None:
    run = Run([Sample(0, 0.0, 1.5, HIT), Sample(1, 0.1, 7.0, MISS), Sample(2, 0.2, 1.6, HIT)], seconds=1.0)
    hits, misses = run.split()
    assert [sample.number for sample in hits.samples] == [0, 2]
    assert [sample.number for sample in misses.samples] == [1]


def test_every_milestone_is_summed_up() -> None:
    found = summaries([HIT, MISS])
    assert list(found) == ["placed", "accepted", "activated", "admitted", "first_event", "done"]
    assert (found["activated"].p50, found["activated"].max) == (0.0, 4.0)
    assert summaries([]) == {}


def test_a_row_of_a_run_with_a_failed_request_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="1 requests failed, first: refused"):
        row_of("path", Run([Sample(0, 0.0, 1.0)], errors=["refused"]))


async def test_a_failed_call_is_counted_and_not_timed() -> None:
    async def call(number: int) -> None:
        if number % 2:
            raise RuntimeError("refused")

    run = await closed_loop(call, requests=10, callers=3)
    assert (len(run.milliseconds), len(run.errors)) == (5, 5)


def test_arrivals_are_the_same_for_a_seed_and_of_the_rate() -> None:
    first = list(arrivals(100, 50, seed=1))
    assert first == list(arrivals(100, 50, seed=1))
    assert first == sorted(first)
    assert 0 < first[0] and first[-1] < 50
    assert 4700 < len(first) < 5300


async def test_an_open_loop_follows_its_schedule() -> None:
    seen: list[int] = []

    async def call(number: int) -> None:
        seen.append(number)

    run = await open_loop(call, per_second=500, seconds=0.2, seed=1)
    assert sorted(seen) == list(range(len(seen)))
    assert 60 <= len(run.milliseconds) <= 140
    assert len(run.late) == len(seen)
