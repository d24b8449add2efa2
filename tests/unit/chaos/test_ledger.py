# SPDX-License-Identifier: Apache-2.0
"""The agent of the chaos runs keeps every number over as many snapshots as there are."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from agentpool_agent import Answer, Context, Rejected, Request
from chaos.image.ledger import PER_PART, Ledger


async def told(ledger: Ledger, value: Any) -> Any:
    """What it answers."""
    context = cast(Context, SimpleNamespace(unchanged=lambda: None))
    events = [event async for event in ledger.handle(Request("1", msgspec.json.encode(value), 5.0), context)]
    assert isinstance(events[-1], Answer)
    return events[-1].output


async def test_numbers_survive_snapshots_and_full_parts_stay_the_same_objects() -> None:
    ledger, numbers = Ledger(), list(range(PER_PART + 3))
    for number in numbers:
        await told(ledger, {"add": number, "seconds": 0})
    first, second = ledger.snapshot(), ledger.snapshot()
    assert first["000000"] is second["000000"]
    moved = Ledger()
    moved.restore(first)
    assert await told(moved, "all") == numbers
    assert await told(moved, {"add": 7, "seconds": 0}) == await told(moved, "count") == len(numbers) + 1
    moved.restore({})
    assert await told(moved, "all") == []


async def test_work_uses_cpu_and_changes_nothing() -> None:
    ledger = Ledger()
    began = time.process_time()
    assert await told(ledger, {"work": 0.02}) == 0
    assert time.process_time() - began >= 0.02


async def test_anything_else_is_rejected() -> None:
    with pytest.raises(Rejected):
        await told(Ledger(), "other")
