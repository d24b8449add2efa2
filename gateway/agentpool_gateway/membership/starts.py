# SPDX-License-Identifier: Apache-2.0
"""Pacing of first requests at one host: when a neighbour dies, all its instances wake at once.

Some start, the others wait here and keep their deadline. Tenants take turns, so that one with many instances
does not hold up one with a single instance.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque

MAX_STARTING = 16
"""Instances that this gateway has a host start at one time. A host itself runs half as many at once: it never
waits for the gateway."""


class Starts:
    """Instances that one host starts for this gateway, and who is next.

    Args:
        limit: instances at one time; requests of one instance count once.
    """

    def __init__(self, limit: int = MAX_STARTING) -> None:
        self._limit = limit
        self._running: Counter[str] = Counter()
        self._waiting: OrderedDict[str, deque[tuple[str, asyncio.Future[bool]]]] = OrderedDict()

    @property
    def running(self) -> int:
        """Instances that are being started."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Requests that wait for their turn."""
        return sum(len(queue) for queue in self._waiting.values())

    def begin(self, instance_id: str) -> bool:
        """Start it without waiting, if it is being started already or there is room and nobody waits."""
        free = len(self._running) < self._limit and not self._waiting
        if instance_id in self._running or free:
            self._running[instance_id] += 1
            return True
        return False

    async def turn(self, tenant_id: str, instance_id: str, seconds: float) -> bool:
        """Wait to begin; False when the host was lost meanwhile, or the time is over."""
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        queue = self._waiting.setdefault(tenant_id, deque())
        entry = (instance_id, future)
        queue.append(entry)
        try:
            async with asyncio.timeout(max(seconds, 0)):
                return await future
        except TimeoutError:
            return self._given_up(tenant_id, entry)
        except asyncio.CancelledError:
            if self._given_up(tenant_id, entry):
                self.done(instance_id)
            raise

    def done(self, instance_id: str) -> None:
        """A request that began has been accepted, or has failed."""
        self._running[instance_id] -= 1
        if not self._running[instance_id]:
            del self._running[instance_id]
            self._next()

    def interrupt(self) -> None:
        """The host is lost: whoever waits looks for another one."""
        waiting, self._waiting = self._waiting, OrderedDict()
        for queue in waiting.values():
            for _, future in queue:
                if not future.done():
                    future.set_result(False)

    def _given_up(self, tenant_id: str, entry: tuple[str, asyncio.Future[bool]]) -> bool:
        """Forget an entry; whether its turn had come in that very moment."""
        future = entry[1]
        if future.done() and not future.cancelled():
            return future.result()
        queue = self._waiting.get(tenant_id)
        if queue is not None and entry in queue:
            queue.remove(entry)
            if not queue:
                del self._waiting[tenant_id]
        return False

    def _next(self) -> None:
        while self._waiting and len(self._running) < self._limit:
            tenant_id, queue = self._waiting.popitem(last=False)
            instance_id = queue[0][0]
            # Requests of one instance begin together: they share its start.
            others = deque(entry for entry in queue if entry[0] != instance_id)
            for _, future in (entry for entry in queue if entry[0] == instance_id):
                if not future.done():
                    self._running[instance_id] += 1
                    future.set_result(True)
            if others:
                # Behind every other tenant.
                self._waiting[tenant_id] = others
