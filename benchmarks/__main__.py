# SPDX-License-Identifier: Apache-2.0
"""`make bench`: run every scenario on this machine, print the tables, write them to benchmarks/results/."""

from __future__ import annotations

import argparse
import asyncio
import shlex
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from benchmarks import cluster
from benchmarks.report import bars, table, write
from benchmarks.samples import machine
from benchmarks.scenarios import (
    Row,
    Scale,
    evicted_requests,
    first_requests,
    request_path,
    residents,
    state_changes,
)
from benchmarks.stack import Stack, running

Scenario = Callable[[Stack, Scale], Awaitable[list[Row]]]
GROUPS: dict[str, tuple[Scenario, ...]] = {
    "echo": (request_path, first_requests, residents),
    "small": (evicted_requests,),
    "ballast": (state_changes,),
}
"""Scenarios by the pool that they run against."""
QUICK = Scale(requests=500, firsts=50, residents=100, idle_seconds=10.0, open_seconds=5.0)
RESULTS = Path(__file__).parent / "results"


async def measure(scale: Scale, groups: Sequence[str]) -> list[Row]:
    """Every row of the groups."""
    rows: list[Row] = []
    for pool in groups:
        scenarios = GROUPS[pool]
        async with running(pool) as stack:
            for scenario in scenarios:
                start = time.monotonic()
                rows += await scenario(stack, scale)
                _say(f"{scenario.__name__} took {time.monotonic() - start:.1f} s")
    return rows


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def main() -> int:
    """Parse the options, measure, report. Exit code 1 when a figure is below its floor."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the requests, for a first look")
    parser.add_argument("--cluster", action="store_true", help="on the real pods of the development cluster")
    parser.add_argument("--only", choices=GROUPS, action="append", help="one group; rows only, no verdicts")
    parser.add_argument("--name", default="latest", help="name of the files in benchmarks/results/")
    options = parser.parse_args()
    facts = machine() | {
        "command": shlex.join([Path(sys.argv[0]).parent.name, *sys.argv[1:]]),
        "at": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "shared": "driver, gateway, host, workers and redis-server share these cores",
    }
    if options.cluster:
        facts |= cluster.facts()
        rows = asyncio.run(cluster.measure())
        compared = cluster.bars(rows)
        write(RESULTS / "cluster", rows, compared, facts)
        sys.stdout.write(table(rows, compared, facts))
        return 0
    rows = asyncio.run(measure(QUICK if options.quick else Scale(), options.only or tuple(GROUPS)))
    compared = [] if options.only else bars(rows)
    if not options.only:
        write(RESULTS / options.name, rows, compared, facts)
    sys.stdout.write(table(rows, compared, facts))
    return 1 if any(bar.verdict == "below" for bar in compared) else 0


if __name__ == "__main__":
    sys.exit(main())
