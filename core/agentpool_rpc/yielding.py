# SPDX-License-Identifier: Apache-2.0
"""gRPC's own threads give way to an event loop that is busy.

gRPC hands each of its events, some seven for a request through the gateway, to the loop from threads of its
own, and where all cores are busy each of them takes the core from the loop first. Under Linux's policy
SCHED_BATCH a thread that wakes up takes nobody's core: events gather while the loop works, and it is given
several at a time. That is for busy loops alone: such a thread waits behind a computing neighbour as well.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from contextlib import suppress

import structlog

log = structlog.get_logger(__name__)

LOOK_SECONDS = 1.0
BUSY = 0.3
"""Share of a core from which on a loop is busy."""
CALM = 0.2
"""Below it is no longer."""
THREADS = "/proc/self/task"


def busy(was_busy: bool, share: float) -> bool:
    """Whether a loop that used this share of a core is busy."""
    return share >= (CALM if was_busy else BUSY)


def give_way(others: bool, loop_thread: int) -> None:
    """Have all threads but the loop's take nobody's core when they wake up, or do as usual again. OSError
    where that is not allowed."""
    policy = os.SCHED_BATCH if others else os.SCHED_OTHER
    for thread in map(int, os.listdir(THREADS)):
        if thread != loop_thread:
            with suppress(ProcessLookupError):
                os.sched_setscheduler(thread, policy, os.sched_param(0))


async def yielding() -> None:
    """Look after the threads of this process until cancelled; to be run on the loop in question."""
    loop_thread = threading.get_native_id()
    busy_now, used, at = False, time.thread_time(), time.monotonic()
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        now_used, now = time.thread_time(), time.monotonic()
        was_busy, busy_now = busy_now, busy(busy_now, (now_used - used) / max(now - at, LOOK_SECONDS))
        used, at = now_used, now
        try:
            if busy_now or was_busy:
                # Again each time: new threads are as those that started them.
                await asyncio.to_thread(give_way, busy_now, loop_thread)
        except OSError as exc:
            log.info("threads_as_they_are", reason=str(exc))
            return
