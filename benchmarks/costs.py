# SPDX-License-Identifier: Apache-2.0
"""What 1, 10, 100 and 1,000 resident instances cost: memory, CPU at rest, and the time of an answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from benchmarks.clients import GatewayGrpc
from benchmarks.load import Run, closed_loop
from benchmarks.processes import Process, private_bytes, run_seconds, tree
from benchmarks.rows import CostPoint, Findings, Row, Scale, row_of
from benchmarks.samples import Summary
from benchmarks.scenarios import BODY, call_of
from benchmarks.stack import Stack

SIZES = (1, 10, 100, 1000)
OBSERVED_STARTS = 20
STARTS_PER_SECOND = 10.0
ANSWERS_EACH = 10
SETTLE_SECONDS = 2.0
PROJECT = "resident"


def sizes(largest: int) -> list[int]:
    """Numbers of instances to look at, the largest last."""
    return [*(size for size in SIZES if size < largest), largest]


async def cost_curve(stack: Stack, scale: Scale, findings: Findings) -> None:
    """Grow one host step by step; the last step's figures are held against the targets."""
    client = GatewayGrpc(stack.gateway)
    have = 0
    empty = await _idle_percent(stack, scale.idle_seconds / 3)
    findings.rows.append(Row("idle CPU of host and zygote without instances", None, empty, "% of a core"))
    for size in sizes(scale.residents):
        last = size == scale.residents
        filled, started = await _grow(client, have, size)
        have = size
        asked = await closed_loop(call_of(client, size, PROJECT), size * (ANSWERS_EACH - 1), callers=16)
        await asyncio.sleep(SETTLE_SECONDS)
        idle = await _idle_percent(stack, scale.idle_seconds if last else scale.idle_seconds / 3)
        one = await closed_loop(call_of(client, size, PROJECT), max(scale.requests // 10, size))
        for run in (filled, started, asked, one):
            if run.errors:
                raise RuntimeError(f"{size} instances: {len(run.errors)} failed, first: {run.errors[0]}")
        point, parts = await asyncio.to_thread(_point, stack, size, idle, one, started)
        findings.costs.append(point)
        if last:
            if filled.samples:
                findings.rows.append(row_of(f"filling up to {size} instances, 4 callers", filled))
            findings.rows.append(row_of(f"{size} instances resident, 16 callers", asked))
            findings.rows += _rows(point, parts)
    await client.close()


async def _grow(client: GatewayGrpc, have: int, size: int) -> tuple[Run, Run]:
    """Make instances resident; the last few come one by one, so that their time is that of one start."""
    observed = min(OBSERVED_STARTS, size - have)
    fast = size - have - observed
    filled = await closed_loop(
        lambda number: client.invoke(f"{PROJECT}-{have + number}", BODY), fast, callers=4
    )
    # A schedule draws how many arrivals there are; here their number is fixed, and their distance.
    started = Run()
    for number in range(have + fast, size):
        begin = time.perf_counter()
        started.add(await closed_loop(lambda _, n=number: client.invoke(f"{PROJECT}-{n}", BODY), 1))  # type: ignore[misc]
        await asyncio.sleep(max(1 / STARTS_PER_SECOND - (time.perf_counter() - begin), 0))
    return filled, started


def _agents(stack: Stack) -> dict[str, list[Process]]:
    parts = tree(stack.pid)
    return {part: parts.get(part, []) for part in ("worker", "host", "zygote")}


async def _idle_percent(stack: Stack, seconds: float) -> float:
    """CPU of host, zygote and workers while nobody asks, percent of a core."""
    before = await asyncio.to_thread(_run_seconds, stack)
    await asyncio.sleep(seconds)
    after = await asyncio.to_thread(_run_seconds, stack)
    return 100 * sum(now - before.get(pid, 0.0) for pid, now in after.items()) / seconds


def _run_seconds(stack: Stack) -> dict[int, float]:
    return {one.pid: run_seconds(one.pid) for group in _agents(stack).values() for one in group}


def _point(
    stack: Stack, size: int, idle: float, one: Run, started: Run
) -> tuple[CostPoint, dict[str, float]]:
    agents = _agents(stack)
    workers = sorted(private_bytes(worker.pid) / 2**20 for worker in agents["worker"])
    parts = tree(stack.pid)
    own = {name: private_bytes(parts[name][0].pid) / 2**20 for name in ("host", "gateway", "zygote")}
    # Spare workers are smaller than busy ones: the median is taken of the largest, which serve.
    serving = workers[-size:]
    point = CostPoint(
        instances=size,
        memory_mb=_median(serving),
        total_mb=sum(workers) + own["host"] + own["zygote"],
        idle_percent=idle,
        answer=Summary.of(one.milliseconds),
        activation=Summary.of(started.milliseconds),
    )
    return point, own | {"largest": serving[-1]}


def _median(ordered: Sequence[float]) -> float:
    return ordered[len(ordered) // 2]


def _rows(point: CostPoint, parts: dict[str, float]) -> list[Row]:
    """The figures of the largest number that targets are about."""
    return [
        Row("instances resident", None, float(point.instances), "instances"),
        Row(
            "private memory of an instance, median",
            None,
            point.memory_mb,
            "MB",
            {"largest": round(parts["largest"], 2)},
        ),
        Row(
            "idle CPU of an instance, host and zygote included",
            None,
            point.idle_percent / point.instances,
            "% of a core",
        ),
        *(
            Row(f"private memory of the {part}", None, parts[part], "MB")
            for part in ("host", "gateway", "zygote")
        ),
    ]
