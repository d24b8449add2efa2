# SPDX-License-Identifier: Apache-2.0
"""When changed instances are saved by the clock."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agentpool_agent.host.intervals import due, phase

INTERVAL = 60.0


def test_a_thousand_instances_make_a_trickle() -> None:
    ids = [f"inst-{number}" for number in range(1000)]
    per_second = [sum(due(one, INTERVAL, now, now + 1.0) for one in ids) for now in range(120)]
    assert sum(per_second) == 2000, "each one once in an interval"
    assert max(per_second) < 60, "the even share is 17"


@given(st.text(min_size=1, max_size=20), st.integers(1, 600), st.integers(0, 10_000))
def test_everything_is_due_within_one_interval_however_long_a_look_takes(
    instance_id: str, interval: int, start: int
) -> None:
    assert due(instance_id, interval, start, start + interval)
    assert 0 <= phase(instance_id, interval) < interval
    middle = start + interval / 2
    assert due(instance_id, interval, start, middle) or due(instance_id, interval, middle, start + interval)
