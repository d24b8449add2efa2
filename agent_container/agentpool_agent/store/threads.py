# SPDX-License-Identifier: Apache-2.0
"""Sealing and unsealing beside the event loop, where a large state would hold up every other instance."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from . import encoding
from .base import Checkpoint, Write

THREAD_BYTES = 32 * 1024
"""From here on a thread is cheaper than the wait: compressing this takes about 0.3 ms, the detour 0.1 ms."""


async def written(write: Write) -> list[str | bytes | int]:
    """`encoding.write_arguments`."""
    if sum(map(len, write.parts.values())) < THREAD_BYTES:
        return encoding.write_arguments(write)
    return await asyncio.to_thread(encoding.write_arguments, write)


async def restored(
    fields: Mapping[bytes, bytes], kept: Mapping[bytes, bytes] | None = None, epoch: int = 0
) -> Checkpoint:
    """`encoding.checkpoint`, or `encoding.previous` of what a write replaced in this epoch."""
    size = sum(map(len, fields.values())) + sum(map(len, (kept or {}).values()))
    if size < THREAD_BYTES:
        return _restored(fields, kept, epoch)
    return await asyncio.to_thread(_restored, fields, kept, epoch)


def _restored(fields: Mapping[bytes, bytes], kept: Mapping[bytes, bytes] | None, epoch: int) -> Checkpoint:
    return encoding.checkpoint(fields) if kept is None else encoding.previous(fields, kept, epoch)
