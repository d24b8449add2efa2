# SPDX-License-Identifier: Apache-2.0
"""Telling the causes of an exception apart: a broken call, or the wish of whoever waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


def caller_cancelled() -> bool:
    """Whether the running task is being cancelled.

    gRPC raises the same CancelledError in a call whose channel was closed because its pod is gone; that is a
    broken connection and no wish of the caller.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def heed_cancellation() -> None:
    """Raise CancelledError if the present task was cancelled and goes on all the same.

    A library's call that fails at the very moment of the cancellation can report its own failure instead; a
    loop that carries on after failures would then never end.
    """
    if caller_cancelled():
        raise asyncio.CancelledError


async def before(event: asyncio.Event, work: Coroutine[Any, Any, object]) -> bool:
    """Do the work unless the event comes first; whether it was done, and what it failed with is raised.

    The work has ended in any case. That the caller is cancelled is not mistaken for the end of the work.
    """
    loop = asyncio.get_running_loop()
    working, waiting = loop.create_task(work), loop.create_task(event.wait())
    try:
        await asyncio.wait([working, waiting], return_when=asyncio.FIRST_COMPLETED)
        done = working.done()
    finally:
        working.cancel()
        waiting.cancel()
        await asyncio.wait([working, waiting])
    if not working.cancelled():
        working.result()
    return done
