# SPDX-License-Identifier: Apache-2.0
"""Open channels by address: bounded, used again, and closed when idle. No I/O."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock
from typing import Generic, TypeVar

MOST = 256
"""Hosts that are kept connected; more than a pool of thousands of instances has."""
IDLE_SECONDS = 120.0

C = TypeVar("C")


@dataclass(slots=True)
class _Open(Generic[C]):
    channel: C
    users: int
    used_at: float


class ChannelCache(Generic[C]):
    """Channels by address. May be used from several threads.

    Whoever takes one gives it back; what `surplus` and `clear` return has left the cache and is the
    caller's to close.
    """

    def __init__(self, most: int = MOST, idle_seconds: float = IDLE_SECONDS) -> None:
        self._most = most
        self._idle_seconds = idle_seconds
        self._lock = Lock()
        self._open: OrderedDict[str, _Open[C]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._open)

    def take(self, address: str, now: float) -> C | None:
        """The channel to an address, None when there is none."""
        with self._lock:
            found = self._open.get(address)
            if found is None:
                return None
            found.users, found.used_at = found.users + 1, now
            self._open.move_to_end(address)
            return found.channel

    def add(self, address: str, channel: C, now: float) -> C:
        """Put a channel in and take it; the one that is there if another was faster."""
        with self._lock:
            found = self._open.setdefault(address, _Open(channel, 0, now))
            found.users, found.used_at = found.users + 1, now
            self._open.move_to_end(address)
            return found.channel

    def give_back(self, address: str, now: float) -> None:
        """The end of a use."""
        with self._lock:
            found = self._open.get(address)
            if found is not None:
                found.users, found.used_at = max(found.users - 1, 0), now

    def surplus(self, now: float) -> list[C]:
        """Channels that nobody uses and that are idle for long, or too many; the longest idle first."""
        with self._lock:
            closing: list[C] = []
            for address, one in list(self._open.items()):
                idle = now - one.used_at > self._idle_seconds
                if one.users == 0 and (idle or len(self._open) > self._most):
                    del self._open[address]
                    closing.append(one.channel)
                elif not idle and len(self._open) <= self._most:
                    # In the order of their last use: those that follow are younger.
                    break
            return closing

    def clear(self) -> list[C]:
        """All channels."""
        with self._lock:
            closing = [one.channel for one in self._open.values()]
            self._open.clear()
            return closing
