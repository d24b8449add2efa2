# SPDX-License-Identifier: Apache-2.0
"""Telling two causes of one exception apart."""

from __future__ import annotations

import asyncio


def caller_cancelled() -> bool:
    """Whether the running task is being cancelled.

    gRPC raises the same CancelledError in a call whose channel was closed because its pod is gone; that is a
    broken connection and no wish of the caller.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
