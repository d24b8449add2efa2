# SPDX-License-Identifier: Apache-2.0
"""What a host says that it bears, and that it says nothing new at rest."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentpool_agent.host.load import (
    BUCKETS,
    GROWTH,
    LATENCY_SECONDS,
    SLICE_SECONDS,
    Load,
    LoadMeter,
    bucket_of,
    differs,
    seconds_of,
)

START = 100.0


class Rig:
    def __init__(self) -> None:
        self.now, self.own = START, 0.0
        self.meter = LoadMeter(START, lambda: self.own)

    def slices(self, number: int, requests: int = 0, seconds: float = 0.02, status: str = "success") -> Load:
        """So many slices, in each so many requests; the load at the end."""
        for _ in range(number):
            for _ in range(requests):
                self.meter.arrived(self.now)
                self.meter.ended(status, seconds, self.now)
            self.now += SLICE_SECONDS
            load = self.meter.look(self.now)
        return load


def test_a_host_at_rest_bears_nothing() -> None:
    assert Rig().slices(1) == Load(0, 0, 0, 0.0, 0.0, None, None)


def test_rates_are_means_of_ten_seconds() -> None:
    rig = Rig()
    assert rig.slices(1, 50).arrivals_per_second == 10.0
    assert rig.slices(4, 100).arrivals_per_second == 20.0
    half = rig.slices(1, 0)
    assert (half.arrivals_per_second, half.completions_per_second) == (10.0, 10.0)
    assert rig.slices(1, 0).arrivals_per_second == 0.0


def test_latency_is_of_the_last_minute() -> None:
    rig = Rig()
    rig.slices(1, 99, 0.010)
    slow = rig.slices(1, 2, 2.0)
    assert slow.latency_p50_ms == pytest.approx(10, rel=GROWTH - 1)
    assert slow.latency_p99_ms == pytest.approx(2000, rel=GROWTH - 1)
    later = rig.slices(round(LATENCY_SECONDS / SLICE_SECONDS) + 2, 0)
    assert (later.latency_p50_ms, later.latency_p99_ms) == (None, None)


def test_failures_came_but_did_not_end_well_and_quotas_are_no_load() -> None:
    failed = Rig().slices(2, 50, status="AgentFailure")
    assert (failed.arrivals_per_second, failed.completions_per_second) == (10.0, 0.0)
    assert failed.latency_p99_ms is None
    assert Rig().slices(2, 50, status="RateExceeded").arrivals_per_second == 0.0


def test_cpu_of_workers_and_of_the_host() -> None:
    rig = Rig()
    for step in range(1, 5):
        rig.meter.sampled(0, 10.0, 80 * 2**20, rig.now)
        rig.meter.sampled(1, 50.0 + step * 2.5, 40 * 2**20, rig.now)
        rig.own += 0.5
        load = rig.slices(1)
    assert load.workers_cpu_millis == 500
    assert load.host_cpu_millis == 100
    assert load.workers_memory_bytes == 120 * 2**20


def test_a_worker_that_ended_does_not_count_any_more() -> None:
    rig = Rig()
    rig.meter.sampled(1, 1.0, 2**30, rig.now)
    assert rig.slices(1).workers_memory_bytes == 2**30
    assert rig.slices(3).workers_memory_bytes == 0


LOAD = Load(500, 100, 100 * 2**20, 10.0, 10.0, 5.0, 20.0)
NEWS = {
    "nothing was told yet": (None, LOAD, True),
    "the same": (LOAD, LOAD, False),
    "a little more": (LOAD, replace(LOAD, workers_cpu_millis=540, arrivals_per_second=10.5), False),
    "more CPU": (LOAD, replace(LOAD, workers_cpu_millis=560), True),
    "more arrivals": (LOAD, replace(LOAD, arrivals_per_second=11.5), True),
    "nobody asks any more": (LOAD, replace(LOAD, latency_p50_ms=None, latency_p99_ms=None), True),
    "noise of an idle host": (
        replace(LOAD, workers_cpu_millis=0, arrivals_per_second=0.0),
        replace(LOAD, workers_cpu_millis=10, arrivals_per_second=0.1),
        False,
    ),
}


@pytest.mark.parametrize("name", NEWS)
def test_what_is_worth_telling(name: str) -> None:
    before, after, told = NEWS[name]
    assert differs(before, after) is told


@given(st.floats(0, 2000))
def test_a_bucket_holds_what_is_put_into_it(seconds: float) -> None:
    bucket = bucket_of(seconds)
    assert 0 <= bucket < BUCKETS
    if bucket < BUCKETS - 1:
        assert seconds <= seconds_of(bucket) * (1 + 1e-9)
    if 0 < bucket:
        assert seconds >= seconds_of(bucket - 1) * (1 - 1e-9)
