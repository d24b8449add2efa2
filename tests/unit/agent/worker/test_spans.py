# SPDX-License-Identifier: Apache-2.0
"""What an agent notes of its steps: nested as they were, bounded in number and size."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from agentpool_agent.wire.frames import Failed, Finished, Handle, encoder, to_host_decoder
from agentpool_agent.worker.spans import HANDLE, MAX_ATTRIBUTES, NOT_TRACED, SpanLog


def ticking() -> Iterator[float]:
    now = 0.0
    while True:
        yield now
        now += 1.0


def new_log(limit: int = 32) -> SpanLog:
    times = ticking()
    return SpanLog(limit, lambda: next(times))


def shape(log: SpanLog) -> list[tuple[str, int]]:
    return [(one.name, one.parent) for one in log.closed()]


def test_spans_lie_in_each_other_as_their_blocks_do() -> None:
    log = new_log()
    with log.open("a", {}):
        with log.open("b", {}):
            pass
        with log.open("c", {}):
            pass
    with log.open("d", {}):
        pass
    assert shape(log) == [(HANDLE, -1), ("a", 0), ("b", 1), ("c", 1), ("d", 0)]


async def test_tasks_that_run_at_once_have_places_of_their_own() -> None:
    log = new_log()

    async def step(name: str) -> None:
        async with log.open(name, {}):
            await asyncio.sleep(0)
            with log.open(f"in {name}", {}):
                await asyncio.sleep(0)

    async with log.open("both", {}):
        await asyncio.gather(step("x"), step("y"))
    records = log.closed()
    names = [one.name for one in records]
    parents = {one.name: names[one.parent] for one in records[1:]}
    assert parents == {"both": HANDLE, "x": "both", "y": "both", "in x": "x", "in y": "y"}


def test_an_exception_is_named_and_passes() -> None:
    log = new_log()
    with pytest.raises(KeyError), log.open("a", {}):
        raise KeyError("secret")
    assert [one.error for one in log.closed("AgentFailed")] == ["AgentFailed", "KeyError"]


def test_what_is_open_at_the_answer_ends_with_it_and_what_follows_is_not_noted() -> None:
    log = new_log()
    with log.open("a", {}) as span:
        first = log.closed()
        with log.open("late", {}):
            span.set(late=True)
    assert [(one.name, one.began, one.ended) for one in first] == [(HANDLE, 0.0, 2.0), ("a", 1.0, 2.0)]
    assert "late" not in [one.name for one in log.closed()]


def test_more_spans_than_are_wanted_are_counted_alone() -> None:
    log = new_log(limit=3)
    for number in range(5):
        with log.open(f"{number}", {}) as span:
            span.set(number=number)
    records = log.closed()
    assert [one.name for one in records] == [HANDLE, "0", "1"]
    assert records[0].attributes == {"agentpool.spans_dropped": 3}


WHAT_IS_KEPT = {
    "a long text is cut": ({"a": "x" * 1000}, {"a": "x" * 256}),
    "a long name is cut": ({"n" * 100: 1}, {"n" * 64: 1}),
    "a number that is too large for the protocol is left out": ({"a": 2**63, "b": 1}, {"b": 1}),
    "what is no value is left out": ({"a": object(), "b": None, "c": 1.5, "d": True}, {"c": 1.5, "d": True}),
    "too many are left out": (
        {f"a{number}": number for number in range(40)},
        {f"a{number}": number for number in range(MAX_ATTRIBUTES)},
    ),
}


@pytest.mark.parametrize(("given", "kept"), WHAT_IS_KEPT.values(), ids=WHAT_IS_KEPT)
def test_attributes_are_bounded(given: dict[str, Any], kept: dict[str, Any]) -> None:
    log = new_log()
    with log.open("a", given):
        pass
    assert log.closed()[1].attributes == kept


async def test_without_a_trace_nothing_happens() -> None:
    with NOT_TRACED as span:
        span.set(a=1)
    async with NOT_TRACED as span:
        span.set(a=1)


def test_frames_without_spans_are_as_small_as_before() -> None:
    for frame, fields in ((Handle(1, b"x", 2.0), 4), (Failed(1, "c", "m"), 4)):
        assert encoder.encode(frame)[0] == 0x80 + fields, "a map of so many fields, its tag one of them"
    assert encoder.encode(Finished(1, b"x"))[0] == 0x82
    failed = Failed(1, "c", "m", new_log().closed())
    assert to_host_decoder.decode(encoder.encode(failed)) == failed
