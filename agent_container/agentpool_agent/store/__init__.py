# SPDX-License-Identifier: Apache-2.0
"""Where instances' state and ownership are kept: Redis, or the memory of one process."""

from __future__ import annotations

# Before anything loads redis-py.
from . import library  # noqa: F401
from .base import Caps, Checkpoint, Claim, KeptFlags, Ownership, Page, Record, Store, Write
from .client import CALL_SECONDS
from .memory import MemoryStore
from .redis import RedisStore

__all__ = [
    "Caps",
    "Checkpoint",
    "Claim",
    "KeptFlags",
    "MemoryStore",
    "Ownership",
    "Page",
    "Record",
    "RedisStore",
    "Store",
    "Write",
    "open_store",
]


def open_store(
    url: str | None, *, pool_uid: str, namespace: str, pool: str, timeout_seconds: float = CALL_SECONDS
) -> Store:
    """The store of a pool; no connection is made yet.

    Args:
        url: `redis://`, `rediss://`, `unix://`, or of Sentinel; None for the memory of this process.
        timeout_seconds: bound of each call to Redis.
    """
    if url is None:
        return MemoryStore(namespace, pool)
    return RedisStore(url, pool_uid, namespace, pool, timeout_seconds=timeout_seconds)
