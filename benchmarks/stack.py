# SPDX-License-Identifier: Apache-2.0
"""The system under test: a redis-server and `agentpool dev`, started for one group of scenarios."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks.clients import Gateway, Host

ROOT = Path(__file__).resolve().parent.parent
READY_SECONDS = 60.0
STOP_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Stack:
    """Addresses and files of a running system."""

    rest: str
    grpc: str
    state_dir: Path
    pid: int

    @property
    def gateway(self) -> Gateway:
        """How to call the gateway."""
        return Gateway(self.rest, self.grpc)

    @property
    def host(self) -> Host:
        """The one host; the driver of direct calls signs with the gateway's key."""
        membership = json.loads((self.state_dir / "membership.json").read_text())
        found = membership["pools"][0]["hosts"][0]
        key = (self.state_dir / "call-token.pem").read_bytes()
        return Host(found["pod_uid"], found["address"], key)


def _directory() -> Path:
    # Short, for the sockets in it; passable, because hosts and workers run as other users.
    directory = Path(tempfile.mkdtemp(prefix="apb-"))
    directory.chmod(0o711)
    return directory


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@asynccontextmanager
async def running(pool: str) -> AsyncIterator[Stack]:
    """Start everything for `benchmarks/pools/{pool}.yaml`, and end it again."""
    directory = _directory()
    redis_port, rest, grpc = _free_port(), _free_port(), _free_port()
    processes: list[asyncio.subprocess.Process] = []
    try:
        processes.append(await _start_redis(directory, redis_port))
        processes.append(await _start_dev(directory, pool, redis_port, rest, grpc))
        stack = Stack(f"http://127.0.0.1:{rest}", f"127.0.0.1:{grpc}", directory / "run", processes[1].pid)
        await _ready(stack, processes[1], directory)
        yield stack
    finally:
        for process in reversed(processes):
            await _stop(process)
        shutil.rmtree(directory, ignore_errors=True)


async def _start_redis(directory: Path, port: int) -> asyncio.subprocess.Process:
    data = directory / "redis"
    data.mkdir()
    # As in the chart: an append-only file, synced each second, and no eviction.
    options = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(data), "--save", ""]
    options += ["--appendonly", "yes", "--appendfsync", "everysec", "--maxmemory-policy", "noeviction"]
    return await asyncio.create_subprocess_exec("redis-server", *options, stdout=asyncio.subprocess.DEVNULL)


async def _start_dev(
    directory: Path, pool: str, redis_port: int, rest: int, grpc: int
) -> asyncio.subprocess.Process:
    log = (directory / "dev.log").open("wb")
    command = [
        sys.executable,
        "-m",
        "agentpool_cli",
        "dev",
        str(ROOT / "benchmarks" / "pools" / f"{pool}.yaml"),
    ]
    command += ["--redis", f"redis://127.0.0.1:{redis_port}/0", "--port", str(rest), "--grpc-port", str(grpc)]
    command += ["--state-dir", str(directory / "run"), "--no-reload", "--app-dir", str(ROOT)]
    return await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log)


async def _ready(stack: Stack, dev: asyncio.subprocess.Process, directory: Path) -> None:
    async with asyncio.timeout(READY_SECONDS), httpx.AsyncClient() as client:
        while True:
            if dev.returncode is not None:
                raise RuntimeError("agentpool dev ended:\n" + (directory / "dev.log").read_text()[-4000:])
            try:
                if (await client.get(f"{stack.rest}/readyz")).status_code == 200:
                    health = await client.get(f"{stack.rest}/api/v1/pool/health")
                    if health.status_code == 200:
                        return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.1)


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
