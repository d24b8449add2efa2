# SPDX-License-Identifier: Apache-2.0
"""A loop that goes on after failures ends when its task is cancelled, also when a failure hid that."""

from __future__ import annotations

import asyncio

import pytest

from agentpool_rpc.cancellation import heed_cancellation


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
