# SPDX-License-Identifier: Apache-2.0
"""Latency, first requests, throughput, memory and CPU, and the old way, in one run."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import cluster
from benchmarks.arrivals import drained_pool, mixed_arrivals, two_gateways
from benchmarks.console import RESULTS, facts, say
from benchmarks.costs import cost_curve
from benchmarks.metering import metered
from benchmarks.oldway import fresh_processes, one_shots, pooled_with_libraries
from benchmarks.report import Bar, bars, document, write
from benchmarks.rows import Findings, Scale
from benchmarks.scenarios import evicted_requests, first_requests, leases, request_path, state_changes
from benchmarks.stack import Stack, running

Scenario = Callable[[Stack, Scale, Findings], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Group:
    """Scenarios that share one running system."""

    pool: str
    scenarios: tuple[Scenario, ...]
    gateways: int = 1


GROUPS: Mapping[str, Group] = {
    "path": Group("echo", (request_path, first_requests, mixed_arrivals)),
    "pair": Group("echo", (drained_pool, two_gateways, leases), gateways=2),
    "curve": Group("echo", (cost_curve,)),
    "evicted": Group("small", (evicted_requests,)),
    "state": Group("ballast", (state_changes,)),
    "libraries": Group("laden", (pooled_with_libraries,)),
    "oneshot": Group("oneshot", (one_shots,)),
}
OLD_WAY = "oldway"
"""The one group that needs no running system."""
SCALES = {
    "full": Scale(),
    "quick": Scale(requests=600, firsts=50, residents=100, idle_seconds=6.0, open_seconds=10.0, fresh=5),
    "tiny": Scale(
        requests=60,
        firsts=20,
        residents=3,
        idle_seconds=0.3,
        open_seconds=1.0,
        steady_per_second=50.0,
        window_seconds=0.5,
        fresh=1,
    ),
}
SHARED = "driver, gateways, host, workers and redis-server share these cores"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Of `make bench` and `make bench-cluster`."""
    parser.add_argument(
        "--scale", choices=SCALES, default="full", help="how much; tiny shows nothing but that it runs"
    )
    parser.add_argument(
        "--only",
        choices=[*GROUPS, OLD_WAY],
        action="append",
        help="one group; no verdicts, files only with --name",
    )
    parser.add_argument("--cluster", action="store_true", help="on the real pods of the development cluster")
    parser.add_argument("--name", default="", help="of the files with the results; default: bench")
    parser.add_argument("--to", type=Path, default=RESULTS, help="directory for them")


def run(options: argparse.Namespace) -> int:
    """Measure and report. 1 when a figure is below its floor."""
    told = facts(SHARED)
    if options.cluster:
        told |= cluster.facts()
        rows = asyncio.run(cluster.measure())
        _report(Findings(rows), cluster.bars(rows), told, options.to / "cluster")
        return 0
    names = options.only or (*GROUPS, OLD_WAY)
    start = time.monotonic()
    findings = asyncio.run(measure(SCALES[options.scale], names))
    told["took"] = f"{time.monotonic() - start:.0f} s"
    compared = [] if options.only else bars(findings.rows)
    name = options.name or ("" if options.only else "bench")
    return _report(findings, compared, told, options.to / name if name else None)


def _report(findings: Findings, compared: Sequence[Bar], told: Mapping[str, str], path: Path | None) -> int:
    if path is not None:
        write(path, findings, compared, told)
    sys.stdout.write(document(findings, compared, told))
    return 1 if any(bar.verdict == "below" for bar in compared) else 0


async def measure(scale: Scale, names: Sequence[str]) -> Findings:
    """Everything of the groups."""
    findings = Findings()
    for name in names:
        start = time.monotonic()
        if name == OLD_WAY:
            await fresh_processes(scale, findings)
        else:
            await _group(GROUPS[name], scale, findings)
        say(f"{name} took {time.monotonic() - start:.1f} s")
    return findings


async def _group(group: Group, scale: Scale, findings: Findings) -> None:
    async with running(group.pool, group.gateways) as stack:
        for scenario in group.scenarios:
            async with metered(stack, scenario.__name__.replace("_", " "), findings.usage):
                await scenario(stack, scale, findings)
