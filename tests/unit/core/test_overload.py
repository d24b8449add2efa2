# SPDX-License-Identifier: Apache-2.0
"""The limit that is found by the time that requests take: simulated, on a server with one queue."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from agentpool_core.overload import AdaptiveLimit

SERVICE = 0.001
"""Seconds of the server for one request."""


@dataclass
class Server:
    """Serves one request after the other, in the order of their arrival."""

    limit: AdaptiveLimit
    random: Random = field(default_factory=lambda: Random(1))
    now: float = 0.0
    free_at: float = 0.0
    refused: int = 0
    delays: list[float] = field(default_factory=list)
    deepest: int = 0
    _queue: deque[tuple[float, float]] = field(default_factory=deque)

    def load(self, per_second: float, seconds: float) -> None:
        """Arrivals at random times."""
        end = self.now + seconds
        while (at := self.now + self.random.expovariate(per_second)) < end:
            self.arrive(at)
        self._serve(end)
        self.now = end

    def arrive(self, at: float) -> None:
        """One request."""
        self._serve(at)
        self.now = at
        if len(self._queue) >= self.limit.limit:
            self.limit.refresh(at)
        if len(self._queue) >= self.limit.limit:
            self.refused += 1
            return
        self.free_at = max(self.free_at, at) + SERVICE
        self._queue.append((at, self.free_at))
        self.deepest = max(self.deepest, len(self._queue))

    def _serve(self, until: float) -> None:
        while self._queue and self._queue[0][1] <= until:
            arrived, done = self._queue.popleft()
            self.delays.append(done - arrived)
            self.limit.observe(done - arrived, len(self._queue) + 1, done)


def p99(delays: list[float]) -> float:
    return sorted(delays)[int(len(delays) * 0.99)]


def test_five_times_the_capacity_is_served_at_capacity_without_a_standing_queue() -> None:
    server = Server(AdaptiveLimit(floor=4, ceiling=500))
    server.load(5000, 2)
    server.delays.clear()
    server.load(5000, 20)
    assert len(server.delays) > 0.95 * 20 / SERVICE
    assert p99(server.delays) < 0.015


def test_the_time_until_it_is_found_is_short() -> None:
    server = Server(AdaptiveLimit(floor=16, ceiling=500))
    server.load(5000, 60)
    slow = sum(delay > 0.03 for delay in server.delays)
    assert slow < 0.02 * len(server.delays)
    assert len(server.delays) > 0.95 * 60 / SERVICE


def test_below_capacity_nothing_is_refused() -> None:
    server = Server(AdaptiveLimit(floor=16, ceiling=500))
    server.load(800, 30)
    assert server.refused == 0


def test_a_burst_is_no_overload() -> None:
    server = Server(AdaptiveLimit(floor=16, ceiling=500))
    server.load(500, 1)
    for _ in range(10):
        for _ in range(90):
            server.arrive(server.now)
        server.load(100, 1)
    assert server.refused == 0


def test_after_the_overload_all_is_as_before() -> None:
    server = Server(AdaptiveLimit(floor=16, ceiling=500))
    server.load(5000, 10)
    assert server.limit.limit < 50
    server.load(500, 5)
    assert server.limit.limit == 500


def test_after_a_pause_what_was_learned_is_forgotten() -> None:
    server = Server(AdaptiveLimit(floor=16, ceiling=500))
    server.load(5000, 10)
    server.now += 10
    server.refused = 0
    for _ in range(300):
        server.arrive(server.now)
    assert server.refused == 0


def test_some_slow_requests_among_quick_ones_do_not_count() -> None:
    limit = AdaptiveLimit(floor=16, ceiling=500)
    for number in range(10_000):
        limit.observe(1.0 if number % 2 else 0.001, 100, number / 1000)
    assert limit.limit == 500


def test_a_few_slow_requests_alone_do_not_count() -> None:
    limit = AdaptiveLimit(floor=16, ceiling=500)
    for number in range(100):
        limit.observe(0.5, 2, number * 0.05)
    assert limit.limit == 500


def test_a_floor_above_the_ceiling_is_the_ceiling() -> None:
    assert AdaptiveLimit(floor=16, ceiling=4).floor == 4


@given(
    st.integers(1, 100),
    st.integers(1, 1000),
    st.lists(st.tuples(st.floats(0, 10), st.integers(0, 2000), st.floats(0, 3)), max_size=200),
)
def test_the_limit_stays_within_its_bounds(
    floor: int, ceiling: int, samples: list[tuple[float, int, float]]
) -> None:
    limit, now = AdaptiveLimit(floor, ceiling), 0.0
    for seconds, pending, gap in samples:
        now += gap
        limit.observe(seconds, pending, now)
        assert min(floor, ceiling) <= limit.limit <= ceiling


def test_one_slow_moment_is_no_standing_queue() -> None:
    limit = AdaptiveLimit(floor=16, ceiling=500)
    for start in range(20):
        for _ in range(24):
            limit.observe(0.08, 24, float(start))
        limit.observe(0.001, 2, start + 0.5)
    assert limit.limit == 500


def test_a_far_host_is_no_busy_one() -> None:
    limit, now = AdaptiveLimit(floor=16, ceiling=500), 0.0
    for pending in [1] * 1000 + [60] * 1000:
        now += 0.01
        limit.observe(0.03, pending, now)
    assert limit.limit == 500
    for _ in range(100):
        now += 0.01
        limit.observe(0.3, 60, now)
    assert limit.limit < 60
