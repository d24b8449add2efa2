# SPDX-License-Identifier: Apache-2.0
"""Drivers of load: one caller after another answer (closed loop), many at once, and by schedule (open loop).

Each reports the driver's own CPU time, because driver, gateway, host and workers share the machine.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field

from benchmarks.milestones import Milestones

Call = Callable[[int], Awaitable[Milestones | None]]
"""One request; the argument is its number. Raises when it was not answered."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One answered request.

    Attributes:
        number: of the request.
        at: when it was due, in seconds since the drive began.
        milliseconds: from then to its answer.
        reached: its milestones, where the way it took tells them.
    """

    number: int
    at: float
    milliseconds: float
    reached: Milestones | None = None


@dataclass(slots=True)
class Run:
    """What one drive measured. `late`: by how many milliseconds each request was sent after it was due."""

    samples: list[Sample] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    seconds: float = 0.0
    driver_cpu_seconds: float = 0.0

    @property
    def milliseconds(self) -> list[float]:
        """Times of the answered requests."""
        return [sample.milliseconds for sample in self.samples]

    @property
    def per_second(self) -> float:
        """Answers a second."""
        return len(self.samples) / self.seconds if self.seconds else 0.0

    @property
    def driver_cores(self) -> float:
        """Cores that the driver itself used."""
        return self.driver_cpu_seconds / self.seconds if self.seconds else 0.0

    def add(self, other: Run) -> None:
        """Count a further round of the same drive into this one."""
        self.samples += other.samples
        self.errors += other.errors
        self.late += other.late
        self.seconds += other.seconds
        self.driver_cpu_seconds += other.driver_cpu_seconds

    def split(self) -> tuple[Run, Run]:
        """The requests that found their instance resident, and those that had to activate it."""
        hits, misses = Run(seconds=self.seconds), Run(seconds=self.seconds)
        for sample in self.samples:
            hit = sample.reached is None or sample.reached.hit
            (hits if hit else misses).samples.append(sample)
        for part in (hits, misses):
            part.driver_cpu_seconds = self.driver_cpu_seconds
        return hits, misses


async def _timed(run: Run, call: Call, number: int, began: float, due: float) -> None:
    try:
        reached = await call(number)
    except Exception as exc:
        run.errors.append(f"{type(exc).__name__}: {exc}")
    else:
        run.samples.append(Sample(number, due - began, (time.perf_counter() - due) * 1000, reached))


async def closed_loop(call: Call, requests: int, callers: int = 1) -> Run:
    """`callers` callers send their next request when the last was answered."""
    run = Run()
    numbers = iter(range(requests))
    start, cpu = time.perf_counter(), time.process_time()

    async def caller() -> None:
        for number in numbers:
            await _timed(run, call, number, start, time.perf_counter())

    async with asyncio.TaskGroup() as tasks:
        for _ in range(callers):
            tasks.create_task(caller())
    run.seconds, run.driver_cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
    return run


def arrivals(per_second: float, seconds: float, seed: int) -> Iterator[float]:
    """Poisson arrivals: seconds since the start, ascending, all before `seconds`."""
    rng = random.Random(seed)
    due = 0.0
    while (due := due + rng.expovariate(per_second)) < seconds:
        yield due


async def open_loop(call: Call, per_second: float, seconds: float, seed: int) -> Run:
    """Poisson arrivals by an absolute schedule; a request's time counts from when it was due, so a stall of
    the system under test is not hidden by a driver that waits with it."""
    run = Run()
    start, cpu = time.perf_counter(), time.process_time()
    async with asyncio.TaskGroup() as tasks:
        for number, offset in enumerate(arrivals(per_second, seconds, seed)):
            due = start + offset
            delay = due - time.perf_counter()
            if delay > 0:
                await asyncio.sleep(delay)
            run.late.append((time.perf_counter() - due) * 1000)
            tasks.create_task(_timed(run, call, number, start, due))
    run.seconds, run.driver_cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
    return run
