# SPDX-License-Identifier: Apache-2.0
"""Ending when told to."""

from __future__ import annotations

import asyncio


def heed_cancellation() -> None:
    """Raise CancelledError if the present task was cancelled and goes on all the same.

    A library's call that fails at the very moment of the cancellation can report its own failure instead; a
    loop that carries on after failures would then never end.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
