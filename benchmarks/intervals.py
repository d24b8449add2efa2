# SPDX-License-Identifier: Apache-2.0
"""How sure a median of a few rounds is: percentile bootstrap. Pure; randomness is an argument."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

RESAMPLES = 4000
CONFIDENCE = 0.95
ENOUGH = 6
"""So many values at least hold the true median between them in 95 of 100 cases: 1 - 2 * 0.5 ** 6 = 0.97."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A median and the bounds of its confidence interval."""

    median: float
    low: float
    high: float

    def overlaps(self, other: Interval) -> bool:
        """Whether both could be the same value."""
        return self.low <= other.high and other.low <= self.high


def bootstrap(
    values: Sequence[float],
    rng: random.Random,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
) -> Interval:
    """The median of `values`, and the interval that holds `confidence` of the medians of samples drawn from
    them with replacement (Efron 1979, percentile method). ValueError for no values.

    Of fewer than ENOUGH values the interval is too narrow for what it claims.
    """
    if not values:
        raise ValueError("no values")
    medians = sorted(statistics.median(rng.choices(values, k=len(values))) for _ in range(resamples))
    outside = (1 - confidence) / 2
    low = medians[int(outside * resamples)]
    high = medians[min(int((1 - outside) * resamples), resamples - 1)]
    return Interval(statistics.median(values), low, high)


def bootstrap_ratio(
    before: Sequence[Sequence[float]],
    after: Sequence[Sequence[float]],
    statistic: Callable[[Sequence[float]], float],
    rng: random.Random,
    resamples: int = 400,
    confidence: float = CONFIDENCE,
) -> Interval:
    """A statistic of all values of `after` by that of `before`, and the bounds of its interval.

    Whole blocks are drawn with replacement, because values of one block depend on each other (Künsch 1989).
    `median` is the ratio of the values as they are. ValueError when one side has no values.
    """

    def value(blocks: Sequence[Sequence[float]]) -> float:
        return statistic([one for block in blocks for one in block])

    ratios = sorted(
        value(rng.choices(after, k=len(after))) / value(rng.choices(before, k=len(before)))
        for _ in range(resamples if before and after else 0)
    )
    outside = (1 - confidence) / 2
    whole = value(after) / value(before)
    return Interval(whole, ratios[int(outside * resamples)], ratios[int((1 - outside) * resamples) - 1])
