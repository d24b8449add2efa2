# SPDX-License-Identifier: Apache-2.0
"""What arrives soon, from what arrived in the last minutes.

Holt's linear method with a damped trend, over means of ten seconds: Holt (1957), "Forecasting seasonals and
trends by exponentially weighted averages"; the damping after Gardner and McKenzie (1985), "Forecasting trends
in time series"; both as in Hyndman and Athanasopoulos, "Forecasting: Principles and Practice", section 8.2.
It needs two numbers of memory, follows a step within two means, and a damped trend does not run away.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

BUCKET_SECONDS = 10.0
LEVEL_WEIGHT = 0.6
"""Of the newest mean in the level, so that a step is followed within about two of them."""
TREND_WEIGHT = 0.1
"""A step is no trend: with more, one of ten times would be expected to double again."""
DAMPING = 0.95
"""Of the trend, for each mean ahead."""
REMEMBERED = 18
"""Means that bound the forecast: three minutes."""
MOST_GROWTH = 2.0
"""No more than this multiple of the highest remembered mean is expected."""
GAP_SECONDS = 60.0
"""After so long without a sample the past says nothing any more."""


@dataclass(frozen=True, slots=True)
class Arrivals:
    """What is known of arrivals. Rates are per second, times are seconds of one clock.

    Attributes:
        rate: as last measured.
        level, trend: of the means, the second per mean; None: no mean is complete yet.
        began: when the mean that is being formed began; None: nothing was measured yet.
        total, count: sum and number of the rates in that mean.
        peaks: the last complete means, the oldest first.
    """

    rate: float = 0.0
    level: float | None = None
    trend: float = 0.0
    began: float | None = None
    total: float = 0.0
    count: int = 0
    measured_at: float = 0.0
    peaks: tuple[float, ...] = ()

    def after(self, rate: float, now: float) -> Arrivals:
        """What is known once `rate` was measured."""
        if self.began is None or now - self.measured_at > GAP_SECONDS or now < self.measured_at:
            return Arrivals(rate=rate, began=now, total=rate, count=1, measured_at=now)
        known = self._closed(now) if now - self.began >= BUCKET_SECONDS else self
        total, count = known.total + rate, known.count + 1
        return replace(known, rate=rate, total=total, count=count, measured_at=now)

    def _closed(self, now: float) -> Arrivals:
        mean = self.total / self.count
        level, trend = mean, 0.0
        if self.level is not None:
            expected = self.level + DAMPING * self.trend
            level = LEVEL_WEIGHT * mean + (1 - LEVEL_WEIGHT) * expected
            trend = TREND_WEIGHT * (level - self.level) + (1 - TREND_WEIGHT) * DAMPING * self.trend
        peaks = (*self.peaks, mean)[-REMEMBERED:]
        return replace(self, level=level, trend=trend, began=now, total=0.0, count=0, peaks=peaks)

    def ahead(self, seconds: float) -> float:
        """The rate that is to be expected within that time: never below the present one, for pods are asked
        for the higher of the two."""
        if self.level is None:
            return self.rate
        steps = max(1, round(seconds / BUCKET_SECONDS))
        damped = DAMPING * (1 - DAMPING**steps) / (1 - DAMPING)
        expected = min(self.level + damped * self.trend, MOST_GROWTH * max(*self.peaks, self.rate))
        return max(self.rate, expected)
