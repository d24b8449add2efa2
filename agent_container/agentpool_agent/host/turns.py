# SPDX-License-Identifier: Apache-2.0
"""Whose turn it is: few slots, and tenants that are served one after another, however much each wants.

A tenant that wakes a thousand instances waits behind its own, not another tenant behind all of them. The
queue is bounded; when it is full, the tenant with the most in it gives a place up.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

from agentpool_core.errors import PoolExhausted

T = TypeVar("T")

FULL_RETRY_SECONDS = 1.0


class RoundRobin(Generic[T]):
    """Queues by name: `take` serves the names in turn, each one's items in the order they came."""

    def __init__(self) -> None:
        self._queues: dict[str, deque[T]] = {}

    def __len__(self) -> int:
        return sum(len(queue) for queue in self._queues.values())

    def add(self, name: str, item: T) -> None:
        """Put an item at the end of its queue; a new name comes last in the round."""
        self._queues.setdefault(name, deque()).append(item)

    def take(self) -> T | None:
        """The next item; None when there is none."""
        for name, queue in self._queues.items():
            item = queue.popleft()
            del self._queues[name]
            if queue:
                self._queues[name] = queue
            return item
        return None

    def remove(self, name: str, item: T) -> None:
        """Take an item out, if it is there."""
        queue = self._queues.get(name)
        if queue is not None and item in queue:
            queue.remove(item)
            if not queue:
                del self._queues[name]

    def waiting(self, name: str) -> int:
        """Items of one name."""
        return len(self._queues.get(name, ()))

    def longest(self) -> tuple[str, T] | None:
        """The name with the most items, and the last one of them."""
        if not self._queues:
            return None
        name = max(self._queues, key=lambda one: len(self._queues[one]))
        return name, self._queues[name][-1]


class Turns:
    """`slots` holders at once; at most `most_waiting` wait for a turn."""

    def __init__(self, slots: int, most_waiting: int) -> None:
        self._free = slots
        self._most_waiting = most_waiting
        self._queue: RoundRobin[asyncio.Future[None]] = RoundRobin()

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._queue)

    @asynccontextmanager
    async def turn(self, tenant_id: str) -> AsyncIterator[None]:
        """Hold a slot; the caller bounds the wait. Raises PoolExhausted when too many wait already."""
        await self._wait(tenant_id)
        try:
            yield
        finally:
            self._give()

    async def _wait(self, tenant_id: str) -> None:
        if self._free > 0:
            self._free -= 1
            return
        self._make_room(tenant_id)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.add(tenant_id, future)
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                self._give()
            else:
                self._queue.remove(tenant_id, future)
            raise

    def _make_room(self, tenant_id: str) -> None:
        if len(self._queue) < self._most_waiting:
            return
        refused = PoolExhausted(
            "Too many instances wait to be started on this host.", retry_after_seconds=FULL_RETRY_SECONDS
        )
        found = self._queue.longest()
        if found is None or self._queue.waiting(tenant_id) + 1 >= self._queue.waiting(found[0]):
            raise refused
        name, last = found
        self._queue.remove(name, last)
        if not last.done():
            last.set_exception(refused)

    def _give(self) -> None:
        while (future := self._queue.take()) is not None:
            if not future.done():
                future.set_result(None)
                return
        self._free += 1
