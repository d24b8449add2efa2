# SPDX-License-Identifier: Apache-2.0
"""What was asked for and cannot be taken here: remembered for a while, and never too much."""

from __future__ import annotations

from agentpool_agent.host.awaiting import AWAITED_SECONDS, MAX_AWAITED, Awaiting
from agentpool_core.names import InstanceKey


def key(number: int) -> InstanceKey:
    return InstanceKey("default", "support", "acme", f"p-{number}")


def test_the_last_request_counts_and_is_forgotten_after_a_while() -> None:
    awaiting = Awaiting()
    awaiting.note(key(1), 10.0)
    awaiting.note(key(1), 20.0)
    assert awaiting.lately(20.0 + AWAITED_SECONDS - 1) == [(key(1), 20.0)]
    assert awaiting.lately(20.0 + AWAITED_SECONDS) == []


def test_the_longest_unasked_is_forgotten_first() -> None:
    awaiting = Awaiting()
    for number in range(MAX_AWAITED + 1):
        awaiting.note(key(number), float(number) / 1000)
    found = [one for one, _ in awaiting.lately(1.0)]
    assert len(found) == MAX_AWAITED
    assert key(0) not in found
