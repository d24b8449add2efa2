# SPDX-License-Identifier: Apache-2.0
"""One slow or failing project beside normal ones: by how much the others' answers become slower."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.console import facts, nothing_said, say, show
from benchmarks.demands import exit_code
from benchmarks.drivers import Target, drive
from benchmarks.neighbours_report import Beside, demands, fault, report
from benchmarks.plans import Drive, Outcome, Plan, Protocol, projects
from benchmarks.stack import running

SHARED = "drivers (processes of their own), gateway, host, workers and redis-server share these cores"
NORMAL_BODY = "{}"


@dataclass(frozen=True, slots=True)
class Bad:
    """What the bad project's requests ask for, and how many a second."""

    body: str
    per_second: float


BAD = {
    "sleeping": Bad('{"sleep_ms": 2000}', 30.0),
    "burning": Bad('{"burn_ms": 200}', 10.0),
    "raising": Bad('{"fail": "raise"}', 50.0),
    "exiting": Bad('{"fail": "exit"}', 5.0),
}
"""Sleeping asks for more than its permits, burning for all the CPU of two cores, exiting ends its process."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Of `make neighbours`."""
    parser.add_argument("--seconds", type=float, default=10.0, help="of each phase")
    parser.add_argument("--rounds", type=int, default=2, help="phases alone and beside, by turns")
    parser.add_argument("--others", type=int, default=8, help="normal projects")
    parser.add_argument("--per-second", type=float, default=100.0, help="requests of all normal projects")
    parser.add_argument("--bad", choices=BAD, action="append", help="one kind; default: all")
    parser.add_argument("--protocol", choices=[one.value for one in Protocol], default="rest")
    parser.add_argument(
        "--name", default="neighbours", help="of the file in benchmarks/results/; empty: none"
    )


def run(options: argparse.Namespace) -> int:
    """Measure and report. 1: a demand is not held. 2: the driver was the bottleneck."""
    found = asyncio.run(measure(options))
    told = facts(SHARED) | {
        "others": f"{options.others} projects, {options.per_second:g} requests a second together (Poisson)"
    }
    if why := fault(found):
        return nothing_said(told, report(found), why)
    show(options.name, told, report(found))
    return exit_code(demands(found))


async def measure(options: argparse.Namespace) -> list[Beside]:
    """All kinds, one after another, against one running system."""
    found = []
    async with running("labour") as stack:
        target = Target.of(stack.gateway, Protocol(options.protocol))
        await drive([_others(options, target, seed=0, seconds=1.0)])
        for name in options.bad or BAD:
            say(f"{name}: {options.rounds} times {options.seconds:g} s alone and as long beside it")
            found.append(await _beside(options, target, name))
    return found


async def _beside(options: argparse.Namespace, target: Target, name: str) -> Beside:
    alone: list[Drive] = []
    beside: list[Drive] = []
    bad: list[Drive] = []
    for number in range(options.rounds):
        # The same arrivals alone and beside: what differs is the bad project.
        others = _others(options, target, number + 1, options.seconds)
        alone += await drive([others])
        both = await drive([others, _bad(options, target, name, number)])
        beside.append(both[0])
        bad.append(both[1])
    return Beside(name, in_turn(alone), in_turn(beside), in_turn(bad))


def in_turn(drives: Sequence[Drive]) -> Drive:
    """Drives one after another as one: requests fall due after those of the drives before."""
    outcomes: list[Outcome] = []
    passed = 0.0
    for one in drives:
        outcomes += [
            Outcome(each.due + passed, each.late, each.milliseconds, each.kind, each.code, each.says_when)
            for each in one.outcomes
        ]
        passed += float(int(one.seconds) + 1)
    return Drive(
        drives[0].began,
        tuple(outcomes),
        sum(one.seconds for one in drives),
        sum(one.cpu_seconds for one in drives),
    )


def _others(options: argparse.Namespace, target: Target, seed: int, seconds: float) -> Plan:
    return Plan(
        protocol=target.protocol,
        address=target.address,
        path=target.path,
        projects=projects("other", options.others),
        body=NORMAL_BODY,
        seconds=seconds,
        seed=seed,
        per_second=options.per_second,
    )


def _bad(options: argparse.Namespace, target: Target, name: str, number: int) -> Plan:
    kind = BAD[name]
    return Plan(
        protocol=target.protocol,
        address=target.address,
        path=target.path,
        # A new one in each round: one that ended too often would be refused from the start.
        projects=((f"bad-{name}", f"round-{number}"),),
        body=kind.body,
        seconds=options.seconds,
        seed=100 + number,
        per_second=kind.per_second,
    )
