# SPDX-License-Identifier: Apache-2.0
"""What is measured. Each scenario returns rows of figures; the report compares them with the targets."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from benchmarks.clients import Client, Direct, Gateway, GatewayGrpc, GatewayRest, Host
from benchmarks.load import Run, closed_loop, open_loop
from benchmarks.processes import Process, private_bytes, tree
from benchmarks.samples import Summary
from benchmarks.stack import Stack

BODY = b'{"question":"' + b"x" * 180 + b'"}'
"""200 bytes of JSON, as in the design's trial."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How long and how much."""

    requests: int = 3000
    firsts: int = 200
    residents: int = 1000
    idle_seconds: float = 60.0
    open_seconds: float = 15.0


@dataclass(slots=True)
class Row:
    """One measured thing: times by percentile, or a figure with its unit."""

    name: str
    times: Summary | None = None
    figure: float | None = None
    unit: str = ""
    notes: dict[str, Any] = field(default_factory=dict)


def row_of(name: str, run: Run) -> Row:
    """The times of a run; RuntimeError when a request failed."""
    if run.errors:
        raise RuntimeError(f"{name}: {len(run.errors)} requests failed, first: {run.errors[0]}")
    notes = {"per_second": round(run.per_second), "driver_cores": round(run.driver_cores, 2)}
    return Row(name, Summary.of(run.milliseconds), notes=notes)


async def clients_of(host: Host, gateway: Gateway) -> dict[str, Client]:
    """The three ways, by name."""
    return {
        "direct": await Direct(host).connect(),
        "gateway gRPC": GatewayGrpc(gateway),
        "gateway REST": GatewayRest(gateway),
    }


async def request_path(stack: Stack, scale: Scale) -> list[Row]:
    """Latency of one caller at a time, then of a schedule, then throughput of 32 callers."""
    clients = await clients_of(stack.host, stack.gateway)
    rows = []

    def call(client: Client, projects: int = 1) -> Any:
        return lambda number: client.invoke(f"path-{number % projects}", BODY)

    # Rounds alternate, so that a slow moment of the machine does not hit one way alone.
    runs = {name: Run() for name in clients}
    for _ in range(5):
        for name, client in clients.items():
            await closed_loop(call(client), requests=100)
            run = await closed_loop(call(client), requests=scale.requests // 5)
            add(runs[name], run)
    rows += [row_of(f"{name}, one caller", run) for name, run in runs.items()]
    grpc = clients["gateway gRPC"]
    await closed_loop(call(grpc, projects=32), requests=320, callers=32)
    rows.append(
        row_of("gateway gRPC, 500/s", await open_loop(call(grpc, 32), 500, scale.open_seconds, seed=1))
    )
    for name, client in clients.items():
        before = gateway_cpu(stack)
        run = await closed_loop(call(client, projects=32), requests=scale.requests, callers=32)
        used = gateway_cpu(stack) - before
        rows.append(row_of(f"{name}, 32 callers", run))
        if used > 0.1:
            rows.append(
                Row(f"{name}, per core of the gateway", figure=scale.requests / used, unit="requests/s")
            )
    await _close(clients.values())
    return rows


def gateway_cpu(stack: Stack) -> float:
    """CPU seconds of the gateway process so far. Requests by this time are what it would serve on a core of
    its own, whoever shares the machine."""
    return sum(process.cpu_seconds for process in tree(stack.pid)["gateway"])


def add(total: Run, run: Run) -> None:
    """Count a round of a scenario into its whole."""
    total.milliseconds += run.milliseconds
    total.errors += run.errors
    total.seconds += run.seconds
    total.driver_cpu_seconds += run.driver_cpu_seconds


async def first_requests(stack: Stack, scale: Scale) -> list[Row]:
    """The first request of an instance that nobody has: fork is ahead, ownership and setup are not."""
    client = GatewayGrpc(stack.gateway)
    run = await open_loop(
        lambda number: client.invoke(f"first-{number}", BODY), 10, scale.firsts / 10, seed=2
    )
    await client.close()
    return [row_of("first request of a new instance, 10/s", run)]


async def evicted_requests(stack: Stack, scale: Scale) -> list[Row]:
    """A host full of idle instances: each request evicts one and restores another."""
    client = GatewayGrpc(stack.gateway)
    projects = 100
    await closed_loop(lambda number: client.invoke(f"evicted-{number}", BODY), requests=projects)
    run = await closed_loop(
        lambda number: client.invoke(f"evicted-{number % projects}", BODY), requests=scale.firsts
    )
    await client.close()
    return [row_of("first request after eviction, host full", run)]


async def state_changes(stack: Stack, scale: Scale) -> list[Row]:
    """What it costs to make a change durable before the answer leaves."""
    client = GatewayGrpc(stack.gateway)
    changes = {"unchanged": b"{}", "changes 100 B": b'{"change":100}', "changes 100 kB": b'{"change":100000}'}
    runs = {name: Run() for name in changes}
    for _ in range(5):
        for name, body in changes.items():
            run = await closed_loop(partial(_change, client, body), scale.requests // 15)
            add(runs[name], run)
    await client.close()
    return [
        row_of(f"answer that {name}" if "changes" in name else "answer, unchanged", run)
        for name, run in runs.items()
    ]


async def _change(client: Client, body: bytes, number: int) -> None:
    await client.invoke("ballast", body)


async def residents(stack: Stack, scale: Scale) -> list[Row]:
    """Many instances at once: memory after ten answers each, and CPU while nobody asks."""
    client = GatewayGrpc(stack.gateway)

    def call(number: int) -> Any:
        return client.invoke(f"resident-{number % scale.residents}", BODY)

    filled = await closed_loop(call, requests=scale.residents, callers=4)
    answered = await closed_loop(call, requests=scale.residents * 9, callers=16)
    await asyncio.sleep(2)
    before = await asyncio.to_thread(tree, stack.pid)
    await asyncio.sleep(scale.idle_seconds)
    after = await asyncio.to_thread(tree, stack.pid)
    workers = sorted(private_bytes(worker.pid) / 2**20 for worker in after["worker"])
    used = _cpu(after) - _cpu(before)
    await client.close()
    per_instance = 100 * used / scale.idle_seconds / scale.residents
    return [
        row_of(f"filling {scale.residents} instances, 4 callers", filled),
        row_of(f"{scale.residents} instances resident, 16 callers", answered),
        Row("instances resident", figure=float(scale.residents), unit="instances"),
        Row(
            "private memory of an instance, median",
            figure=workers[len(workers) // 2],
            unit="MB",
            notes={"largest": round(workers[-1], 2)},
        ),
        Row("idle CPU of an instance, host and zygote included", figure=per_instance, unit="% of a core"),
        *(
            Row(f"private memory of the {part}", figure=private_bytes(after[part][0].pid) / 2**20, unit="MB")
            for part in ("host", "gateway", "zygote")
        ),
    ]


def _cpu(processes: dict[str, list[Process]]) -> float:
    return sum(one.cpu_seconds for part in ("worker", "host", "zygote") for one in processes.get(part, ()))


async def _close(clients: Sequence[Client] | Any) -> None:
    for client in clients:
        await client.close()
