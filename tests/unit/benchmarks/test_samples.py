# SPDX-License-Identifier: Apache-2.0
"""Percentiles are values that were seen."""

from __future__ import annotations

import pytest

from benchmarks.load import closed_loop, open_loop
from benchmarks.samples import Summary


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


async def test_a_failed_call_is_counted_and_not_timed() -> None:
    async def call(number: int) -> None:
        if number % 2:
            raise RuntimeError("refused")

    run = await closed_loop(call, requests=10, callers=3)
    assert (len(run.milliseconds), len(run.errors)) == (5, 5)


async def test_an_open_loop_follows_its_schedule() -> None:
    seen: list[int] = []

    async def call(number: int) -> None:
        seen.append(number)

    run = await open_loop(call, per_second=500, seconds=0.2, seed=1)
    assert sorted(seen) == list(range(len(seen)))
    assert 60 <= len(run.milliseconds) <= 140
