# SPDX-License-Identifier: Apache-2.0
"""Moderate load for long, one stream of ten left midway: whether gateway and host keep their size."""

from __future__ import annotations

import argparse
import asyncio

import httpx

from benchmarks.console import facts, say, show
from benchmarks.demands import exit_code
from benchmarks.drivers import Target, drive
from benchmarks.plans import Plan, Protocol, projects
from benchmarks.soak_report import CANCELLED_SHARE, Slice, demands, line, report, slice_of
from benchmarks.stack import Stack, running
from benchmarks.watch import watched

SHARED = "driver (a process of its own), gateway, host, workers and redis-server share these cores"
BODY = '{"chunks": 8, "pause_ms": 25}'
PROJECTS = 20
SLICE_SECONDS = 60.0
SLICES_AT_LEAST = 10
"""A short soak has shorter slices, so that there is something to compare."""
WATCH_SECONDS = 5.0
QUIET_SECONDS = 10.0


def add_options(parser: argparse.ArgumentParser) -> None:
    """Of `make soak`."""
    parser.add_argument("--seconds", type=float, default=1800.0, help="how long")
    parser.add_argument("--per-second", type=float, default=60.0, help="streams that begin (Poisson)")
    parser.add_argument("--protocol", choices=[one.value for one in Protocol], default="rest")
    parser.add_argument("--name", default="soak", help="of the file in benchmarks/results/; empty: none")


def run(options: argparse.Namespace) -> int:
    """Measure and report. 1: a demand is not held."""
    slices, left = asyncio.run(measure(options))
    told = facts(SHARED) | {
        "streams": f"{options.per_second:g} a second ({options.protocol}), {CANCELLED_SHARE:.0%} left midway"
    }
    show(options.name, told, report(slices, left))
    return exit_code(demands(slices, left))


async def measure(options: argparse.Namespace) -> tuple[list[Slice], int]:
    """All slices, and the requests that hosts still count when everybody has gone."""
    length = min(SLICE_SECONDS, options.seconds / SLICES_AT_LEAST)
    slices: list[Slice] = []
    async with running("labour") as stack:
        target = Target.of(stack.gateway, Protocol(options.protocol))
        for number in range(round(options.seconds / length)):
            async with watched(stack, min(WATCH_SECONDS, length / 2)) as looks:
                (done,) = await drive([_plan(options, target, number, length)])
            slices.append(slice_of(done, looks))
            say(line(number + 1, slices[-1]))
        return slices, await _in_flight(stack)


def _plan(options: argparse.Namespace, target: Target, seed: int, seconds: float) -> Plan:
    return Plan(
        protocol=target.protocol,
        address=target.address,
        path=target.path,
        projects=projects("soak", PROJECTS),
        body=BODY,
        seconds=seconds,
        seed=seed,
        per_second=options.per_second,
        stream=True,
        cancel_share=CANCELLED_SHARE,
    )


async def _in_flight(stack: Stack) -> int:
    """Requests that hosts still work on, after they had time to end."""
    address = f"{stack.gateway.rest}{stack.gateway.path}/stats"
    left = -1
    async with httpx.AsyncClient() as http:
        for _ in range(round(QUIET_SECONDS / 0.5)):
            hosts = (await http.get(address)).json()["hosts"]
            left = sum(host["active_requests"] for host in hosts)
            if not left:
                break
            await asyncio.sleep(0.5)
    return left
