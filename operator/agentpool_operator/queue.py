# SPDX-License-Identifier: Apache-2.0
"""The work queue: keys, each at most once in it and at most once under way, with pacing and back-off."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import structlog

from agentpool_rpc.cancellation import heed_cancellation

log = structlog.get_logger(__name__)

MAX_KEYS = 50_000
"""Keys known at once; over that new ones wait for the next resync."""
BACKOFF_FIRST_SECONDS = 1.0
BACKOFF_LAST_SECONDS = 60.0
PASSING_SECONDS = 8.0
"""Longest back-off after trouble that is not the object's: an API server that was busy is soon well again."""
PACE_SECONDS = 0.1
"""Shortest time between two runs of one key: a burst of events makes one run."""


class Subject(StrEnum):
    """What a key names."""

    POOL = "pool"
    INSTANCE = "instance"


class Key(NamedTuple):
    """One object to reconcile."""

    subject: Subject
    namespace: str
    name: str


class Outcome(StrEnum):
    """How a run ended, for the metrics."""

    DONE = "done"
    AGAIN = "again"
    FAILED = "failed"


def backoff_seconds(failures: int) -> float:
    """How long to wait after that many failures in a row: 1, 2, 4 .. 60 s."""
    return float(min(BACKOFF_LAST_SECONDS, BACKOFF_FIRST_SECONDS * 2 ** min(max(failures - 1, 0), 10)))


@dataclass(slots=True)
class _Entry:
    due: float
    running: bool = False
    dirty: bool = False
    failures: int = 0
    ran_at: float = float("-inf")


class WorkQueue:
    """Keys by the time they are due.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, max_keys: int = MAX_KEYS) -> None:
        self._clock = clock
        self._max = max_keys
        self._entries: dict[Key, _Entry] = {}
        self._heap: list[tuple[float, Key]] = []
        self._wake = asyncio.Event()
        self._taken_at = float("-inf")
        self.overflowed = False
        """A key was refused; whoever makes the next resync clears it."""

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def stuck_seconds(self) -> float:
        """For how long keys have been due while none was taken; the probe of health looks at it. A long queue
        that moves is busy, not stuck."""
        waiting = [entry.due for entry in self._entries.values() if not entry.running]
        if not waiting:
            return 0.0
        return max(0.0, self._clock() - max(min(waiting), self._taken_at))

    def add(self, key: Key, after_seconds: float = 0.0) -> None:
        """The key is due in that time, or earlier when it already is; a key under way runs again after."""
        due = self._clock() + after_seconds
        entry = self._entries.get(key)
        if entry is None:
            if len(self._entries) >= self._max:
                self.overflowed = True
                return
            self._entries[key] = _Entry(due)
        elif entry.running:
            entry.due = min(entry.due, due) if entry.dirty else due
            entry.dirty = True
            return
        elif entry.failures and after_seconds == 0.0:
            # News does not cut a back-off short: the trouble is with the object itself.
            return
        elif due >= entry.due:
            return
        else:
            entry.due = due
        self._push(key)

    async def take(self) -> Key:
        """The next key that is due; it counts as under way until `done`."""
        while True:
            now = self._clock()
            while self._heap:
                due, key = self._heap[0]
                entry = self._entries.get(key)
                if entry is None or entry.running or entry.due != due:
                    heapq.heappop(self._heap)
                    continue
                if due > now:
                    break
                heapq.heappop(self._heap)
                entry.running, entry.dirty, entry.ran_at = True, False, now
                self._taken_at = now
                return key
            self._wake.clear()
            pause = self._heap[0][0] - now if self._heap else None
            try:
                # Unbounded when the queue is empty: a new key wakes it.
                async with asyncio.timeout(pause):
                    await self._wake.wait()
            except TimeoutError:
                continue

    def done(self, key: Key, again_after: float | None = None) -> None:
        """The key's run ended well; `again_after`: it is to run again after that many seconds."""
        entry = self._entries[key]
        entry.running, entry.failures = False, 0
        times = [entry.due] if entry.dirty else []
        if again_after is not None:
            times.append(self._clock() + again_after)
        if not times:
            del self._entries[key]
            return
        entry.due = max(min(times), entry.ran_at + PACE_SECONDS)
        self._push(key)

    def failed(self, key: Key, at_most: float = BACKOFF_LAST_SECONDS) -> float:
        """The key's run failed; it runs again after a back-off, which is returned."""
        entry = self._entries[key]
        entry.running = False
        entry.failures += 1
        pause = min(backoff_seconds(entry.failures), at_most)
        entry.due = self._clock() + pause
        self._push(key)
        return pause

    def _push(self, key: Key) -> None:
        heapq.heappush(self._heap, (self._entries[key].due, key))
        self._wake.set()


Reconcile = Callable[[Key], Awaitable[float | None]]
"""Brings one object on; returns after how many seconds to look again, None for never."""


async def work(
    queue: WorkQueue,
    reconcile: Reconcile,
    expected: tuple[type[Exception], ...],
    limit_seconds: float,
    observe: Callable[[Key, Outcome, float], None] = lambda *_: None,
    passing: tuple[type[Exception], ...] = (),
) -> None:
    """Take keys and reconcile them, for ever. Errors of the `expected` kinds, and a run over the limit, are
    tried again later, those of the `passing` kinds sooner; any other is a bug, is logged as one, and is tried
    again as well."""
    while True:
        key = await queue.take()
        began = time.monotonic()
        try:
            async with asyncio.timeout(limit_seconds):
                again = await reconcile(key)
        except asyncio.CancelledError:
            queue.failed(key)
            raise
        except Exception as exc:
            pause = queue.failed(key, PASSING_SECONDS if isinstance(exc, passing) else BACKOFF_LAST_SECONDS)
            known = isinstance(exc, (TimeoutError, *expected))
            log.warning(
                "reconcile_failed", **key._asdict(), reason=str(exc), retry_seconds=pause, exc_info=not known
            )
            outcome = Outcome.FAILED
        else:
            queue.done(key, again)
            outcome = Outcome.DONE if again is None else Outcome.AGAIN
        observe(key, outcome, time.monotonic() - began)
        heed_cancellation()
