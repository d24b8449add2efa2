# SPDX-License-Identifier: Apache-2.0
"""`context.exclusive()`: one holder at a time, and a moment between two in which to take a snapshot."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable


class Gate:
    """A fair lock. Between two holders `on_free` is called once, while nobody holds it, so that a snapshot is
    never starved by a queue of holders."""

    def __init__(self, on_free: Callable[[], None]) -> None:
        self._on_free = on_free
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._held = False
        self._changing_hands = False

    @property
    def held(self) -> bool:
        """Whether somebody is inside."""
        return self._held

    async def acquire(self) -> None:
        """Wait for one's turn; ends with the caller's own deadline or cancellation."""
        if not self._held and not self._changing_hands:
            self._held = True
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiters.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release()
            elif turn in self._waiters:
                self._waiters.remove(turn)
            raise

    def release(self) -> None:
        """Leave; the next one enters after `on_free`, in the next turn of the loop."""
        self._held = False
        self._changing_hands = True
        asyncio.get_running_loop().call_soon(self._hand_over)

    def _hand_over(self) -> None:
        self._changing_hands = False
        self._on_free()
        while self._waiters:
            turn = self._waiters.popleft()
            if not turn.done():
                self._held = True
                turn.set_result(None)
                return
