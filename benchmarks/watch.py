# SPDX-License-Identifier: Apache-2.0
"""Memory and descriptors of gateway and host, looked at again and again while something else runs."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from statistics import median

from benchmarks.processes import private_bytes, tree
from benchmarks.stack import Stack

PARTS = ("gateway", "host")


@dataclass(frozen=True, slots=True)
class Look:
    """One part at one moment of the monotonic clock."""

    at: float
    part: str
    private_mb: float
    descriptors: int


def look(stack: Stack) -> list[Look]:
    """Both parts now."""
    parts = tree(stack.pid)
    at = time.monotonic()
    return [
        Look(at, part, private_bytes(one.pid) / 2**20, len(os.listdir(f"/proc/{one.pid}/fd")))
        for part in PARTS
        for one in parts.get(part, ())[:1]
    ]


@asynccontextmanager
async def watched(stack: Stack, seconds: float) -> AsyncIterator[list[Look]]:
    """Looks every `seconds` while the block runs."""
    looks: list[Look] = []

    async def watch() -> None:
        while True:
            looks.extend(await asyncio.to_thread(look, stack))
            await asyncio.sleep(seconds)

    task = asyncio.create_task(watch())
    try:
        yield looks
    finally:
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error


def of_part(looks: Sequence[Look], part: str) -> list[Look]:
    """One part's looks, in their order."""
    return [one for one in looks if one.part == part]


def growth(values: Sequence[float], share: float = 0.25) -> float:
    """By how much the median of the last `share` of the values is above that of the first, as a part of it.

    ValueError for fewer than two values.
    """
    if len(values) < 2:
        raise ValueError("growth needs two values")
    size = max(int(len(values) * share), 1)
    first, last = median(values[:size]), median(values[-size:])
    return (last - first) / first
