# SPDX-License-Identifier: Apache-2.0
"""Driver processes, started together and heard out."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from benchmarks.clients import Gateway
from benchmarks.plans import Drive, Plan, Protocol
from benchmarks.stack import ROOT

READY_SECONDS = 30.0
BEFORE_START_SECONDS = 0.2
PATIENCE_SECONDS = 60.0
"""After a plan's end, for its last answers."""
LIMIT = 256 * 1024 * 1024
"""Of one line that a driver writes: some hundred bytes for each of its requests."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a gateway is, in one protocol."""

    protocol: Protocol
    address: str
    path: str

    @classmethod
    def of(cls, gateway: Gateway, protocol: Protocol) -> Target:
        """The gateway's default pool."""
        return cls(protocol, gateway.rest if protocol is Protocol.REST else gateway.grpc, gateway.path)


async def drive(plans: Sequence[Plan]) -> list[Drive]:
    """Carry out all plans at once, each in a process of its own. RuntimeError when one of them fails."""
    processes = [await _start() for _ in plans]
    try:
        await asyncio.gather(*map(_prepare, processes, plans))
        start = time.monotonic() + BEFORE_START_SECONDS
        return list(
            await asyncio.gather(*(_finish(*pair, start) for pair in zip(processes, plans, strict=True)))
        )
    finally:
        for process in processes:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def _start() -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "benchmarks.driver"),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=LIMIT,
    )


async def _prepare(process: asyncio.subprocess.Process, plan: Plan) -> None:
    stdin, stdout = _pipes(process)
    stdin.write(msgspec.json.encode(plan) + b"\n")
    async with asyncio.timeout(READY_SECONDS):
        await stdin.drain()
        if await stdout.readline() != b"ready\n":
            raise RuntimeError("a driver did not start; what it wrote is above")


async def _finish(process: asyncio.subprocess.Process, plan: Plan, start: float) -> Drive:
    stdin, stdout = _pipes(process)
    stdin.write(f"{start!r}\n".encode())
    async with asyncio.timeout(plan.delay + plan.seconds + PATIENCE_SECONDS):
        await stdin.drain()
        text = await stdout.read()
        await process.wait()
    if process.returncode != 0:
        raise RuntimeError("a driver failed; what it wrote is above")
    return msgspec.json.decode(text, type=Drive)


def _pipes(process: asyncio.subprocess.Process) -> tuple[asyncio.StreamWriter, asyncio.StreamReader]:
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("the driver has no pipes")
    return process.stdin, process.stdout
