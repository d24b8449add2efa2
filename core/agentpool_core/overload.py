# SPDX-License-Identifier: Apache-2.0
"""How many requests may be on their way to their hosts at one time, found out by how long that takes.

The time from a request's arrival until its host has accepted it is that of the gateway's and the host's own
work and queues: the agent's time is not in it, nor is a start. If even the quickest request of an interval,
and of the next, takes longer than the target, there is a standing queue, which adds time to every request and
serves nobody sooner. Told by the minimum and by interval, as in CoDel (RFC 8289, section 3.2: target 5 ms,
interval 100 ms), so that a burst, or some slow instances, do not count. What a request takes when hardly
any other is under way is what network and machine cost; the target is at least twice that.

The limit then follows the gradient of Envoy's adaptive concurrency filter, after Netflix' concurrency-limits:

    limit = limit * target / least + sqrt(limit)

with the first factor at most 1: what is waited for longer than wanted is let go, and the root is the headroom
in which a better limit is found. Pure: times are arguments, in seconds of one clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt

INTERVAL_SECONDS = 0.1
MIN_SAMPLES = 8
"""From so many in an interval the quickest says something; with fewer nobody is in anybody's way."""
STEEPEST = 0.1
"""The smallest factor of one interval."""
GROWTH = 4
"""Without a standing queue the limit grows by such a part at least, so that it is back within seconds."""
BAD_INTERVALS = 2
"""So many in a row make a standing queue: a burst is over by then."""
FEW = 4
"""With so many under way at most, nobody waits for another: the time is that of network and machine."""
BASE_GROWTH = 1.1
"""What was learned of them goes up slowly, for one slow request may have been alone; and down at once."""
BASE_MOST_SECONDS = 0.1
STALE_SECONDS = 2.0
"""After so long without an interval that counted, what was learned is forgotten."""


@dataclass(slots=True)
class AdaptiveLimit:
    """The limit, and what it is found by.

    Attributes:
        floor: never less: below it there would be nothing to do while an answer is on its way.
        ceiling: never more, and the limit while nothing is known: the largest burst.
        target_seconds: the queueing that is wanted at most, where network and machine cost less than half.
        limit: requests at one time.
    """

    floor: int
    ceiling: int
    target_seconds: float = 0.005
    limit: int = 0
    _began: float = 0.0
    _least: float = float("inf")
    _samples: int = 0
    _peak: int = 0
    _bad: int = 0
    _base: float = 0.0

    def __post_init__(self) -> None:
        self.floor = min(self.floor, self.ceiling)
        self.limit = self.ceiling

    def observe(self, seconds: float, pending: int, now: float) -> None:
        """A request was accepted after so long, with so many under way then."""
        if seconds < self._least:
            self._least = seconds
        if pending > self._peak:
            self._peak = pending
        self._samples += 1
        if now - self._began >= INTERVAL_SECONDS:
            self._conclude(now)

    def refresh(self, now: float) -> None:
        """Forget what was learned, if nothing was heard for long; to be called before a refusal."""
        if now - self._began >= STALE_SECONDS:
            self.limit, self._bad = self.ceiling, 0
            self._restart(now)

    def _conclude(self, now: float) -> None:
        if now - self._began >= STALE_SECONDS:
            # The interval began before a pause; what it says is of two times.
            self.refresh(now)
            return
        self._learn()
        target = max(self.target_seconds, 2 * self._base)
        over = self._least > target
        self._bad = self._bad + 1 if over and self._samples >= MIN_SAMPLES else 0
        if self._bad >= BAD_INTERVALS:
            factor = max(target / self._least, STEEPEST)
            # From what was under way: a limit that nobody came near says nothing.
            base = min(self.limit, max(self._peak, self.floor))
            self.limit = max(self.floor, int(base * factor) + isqrt(base))
        elif not over:
            self.limit = min(self.ceiling, self.limit + max(isqrt(self.limit), self.limit // GROWTH, 1))
        self._restart(now)

    def _learn(self) -> None:
        if self._samples and self._peak <= FEW:
            slowest = min(max(self._base, self.target_seconds / 10) * BASE_GROWTH, BASE_MOST_SECONDS)
            self._base = min(self._least, slowest)

    def _restart(self, now: float) -> None:
        self._began, self._least, self._samples, self._peak = now, float("inf"), 0, 0
