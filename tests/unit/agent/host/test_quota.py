# SPDX-License-Identifier: Apache-2.0
"""Permits and the rate bucket that travels with the state."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentpool_agent.host.quota import BUCKET_BYTES, RateBucket, permits_taken
from agentpool_core.errors import ConcurrencyExceeded, RateExceeded


def test_a_full_bucket_gives_a_minute_of_requests_and_then_says_when_the_next_comes() -> None:
    bucket = RateBucket.full(3, 100.0)
    for _ in range(3):
        bucket.take(100.0)
    with pytest.raises(RateExceeded) as refused:
        bucket.take(100.0)
    assert refused.value.retry_after_seconds == pytest.approx(20.0)
    bucket.take(120.0)


def test_a_bucket_that_travelled_is_as_empty_as_before() -> None:
    bucket = RateBucket.full(60, 0.0)
    for _ in range(60):
        bucket.take(0.0)
    moved = RateBucket.unpack(bucket.pack(), 60, 0.0)
    with pytest.raises(RateExceeded):
        moved.take(0.5)
    moved.take(1.1)


@pytest.mark.parametrize(
    ("stored", "tokens"),
    [
        pytest.param(b"", 10.0, id="none stored: full"),
        pytest.param(b"rubbish", 10.0, id="unreadable: full"),
        pytest.param(RateBucket(100, 80.0, 5.0).pack(), 10.0, id="more than now allowed: cut to the limit"),
        pytest.param(RateBucket(10, 4.0, 1e12).pack(), 4.0, id="stamped in the future: counts from now"),
    ],
)
def test_what_a_stored_bucket_is_worth(stored: bytes, tokens: float) -> None:
    bucket = RateBucket.unpack(stored, 10, 50.0)
    assert bucket.tokens == tokens
    assert bucket.stamp <= 50.0


def test_no_limit_is_no_limit() -> None:
    bucket = RateBucket.full(0, 0.0)
    for _ in range(1000):
        bucket.take(0.0)


def test_a_changed_limit_keeps_what_was_used() -> None:
    bucket = RateBucket(10, 4.0, 0.0)
    bucket.resize(20)
    assert bucket.tokens == 14.0
    bucket.resize(5)
    assert bucket.tokens == 0.0


@given(st.integers(1, 200), st.lists(st.floats(0, 30), max_size=60))
def test_never_more_than_capacity_plus_what_came_back(per_minute: int, gaps: list[float]) -> None:
    bucket, now, taken = RateBucket.full(per_minute, 0.0), 0.0, 0
    for gap in gaps:
        now += gap
        try:
            bucket.take(now)
            taken += 1
        except RateExceeded as exc:
            assert exc.retry_after_seconds is not None and 0 < exc.retry_after_seconds <= 60 / per_minute
    assert taken <= per_minute + now * per_minute / 60 + 1e-6


def test_a_look_at_the_bucket_uses_nothing() -> None:
    bucket = RateBucket.full(1, 0.0)
    bucket.check(0.0)
    bucket.take(0.0)
    with pytest.raises(RateExceeded):
        bucket.check(0.0)


def test_what_travels_behind_a_bucket_does_not_change_it() -> None:
    packed = RateBucket(10, 4.0, 5.0).pack()
    assert len(packed) == BUCKET_BYTES
    assert RateBucket.unpack(packed + b"more", 10, 5.0) == RateBucket(10, 4.0, 5.0)


def test_who_finds_no_permit_is_told_when_to_come_back() -> None:
    refusal = permits_taken(5)
    assert isinstance(refusal, ConcurrencyExceeded)
    assert (refusal.http_status, refusal.retry_after_seconds) == (429, 1.0)
