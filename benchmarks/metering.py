# SPDX-License-Identifier: Apache-2.0
"""CPU and memory of each part while a phase of the measurement runs."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from benchmarks.processes import Process, everything, private_bytes, run_seconds, tree
from benchmarks.rows import Usage
from benchmarks.stack import Stack

PARTS = ("gateway", "host", "zygote", "workers", "redis", "driver")


@dataclass(frozen=True, slots=True)
class Reading:
    """One part at one moment: CPU seconds since it started, ended children included."""

    pids: tuple[int, ...]
    cpu_seconds: float


def read(stack: Stack) -> dict[str, Reading]:
    """Every part of the system, and this process, which drives it."""
    found: dict[str, Reading] = {}
    parts = tree(stack.pid)
    known = {process.pid: process for process in everything()}
    for name, pid in stack.pids.items():
        if pid in known and name != "dev":
            parts.setdefault(name.partition(" ")[0], []).append(known[pid])
    for part, processes in parts.items():
        pids = tuple(process.pid for process in processes)
        found[part] = Reading(pids, sum(map(_cpu_seconds, processes)))
    zygotes = parts.get("zygote", ())
    workers = found.pop("worker", Reading((), 0.0))
    ended = sum(process.reaped_cpu_seconds for process in zygotes)
    found["workers"] = Reading(workers.pids, workers.cpu_seconds + ended)
    found["driver"] = Reading((os.getpid(),), time.process_time())
    return {part: found[part] for part in PARTS if part in found}


def _cpu_seconds(process: Process) -> float:
    """Of its threads, to the nanosecond, or, where some have ended, of all in steps of the kernel's clock: a
    worker that served one request has not even one such step."""
    try:
        return max(process.cpu_seconds, run_seconds(process.pid))
    except OSError:
        return process.cpu_seconds


def private_mb(pids: tuple[int, ...]) -> float:
    """Private memory of processes together, MB; one that ended meanwhile counts nothing."""
    total = 0
    for pid in pids:
        try:
            total += private_bytes(pid)
        except OSError:
            continue
    return total / 2**20


def used(
    phase: str, seconds: float, before: Mapping[str, Reading], after: Mapping[str, Reading]
) -> list[Usage]:
    """What each part used between two readings."""
    return [
        Usage(
            phase=phase,
            seconds=seconds,
            part=part,
            processes=len(now.pids),
            cores=(now.cpu_seconds - (before[part].cpu_seconds if part in before else 0.0)) / seconds,
            private_mb=private_mb(now.pids),
        )
        for part, now in after.items()
    ]


@asynccontextmanager
async def metered(stack: Stack, phase: str, usage: list[Usage]) -> AsyncIterator[None]:
    """Add to `usage` what the block used."""
    before, start = await asyncio.to_thread(read, stack), time.perf_counter()
    yield
    seconds = time.perf_counter() - start
    after = await asyncio.to_thread(read, stack)
    usage += await asyncio.to_thread(used, phase, seconds, before, after)
