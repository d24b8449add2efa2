# SPDX-License-Identifier: Apache-2.0
"""The base line: a fresh agent for each request, in a process of its own or, with the pool switched off, in a
one-shot instance; and the same agents pooled."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.clients import GatewayGrpc
from benchmarks.load import Run, Sample, closed_loop, open_loop
from benchmarks.metering import private_mb
from benchmarks.processes import tree
from benchmarks.rows import Findings, Row, Scale, row_of
from benchmarks.scenarios import BODY
from benchmarks.stack import ROOT, Stack

ENTRYPOINTS = {
    "Echo": "agentpool_agent.agents.echo:Echo",
    "an agent with libraries": "benchmarks.laden:Laden",
}
PROCESS_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Fresh:
    """One request and its process: milliseconds from its start to its end, as the caller waits for it."""

    constructed: float
    whole: float
    private_mb: float


async def fresh_process(entrypoint: str) -> Fresh:
    """One request the old way; RuntimeError with what the process wrote when it failed."""
    started = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "benchmarks.oneshot", entrypoint, repr(started)),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(PROCESS_SECONDS):
        out, err = await process.communicate(BODY)
    whole = time.monotonic() - started
    if process.returncode != 0:
        raise RuntimeError(f"{entrypoint}: {err.decode()[-2000:]}")
    told = json.loads(out)
    return Fresh(told["constructed"] * 1000, whole * 1000, told["private_bytes"] / 2**20)


async def fresh_processes(scale: Scale, findings: Findings) -> None:
    """One request after another, each in a process of its own; the first, which reads from disk, left out."""
    for name, entrypoint in ENTRYPOINTS.items():
        await fresh_process(entrypoint)
        start = time.perf_counter()
        seen = [await fresh_process(entrypoint) for _ in range(scale.fresh)]
        seconds = time.perf_counter() - start
        memory = sorted(one.private_mb for one in seen)
        findings.rows += [
            row_of(f"fresh process, {name}", _run([one.whole for one in seen], seconds)),
            row_of(
                f"fresh process, {name}: until constructed", _run([one.constructed for one in seen], seconds)
            ),
            Row(f"private memory of a fresh process, {name}", None, memory[len(memory) // 2], "MB"),
        ]


def _run(milliseconds: Sequence[float], seconds: float) -> Run:
    return Run([Sample(number, 0.0, one) for number, one in enumerate(milliseconds)], seconds=seconds)


async def one_shots(stack: Stack, scale: Scale, findings: Findings) -> None:
    """A pool that is switched off: each request is served by a process that is started for it. Requests of
    projects that nobody knows, and those of one project after another, which find its saved state."""
    client = GatewayGrpc(stack.gateway)
    first = await open_loop(
        lambda number: client.invoke_without_pool(f"first-{number}", BODY), 10, scale.firsts / 20, seed=9
    )
    later = await closed_loop(lambda _: client.invoke_without_pool("later", BODY), scale.requests // 10)
    await client.close()
    findings.rows += [
        row_of("one-shot instance of a new project, 10/s", first),
        row_of("one-shot instance, one caller", later),
    ]


async def pooled_with_libraries(stack: Stack, scale: Scale, findings: Findings) -> None:
    """The agent with libraries in a pool: its first answers, and later ones of one caller."""
    client = GatewayGrpc(stack.gateway)
    first = await open_loop(
        lambda number: client.invoke(f"laden-{number}", BODY), 10, scale.firsts / 20, seed=8
    )
    later = await closed_loop(lambda _: client.invoke("laden", BODY), scale.requests // 10)
    await client.close()
    workers = await asyncio.to_thread(tree, stack.pid)
    memory = sorted(private_mb((worker.pid,)) for worker in workers["worker"])
    findings.rows += [
        Row("private memory of an instance, an agent with libraries", None, memory[len(memory) // 2], "MB"),
        row_of("an agent with libraries: first request, 10/s", first),
        row_of("an agent with libraries: later requests, one caller", later),
    ]
