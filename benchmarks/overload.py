# SPDX-License-Identifier: Apache-2.0
"""More requests than can be served: what is answered, how the rest is refused, and what stays behind."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.console import facts, nothing_said, say, show
from benchmarks.demands import exit_code
from benchmarks.drivers import Target, drive
from benchmarks.overload_report import Overload, demands, fault, report
from benchmarks.plans import Drive, Kind, Plan, Protocol, projects, together
from benchmarks.stack import running
from benchmarks.watch import watched

SHARED = "drivers (processes of their own), gateway, host, workers and redis-server share these cores"
WATCH_SECONDS = 0.5
AFTER_SECONDS = 15.0
UNLOADED_SHARE = 0.5
REFUSED_SHARE = 0.05


@dataclass(frozen=True, slots=True)
class Work:
    """What each request asks for, of how many projects. `callers`: numbers tried to find the capacity."""

    body: str
    projects: int
    callers: Sequence[int] = (8, 16, 32, 64)


WORKS = {
    "burn": Work('{"burn_ms": 50}', 16, callers=(2, 3, 4)),
    "wait": Work('{"sleep_ms": 200}', 4, callers=(20, 40)),
}
"""burn: 50 ms of CPU, the cores are the limit; of lighter ones the refusals would use up the cores. wait:
200 ms without, 4 times 10 permits are the limit."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Of `make overload`."""
    parser.add_argument("--seconds", type=float, default=60.0, help="how long the overload lasts")
    parser.add_argument("--factor", type=float, default=5.0, help="times the capacity")
    parser.add_argument("--protocol", choices=[one.value for one in Protocol], default="rest")
    parser.add_argument(
        "--work", choices=WORKS, default="burn", help="burn: CPU is the limit; wait: permits are"
    )
    parser.add_argument("--drivers", type=int, default=2, help="processes that send")
    parser.add_argument("--bound", type=int, default=2000, help="requests in flight at most, of all drivers")
    parser.add_argument("--step", type=float, default=5.0, help="seconds of each step before the overload")
    parser.add_argument("--name", default="overload", help="of the file in benchmarks/results/; empty: none")


def run(options: argparse.Namespace) -> int:
    """Measure and report. 1: a demand is not held. 2: the driver was the bottleneck."""
    found = asyncio.run(_Course(options).run())
    told = facts(SHARED) | {"requests": f"{options.protocol}, {WORKS[options.work].body}"}
    if why := fault(found):
        return nothing_said(told, report(found), why)
    show(options.name, told, report(found))
    return exit_code(demands(found))


class _Course:
    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._work = WORKS[options.work]
        self._target = Target(Protocol.REST, "", "")

    async def run(self) -> Overload:
        options = self._options
        async with running("labour") as stack:
            self._target = Target.of(stack.gateway, Protocol(options.protocol))
            await drive([self._plan(seconds=1.0, callers=self._work.projects)])
            sweep = {callers: await self._throughput(callers) for callers in self._work.callers}
            capacity = max(sweep.values())
            say(f"capacity {capacity:.0f}/s; half of it for {options.step:g} s")
            half = UNLOADED_SHARE * capacity
            unloaded = together(await drive(self._spread(half, options.step)))
            if not unloaded.of(Kind.ANSWERED):
                raise RuntimeError("at half of the capacity nothing was answered")
            say(f"{options.factor:g} times the capacity for {options.seconds:g} s")
            async with watched(stack, WATCH_SECONDS) as looks:
                after = self._plan(
                    seconds=min(AFTER_SECONDS, options.seconds),
                    per_second=half,
                    delay=options.seconds,
                )
                plans = self._spread(capacity * options.factor, options.seconds)
                *drives, calm = await drive([*plans, after])
        loaded = together(drives)
        return Overload(capacity, options.factor, sweep, unloaded, loaded, calm, options.seconds, looks)

    async def _throughput(self, callers: int) -> float:
        (found,) = await drive([self._plan(seconds=self._options.step, callers=callers)])
        return _per_second(found)

    def _spread(self, per_second: float, seconds: float) -> list[Plan]:
        """One schedule over all drivers: Poisson arrivals split evenly are Poisson arrivals again."""
        count = self._options.drivers
        return [
            self._plan(seconds=seconds, per_second=per_second / count, seed=seed)
            for seed in range(1, count + 1)
        ]

    def _plan(
        self,
        seconds: float,
        per_second: float = 0.0,
        callers: int = 1,
        delay: float = 0.0,
        seed: int = 1,
    ) -> Plan:
        return Plan(
            protocol=self._target.protocol,
            address=self._target.address,
            path=self._target.path,
            projects=projects("overload", self._work.projects),
            body=self._work.body,
            seconds=seconds,
            seed=seed,
            per_second=per_second,
            callers=callers,
            delay=delay,
            bound=max(self._options.bound // self._options.drivers, 1),
        )


def _per_second(found: Drive) -> float:
    """Answers a second. RuntimeError when many were not answered: their number is no capacity then. A few are
    refused where callers take all permits, because a permit is free only a moment after its answer came."""
    other = [one for one in found.outcomes if one.kind is not Kind.ANSWERED]
    if len(other) > REFUSED_SHARE * len(found.outcomes):
        raise RuntimeError(f"{len(other)} requests were not answered, first: {other[0].kind} {other[0].code}")
    return (len(found.outcomes) - len(other)) / found.seconds
