# SPDX-License-Identifier: Apache-2.0
"""Drivers of load: one caller after another answer (closed loop), many at once, and by schedule (open loop).

Each reports the driver's own CPU time, because driver, gateway, host and workers share the machine.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

Call = Callable[[int], Awaitable[object]]
"""One request; the argument is its number. Raises when it was not answered."""


@dataclass(slots=True)
class Run:
    """What one drive measured."""

    milliseconds: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    seconds: float = 0.0
    driver_cpu_seconds: float = 0.0

    @property
    def per_second(self) -> float:
        """Answers a second."""
        return len(self.milliseconds) / self.seconds if self.seconds else 0.0

    @property
    def driver_cores(self) -> float:
        """Cores that the driver itself used."""
        return self.driver_cpu_seconds / self.seconds if self.seconds else 0.0


async def _timed(run: Run, call: Call, number: int, since: float | None = None) -> None:
    start = time.perf_counter() if since is None else since
    try:
        await call(number)
    except Exception as exc:
        run.errors.append(f"{type(exc).__name__}: {exc}")
    else:
        run.milliseconds.append((time.perf_counter() - start) * 1000)


async def closed_loop(call: Call, requests: int, callers: int = 1) -> Run:
    """`callers` callers send their next request when the last was answered."""
    run = Run()
    numbers = iter(range(requests))

    async def caller() -> None:
        for number in numbers:
            await _timed(run, call, number)

    start, cpu = time.perf_counter(), time.process_time()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(callers):
            tasks.create_task(caller())
    run.seconds, run.driver_cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
    return run


async def open_loop(call: Call, per_second: float, seconds: float, seed: int) -> Run:
    """Poisson arrivals by an absolute schedule; a request's time counts from when it was due, so a stall of
    the system under test is not hidden by a driver that waits with it."""
    run = Run()
    rng = random.Random(seed)
    start, cpu = time.perf_counter(), time.process_time()
    due, number = start, 0
    async with asyncio.TaskGroup() as tasks:
        while (due := due + rng.expovariate(per_second)) < start + seconds:
            delay = due - time.perf_counter()
            if delay > 0:
                await asyncio.sleep(delay)
            tasks.create_task(_timed(run, call, number, due))
            number += 1
    run.seconds, run.driver_cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
    return run
