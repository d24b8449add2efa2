# SPDX-License-Identifier: Apache-2.0
"""Requests by schedule: known and new instances mixed, no spare workers left, two gateways at once."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable
from dataclasses import replace

import httpx

from benchmarks.clients import GatewayGrpc
from benchmarks.load import Run, closed_loop, open_loop
from benchmarks.milestones import Milestones
from benchmarks.rows import Findings, Row, Scale, row_of
from benchmarks.samples import Summary
from benchmarks.scenarios import BODY, CALLERS, close
from benchmarks.stack import Stack
from benchmarks.windows import quick_again

MIXED_PER_SECOND = 200.0
NEW_SHARE = 0.03
DRAIN_FACTOR = 3
"""So many times as many instances as there are spare workers are asked for at one moment."""
PROBES_PER_SECOND = 10.0
POLL_SECONDS = 0.02
SPARES_SECONDS = 30.0


async def mixed_arrivals(stack: Stack, scale: Scale, findings: Findings) -> None:
    """A schedule in which 3 of 100 requests are the first of their instance."""
    client = GatewayGrpc(stack.gateway)
    rng = random.Random(4)

    def call(number: int) -> Awaitable[Milestones | None]:
        new = rng.random() < NEW_SHARE
        return client.invoke(f"new-{number}" if new else f"known-{number % CALLERS}", BODY)

    await closed_loop(lambda number: client.invoke(f"known-{number}", BODY), CALLERS)
    run = await open_loop(call, MIXED_PER_SECOND, scale.open_seconds, seed=5)
    await client.close()
    findings.rows.append(row_of("200/s, 3 % to new instances", run, scale.window_seconds))
    hits, misses = run.split()
    for name, part in (("hits", hits), ("misses", misses)):
        if part.samples:
            findings.rows.append(row_of(f"200/s, 3 % to new instances: {name}", part, scale.window_seconds))


async def spares(stack: Stack, client: httpx.AsyncClient) -> int:
    """Workers that are forked ahead and wait, as the host reports it."""
    stats = (await client.get(f"{stack.gateway.rest}{stack.gateway.path}/stats")).json()
    return sum(host["spares"] for host in stats["hosts"])


async def drained_pool(stack: Stack, scale: Scale, findings: Findings) -> None:
    """More new instances at one moment than spare workers wait, then new ones by schedule: how long until
    first answers are as quick as before."""
    client = GatewayGrpc(stack.gateway)
    async with httpx.AsyncClient() as http:
        waiting = await _most_spares(stack, http)
        before = await _firsts(client, "undrained", scale.open_seconds / 5)
        await _most_spares(stack, http)
        start = time.perf_counter()
        refill = asyncio.create_task(_refilled(stack, http, waiting, start))
        burst = waiting * DRAIN_FACTOR
        flood = asyncio.create_task(
            closed_loop(lambda number: client.invoke(f"drain-{number}", BODY), burst, callers=burst)
        )
        after = await _firsts(client, "drained", scale.open_seconds / 3)
        drained, refilled = await flood, await refill
    await client.close()
    usual = Summary.of(before.milliseconds)
    quick = quick_again([(one.at, one.milliseconds) for one in after.samples], 2 * usual.p50)
    findings.rows += [
        row_of("first request, spare workers waiting", before),
        row_of(f"first request, {DRAIN_FACTOR} times the spare workers at once", drained),
        row_of("first request by schedule after that", after, 1.0),
        Row("spare workers", None, float(waiting), "workers"),
        _after("first answers quick again after all spare workers were used", quick, after.seconds),
        _after("spare workers all back after they were used", refilled, SPARES_SECONDS),
    ]


def _after(name: str, seconds: float | None, watched: float) -> Row:
    if seconds is None:
        return Row(name, None, watched, "s", {"note": "not within the time watched"})
    return Row(name, None, seconds, "s")


async def _firsts(client: GatewayGrpc, name: str, seconds: float) -> Run:
    return await open_loop(
        lambda number: client.invoke(f"{name}-{number}", BODY), PROBES_PER_SECOND, seconds, seed=6
    )


async def _most_spares(stack: Stack, http: httpx.AsyncClient) -> int:
    """Wait until the number of waiting workers has stopped rising; returns it."""
    most, since = 0, time.perf_counter()
    while time.perf_counter() - since < 1.0:
        now = await spares(stack, http)
        if now > most:
            most, since = now, time.perf_counter()
        await asyncio.sleep(POLL_SECONDS)
    if not most:
        raise RuntimeError("no worker is forked ahead: there is nothing to drain")
    return most


async def _refilled(stack: Stack, http: httpx.AsyncClient, wanted: int, start: float) -> float | None:
    """Seconds from `start` until all spare workers are back, after at least one was missing."""
    missing = False
    while (elapsed := time.perf_counter() - start) < SPARES_SECONDS:
        now = await spares(stack, http)
        missing = missing or now < wanted
        if missing and now >= wanted:
            return elapsed
        await asyncio.sleep(POLL_SECONDS)
    return None


async def two_gateways(stack: Stack, scale: Scale, findings: Findings) -> None:
    """The same instances through two gateways, by turns."""
    clients = [GatewayGrpc(gateway) for gateway in stack.gateways]
    names = [f"gateway {number}" for number, _ in enumerate(clients, 1)]

    def call(number: int) -> Awaitable[Milestones | None]:
        return clients[number % 2].invoke(f"pair-{number // 2 % CALLERS}", BODY)

    await closed_loop(call, requests=CALLERS * 4, callers=CALLERS)
    steady = await open_loop(call, scale.steady_per_second, scale.open_seconds, seed=7)
    findings.rows.append(row_of("two gateways, gRPC, 500/s", steady, scale.window_seconds))
    for number, name in enumerate(names):
        own = [sample for sample in steady.samples if sample.number % 2 == number]
        findings.rows.append(row_of(f"two gateways, gRPC, 500/s: {name}", replace(steady, samples=own)))
    run = await closed_loop(call, requests=scale.requests, callers=CALLERS)
    findings.rows.append(row_of("two gateways, gRPC, 32 callers", run))
    await close(clients)
