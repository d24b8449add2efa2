# SPDX-License-Identifier: Apache-2.0
"""A process that sends requests by plan: `python -m benchmarks.driver`, spoken to over stdin and stdout.

It reads a Plan, connects, writes `ready`, reads when to start on the monotonic clock, and writes a Drive.
Being a process of its own, it is not slowed down by whoever evaluates; it says how late it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import os
import random
import sys
import time
from collections.abc import Awaitable, Callable

import msgspec

from benchmarks.load import arrivals
from benchmarks.plans import Drive, Kind, Outcome, Plan
from benchmarks.wires import End, open_wire

NICE = -5
"""Where it may, the driver goes before what it measures, so that it keeps its schedule."""


class Driver:
    """Sends what the plan says and keeps what came of it."""

    def __init__(self, plan: Plan, send: Callable[[tuple[str, str], bool], Awaitable[End]]) -> None:
        self._plan = plan
        self._send = send
        self._rng = random.Random(plan.seed)
        self._outcomes: list[Outcome] = []
        self._flying = 0

    async def run(self, start: float) -> Drive:
        """Send everything and wait for its end."""
        begin = start + self._plan.delay
        await asyncio.sleep(max(begin - time.monotonic(), 0))
        cpu = time.process_time()
        async with asyncio.TaskGroup() as tasks:
            if self._plan.per_second:
                await self._by_schedule(begin, tasks)
            else:
                projects = itertools.cycle(self._plan.projects)
                for _ in range(self._plan.callers):
                    tasks.create_task(self._caller(begin, next(projects)))
        seconds = time.monotonic() - begin
        return Drive(begin, tuple(self._outcomes), seconds, time.process_time() - cpu)

    async def _by_schedule(self, begin: float, tasks: asyncio.TaskGroup) -> None:
        for due in arrivals(self._plan.per_second, self._plan.seconds, self._plan.seed):
            delay = begin + due - time.monotonic()
            if delay > 0:
                await asyncio.sleep(delay)
            late = (time.monotonic() - begin - due) * 1000
            if self._flying >= self._plan.bound:
                self._outcomes.append(Outcome(due, late, late, Kind.CROWDED))
                continue
            self._flying += 1
            project = self._rng.choice(self._plan.projects)
            tasks.create_task(self._one(begin, due, late, project))

    async def _caller(self, begin: float, project: tuple[str, str]) -> None:
        while (due := time.monotonic() - begin) < self._plan.seconds:
            self._flying += 1
            await self._one(begin, due, 0.0, project)

    async def _one(self, begin: float, due: float, late: float, project: tuple[str, str]) -> None:
        cancel = self._rng.random() < self._plan.cancel_share
        end = await self._send(project, cancel)
        self._flying -= 1
        spent = (time.monotonic() - begin - due) * 1000
        self._outcomes.append(Outcome(due, late, spent, end.kind, end.code, end.says_when))


async def main() -> None:
    """One plan."""
    plan = msgspec.json.decode(await asyncio.to_thread(sys.stdin.buffer.readline), type=Plan)
    with contextlib.suppress(OSError):
        os.nice(NICE)
    # A collection in the middle would look like a slow answer.
    gc.freeze()
    gc.disable()
    async with open_wire(plan) as send:
        sys.stdout.buffer.write(b"ready\n")
        sys.stdout.buffer.flush()
        start = float(await asyncio.to_thread(sys.stdin.buffer.readline))
        drive = await Driver(plan, send).run(start)
    sys.stdout.buffer.write(msgspec.json.encode(drive))


if __name__ == "__main__":
    asyncio.run(main())
