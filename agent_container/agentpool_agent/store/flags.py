# SPDX-License-Identifier: Apache-2.0
"""The pool's feature flags in the store: one document with a version, replaced as a whole.

The version grows whatever happens, also when the store lost its data: max(the one before + 1, the store's
time in microseconds). So of two documents the one with the higher version is the later one, everywhere.
"""

from __future__ import annotations

from collections.abc import Callable

from .base import KeptFlags
from .calls import Calls
from .encoding import text


class MemoryFlags:
    """Flags in this process.

    Args:
        clock: microseconds since 1970.
    """

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._kept = KeptFlags()

    async def read(self, known: int) -> KeptFlags | None:
        """See `FlagBook.read`."""
        return self._kept if self._kept.version != known else None

    async def replace(self, base: int, document: bytes) -> tuple[KeptFlags, bool]:
        """See `FlagBook.replace`."""
        if self._kept.version > base:
            return self._kept, False
        self._kept = KeptFlags(max(base + 1, self._clock()), document)
        return self._kept, True


class RedisFlags:
    """Flags in a hash under the pool's prefix."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._key = calls.keys.flags

    async def read(self, known: int) -> KeptFlags | None:
        """See `FlagBook.read`; what did not change is not sent."""
        version = await self._calls.client.command("HGET", self._key, "version")
        return await self._whole() if int(version or 0) != known else None

    async def replace(self, base: int, document: bytes) -> tuple[KeptFlags, bool]:
        """See `FlagBook.replace`."""
        done, version = await self._calls.execute("flags", (self._key,), (base, document))
        if text(done):
            return KeptFlags(int(version), document), True
        return await self._whole(), False

    async def _whole(self) -> KeptFlags:
        version, document = await self._calls.client.command("HMGET", self._key, "version", "document")
        return KeptFlags(int(version or 0), bytes(document or b""))
