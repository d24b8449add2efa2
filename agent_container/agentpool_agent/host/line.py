# SPDX-License-Identifier: Apache-2.0
"""Who waits for a permit of one instance: bounded, in the order of arrival, and for a short time.

A permit that comes free is kept for the first one in the line, so nobody who arrives then goes before it.
"""

from __future__ import annotations

import asyncio
from collections import deque

from agentpool_agent.host.quota import permits_taken


class Line:
    """The line before one resident instance; it ends with it."""

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[bool]] = deque()
        self._kept = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def must_wait(self, held: int, limit: int) -> bool:
        """Whether somebody who arrives now has to wait, with so many of the permits held."""
        return held + self._kept >= limit or bool(self._waiting)

    async def wait(self, limit: int, most: int, seconds: float) -> bool:
        """Wait for a permit, for at most so long, and if fewer than `most` wait already; raises
        ConcurrencyExceeded otherwise.

        True: one is kept, and has to be had by `taken` before the next await. False: the instance is about to
        leave or refuses requests; look again.
        """
        if seconds <= 0 or len(self._waiting) >= most:
            raise permits_taken(limit)
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        try:
            async with asyncio.timeout(seconds):
                return await future
        except TimeoutError:
            if future.done() and not future.cancelled():
                # It came in the very moment in which the time was over.
                return future.result()
            self._forget(future)
            raise permits_taken(limit) from None
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                if future.result():
                    self.taken()
                    self._pass_on()
            else:
                self._forget(future)
            raise

    def taken(self) -> None:
        """The permit that was kept is had, or given up; then `give` it to the next one."""
        self._kept -= 1

    def give(self, held: int, limit: int) -> None:
        """Keep the permits that are free for those who have waited longest."""
        while self._waiting and held + self._kept < limit:
            self._keep()

    def interrupt(self) -> None:
        """Have everybody look again."""
        waiting, self._waiting = self._waiting, deque()
        for future in waiting:
            if not future.done():
                future.set_result(False)

    def _pass_on(self) -> None:
        """A kept permit was given up by one who is gone: the next one has it."""
        if self._waiting:
            self._keep()

    def _keep(self) -> None:
        future = self._waiting.popleft()
        if not future.done():
            self._kept += 1
            future.set_result(True)

    def _forget(self, future: asyncio.Future[bool]) -> None:
        if future in self._waiting:
            self._waiting.remove(future)
