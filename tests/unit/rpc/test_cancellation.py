# SPDX-License-Identifier: Apache-2.0
"""A loop that goes on after failures ends when its task is cancelled, also when a failure hid that."""

from __future__ import annotations

import asyncio

import pytest

from agentpool_rpc.cancellation import before, heed_cancellation


async def test_a_hidden_cancellation_is_heeded() -> None:
    began = asyncio.Event()

    async def stubborn() -> None:
        began.set()
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                # What a library does that reports its own failure instead.
                heed_cancellation()

    task = asyncio.create_task(stubborn())
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_nothing_happens_otherwise() -> None:
    heed_cancellation()


async def test_work_is_done_before_the_event() -> None:
    assert await before(asyncio.Event(), asyncio.sleep(0))


async def test_the_event_ends_the_work() -> None:
    event = asyncio.Event()
    event.set()
    assert not await before(event, asyncio.Event().wait())


async def test_what_the_work_failed_with_is_raised() -> None:
    async def fails() -> None:
        raise ValueError("for a test")

    with pytest.raises(ValueError, match="for a test"):
        await before(asyncio.Event(), fails())


async def test_a_caller_that_is_cancelled_ends_with_its_work() -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def tidy() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.set()

    task = asyncio.create_task(before(asyncio.Event(), tidy()))
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()
