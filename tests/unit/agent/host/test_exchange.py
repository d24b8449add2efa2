# SPDX-License-Identifier: Apache-2.0
"""One request's events: in order, bounded, with exactly one end."""

from __future__ import annotations

import asyncio

import pytest

from agentpool_agent.host.exchange import MAX_CHUNKS, Exchange
from agentpool_core.errors import AnswerTooLarge, InstanceCrashed


def exchange(max_bytes: int = 100) -> Exchange:
    """A request without a key."""
    return Exchange(1, "", 10.0, max_bytes)


async def test_chunks_come_in_order_and_then_the_end() -> None:
    one = exchange()
    reader = asyncio.create_task(read(one))
    await asyncio.sleep(0)
    for data in (b"a", b"b"):
        one.part(data, 1.0)
    one.finish(b"done", 2.0)
    assert await reader == [b"a", b"b"]
    assert (one.output, one.first_event_at) == (b"done", 1.0)


async def read(one: Exchange) -> list[bytes]:
    """Everything up to the end."""
    found = []
    while (data := await one.next()) is not None:
        found.append(data)
    return found


async def test_there_is_one_end_whatever_comes_after() -> None:
    one = exchange()
    one.finish(b"first", 1.0)
    one.fail(InstanceCrashed("late"))
    one.finish(b"second", 2.0)
    assert one.part(b"late", 3.0)
    assert await one.next() is None
    assert one.output == b"first"


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param([b"x" * 60, b"x" * 60], id="too many bytes wait"),
        pytest.param([b""] * (MAX_CHUNKS + 1), id="too many chunks wait"),
    ],
)
async def test_a_reader_that_is_too_slow_fails_its_own_request(parts: list[bytes]) -> None:
    one = exchange()
    assert [one.part(part, 1.0) for part in parts][-1] is False
    with pytest.raises(AnswerTooLarge):
        await one.next()


async def test_what_was_read_makes_room() -> None:
    one = exchange()
    for _ in range(10):
        assert one.part(b"x" * 60, 1.0)
        assert await one.next() is not None
