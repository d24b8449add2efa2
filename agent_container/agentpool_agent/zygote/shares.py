# SPDX-License-Identifier: Apache-2.0
"""The CPU share of a worker, kept by measurement: the zygote stops and continues a worker that is over it.

Raising a nice value is allowed to everybody, but lowering it again, and leaving SCHED_IDLE, needs a
privilege that a pod has not; cgroups cannot be written there either. Signals to one's own children
need none. A worker may save up BURST_SECONDS of its share, so that only steady use is slowed down; one that
is over it runs for moments and rests for at most REST_SECONDS, which is far below what counts as a hang.
"""

from __future__ import annotations

from dataclasses import dataclass

BURST_SECONDS = 10.0
REST_SECONDS = 1.0
"""Longest rest at once. A worker whose threads use many cores at once is over its share by what they take in
between."""
TURN_SECONDS = 0.05
"""How often a worker that is over its share is looked at; a tick of its CPU time is 10 ms."""
CALM_SECONDS = 1.0
"""A worker that has saved up so much of its share again is looked at as rarely as all others."""


@dataclass(slots=True)
class CpuShare:
    """What one worker may still use: CPU seconds that come back at `cores` per second.

    Attributes:
        cores: 0.5 is half a core.
        spent: CPU seconds since the worker's start, at `at` (seconds, monotonic).
        resting_since: when it was stopped; None: it runs.
    """

    cores: float
    spent: float
    at: float
    credit: float
    resting_since: float | None = None

    @classmethod
    def full(cls, cores: float, spent: float, now: float) -> CpuShare:
        """A share nobody used yet."""
        return cls(cores, spent, now, cores * BURST_SECONDS)

    def account(self, spent: float, now: float) -> None:
        """Take in a measurement."""
        gained = self.cores * max(0.0, now - self.at)
        used = max(0.0, spent - self.spent)
        self.credit = min(self.cores * BURST_SECONDS, self.credit + gained - used)
        self.credit = max(self.credit, -self.cores * REST_SECONDS)
        self.spent, self.at = spent, now

    @property
    def over(self) -> bool:
        """Whether more was used than the share allows."""
        return self.credit < 0

    @property
    def calm(self) -> bool:
        """Whether it runs and is well below its share."""
        return self.resting_since is None and self.credit >= self.cores * CALM_SECONDS

    def turn(self, now: float) -> bool | None:
        """Whether the worker is to be stopped (True) or continued (False) now; None: it stays as it is."""
        if self.resting_since is None:
            if not self.over:
                return None
            self.resting_since = now
            return True
        if self.over and now - self.resting_since < REST_SECONDS:
            return None
        self.resting_since = None
        return False
