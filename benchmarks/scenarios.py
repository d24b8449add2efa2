# SPDX-License-Identifier: Apache-2.0
"""The request path, first requests and changes of state, each against one system with one gateway."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from benchmarks.bareproxy import bare_proxy
from benchmarks.clients import Bare, Client, Direct, Gateway, GatewayGrpc, GatewayRest, Host
from benchmarks.load import Run, closed_loop, open_loop
from benchmarks.milestones import Milestones
from benchmarks.processes import run_seconds, tree
from benchmarks.rows import Findings, Row, Scale, row_of
from benchmarks.stack import Stack

BODY = b'{"question":"' + b"x" * 180 + b'"}'
"""200 bytes of JSON, as in the design's trial."""
ROUNDS = 5
CALLERS = 32


async def clients_of(host: Host, gateway: Gateway) -> dict[str, Client]:
    """The three ways, by name."""
    return {
        "direct": await Direct(host).connect(),
        "gateway gRPC": GatewayGrpc(gateway),
        "gateway REST": GatewayRest(gateway),
    }


async def close(clients: Iterable[Client]) -> None:
    """Drop the connections of all."""
    for client in clients:
        await client.close()


def call_of(client: Client, projects: int = 1, name: str = "path") -> Any:
    """Requests to so many instances in turn."""
    return lambda number: client.invoke(f"{name}-{number % projects}", BODY)


async def request_path(stack: Stack, scale: Scale, findings: Findings) -> None:
    """Latency of one caller at a time, then of a schedule, then throughput of 32 callers, beside a proxy that
    does nothing but pass on."""
    async with bare_proxy(stack.host.address) as proxy:
        clients = await clients_of(stack.host, stack.gateway)
        clients["bare proxy"] = await Bare(stack.host, proxy.address).connect()
        try:
            await _paths(stack, clients, proxy.pid, scale, findings)
        finally:
            await close(clients.values())


async def _paths(
    stack: Stack, clients: Mapping[str, Client], proxy: int, scale: Scale, findings: Findings
) -> None:
    # Rounds alternate, so that a slow moment of the machine does not hit one way alone.
    runs = {name: Run() for name in clients}
    for _ in range(ROUNDS):
        for name, client in clients.items():
            await closed_loop(call_of(client), requests=scale.requests // 30)
            runs[name].add(await closed_loop(call_of(client), requests=scale.requests // ROUNDS))
    findings.rows += [row_of(f"{name}, one caller", run) for name, run in runs.items()]
    grpc = clients["gateway gRPC"]
    await closed_loop(call_of(grpc, CALLERS), requests=320, callers=CALLERS)
    steady = await open_loop(call_of(grpc, CALLERS), scale.steady_per_second, scale.open_seconds, seed=1)
    findings.rows.append(row_of("gateway gRPC, 500/s", steady, scale.window_seconds))
    throughput = {name: Run() for name in clients}
    used = dict.fromkeys(clients, 0.0)
    for _ in range(ROUNDS):
        for name, client in clients.items():
            before = _cpu(stack, name, proxy)
            throughput[name].add(
                await closed_loop(call_of(client, CALLERS), scale.requests // ROUNDS, callers=CALLERS)
            )
            used[name] += _cpu(stack, name, proxy) - before
    for name, run in throughput.items():
        findings.rows.append(row_of(f"{name}, 32 callers", run))
        if name != "direct" and used[name] > 0:
            part = "proxy" if name == "bare proxy" else "gateway"
            per_core = len(run.samples) / used[name]
            findings.rows.append(Row(f"{name}, per core of the {part}", figure=per_core, unit="requests/s"))


def _cpu(stack: Stack, way: str, proxy: int) -> float:
    """CPU seconds so far of the process in between. Requests by this time are what it would serve on a core
    of its own, whoever shares the machine."""
    if way == "bare proxy":
        return run_seconds(proxy)
    return sum(run_seconds(process.pid) for process in tree(stack.pid)["gateway"])


async def first_requests(stack: Stack, scale: Scale, findings: Findings) -> None:
    """The first request of an instance that nobody has: fork is ahead, ownership and setup are not."""
    client = GatewayGrpc(stack.gateway)
    run = await open_loop(
        lambda number: client.invoke(f"first-{number}", BODY), 10, scale.firsts / 10, seed=2
    )
    created = await open_loop(lambda number: _create(client, number), 10, scale.firsts / 20, seed=3)
    await client.close()
    findings.rows.append(row_of("first request of a new instance, 10/s", run))
    findings.rows.append(row_of("instance made without a request, 10/s", created))


async def _create(client: GatewayGrpc, number: int) -> None:
    await client.create(f"created-{number}")


async def leases(stack: Stack, scale: Scale, findings: Findings) -> None:
    """A lease of a resident instance taken and given back, one caller."""
    client = GatewayGrpc(stack.gateway)
    await closed_loop(call_of(client, name="leased"), 1)
    run = await closed_loop(lambda _: client.acquire_and_release("leased-0"), max(scale.requests // 10, 10))
    await client.close()
    findings.rows.append(row_of("instance acquired and released, one caller", run))


async def evicted_requests(stack: Stack, scale: Scale, findings: Findings) -> None:
    """A host full of idle instances: each request evicts one and restores another."""
    client = GatewayGrpc(stack.gateway)
    projects = 100
    await closed_loop(call_of(client, projects, "evicted"), requests=projects)
    run = await closed_loop(call_of(client, projects, "evicted"), requests=scale.firsts)
    await client.close()
    findings.rows.append(row_of("first request after eviction, host full", run))


async def state_changes(stack: Stack, scale: Scale, findings: Findings) -> None:
    """What it costs to make a change durable before the answer leaves."""
    client = GatewayGrpc(stack.gateway)
    changes = {
        "answer, unchanged": b"{}",
        "answer that changes 100 B": b'{"change":100}',
        "answer that changes 100 kB": b'{"change":100000}',
    }
    runs = {name: Run() for name in changes}
    for _ in range(ROUNDS):
        for name, body in changes.items():
            runs[name].add(await closed_loop(partial(_change, client, body), scale.requests // 15))
    await client.close()
    findings.rows += [row_of(name, run) for name, run in runs.items()]


async def _change(client: Client, body: bytes, number: int) -> Milestones | None:
    return await client.invoke("ballast", body)
