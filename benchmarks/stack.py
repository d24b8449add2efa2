# SPDX-License-Identifier: Apache-2.0
"""The system under test: a redis-server and `agentpool dev`, started for one group of scenarios."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from benchmarks.clients import Gateway, Host
from tools.ports import free_port

ROOT = Path(__file__).resolve().parent.parent
READY_SECONDS = 60.0
STOP_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Product:
    """Whose code runs: this checkout's, or another one's."""

    python: str = sys.executable
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stack:
    """Addresses and files of a running system.

    Attributes:
        gateways: at least one.
        pids: process ids by part; `dev` is the parent of the first gateway, hosts, zygotes and workers.
    """

    gateways: Sequence[Gateway]
    state_dir: Path
    pids: Mapping[str, int]

    @property
    def pid(self) -> int:
        """The parent of everything but Redis and further gateways."""
        return self.pids["dev"]

    @property
    def gateway(self) -> Gateway:
        """How to call the first gateway."""
        return self.gateways[0]

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


@asynccontextmanager
async def running(pool: str, gateways: int = 1, product: Product | None = None) -> AsyncIterator[Stack]:
    """Start everything for `benchmarks/pools/{pool}.yaml`, and end it again."""
    directory = _directory()
    product = product or Product()
    ports = [(free_port(), free_port()) for _ in range(gateways)]
    places = [Gateway(f"http://127.0.0.1:{rest}", f"127.0.0.1:{grpc}") for rest, grpc in ports]
    processes: dict[str, asyncio.subprocess.Process] = {}
    try:
        redis_port = free_port()
        processes["redis"] = await _start_redis(directory, redis_port)
        await _answers(redis_port)
        processes["dev"] = await _start_dev(directory, pool, redis_port, ports[0], product)
        await _ready(places[0], processes["dev"], directory / "dev.log")
        for number, (rest, grpc) in enumerate(ports[1:], 2):
            name = f"gateway {number}"
            processes[name] = await _start_gateway(directory, name, rest, grpc, product)
            await _ready(places[number - 1], processes[name], directory / f"{name}.log")
        yield Stack(places, directory / "run", {name: one.pid for name, one in processes.items()})
    finally:
        for process in reversed(processes.values()):
            await _stop(process)
        shutil.rmtree(directory, ignore_errors=True)


async def _start_redis(directory: Path, port: int) -> asyncio.subprocess.Process:
    data = directory / "redis"
    data.mkdir()
    # As in the chart: an append-only file, synced each second, and no eviction.
    options = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(data), "--save", ""]
    options += ["--appendonly", "yes", "--appendfsync", "everysec", "--maxmemory-policy", "noeviction"]
    return await asyncio.create_subprocess_exec("redis-server", *options, stdout=asyncio.subprocess.DEVNULL)


async def _answers(port: int) -> None:
    """Wait until somebody takes connections there; TimeoutError when nobody does."""
    async with asyncio.timeout(READY_SECONDS):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
                continue
            writer.close()
            return


async def _start_dev(
    directory: Path, pool: str, redis_port: int, ports: tuple[int, int], product: Product
) -> asyncio.subprocess.Process:
    command = ["-m", "agentpool_cli", "dev", str(ROOT / "benchmarks" / "pools" / f"{pool}.yaml")]
    command += ["--redis", f"redis://127.0.0.1:{redis_port}/0"]
    command += ["--port", str(ports[0]), "--grpc-port", str(ports[1])]
    command += ["--state-dir", str(directory / "run"), "--no-reload", "--app-dir", str(ROOT)]
    return await _start_python(directory / "dev.log", product, command)


async def _start_gateway(
    directory: Path, name: str, rest: int, grpc: int, product: Product
) -> asyncio.subprocess.Process:
    """One more gateway before the same hosts, with the first one's settings but for the ports."""
    settings = json.loads((directory / "run" / "gateway.json").read_text())
    settings |= {"http_listen": f"127.0.0.1:{rest}", "grpc_listen": f"127.0.0.1:{grpc}"}
    file = directory / "run" / f"{name}.json"
    file.write_text(json.dumps(settings))
    command = ["-m", "agentpool_gateway", "--settings", str(file)]
    return await _start_python(directory / f"{name}.log", product, command)


async def _start_python(log: Path, product: Product, arguments: Sequence[str]) -> asyncio.subprocess.Process:
    with log.open("wb") as file:
        return await asyncio.create_subprocess_exec(
            product.python, *arguments, stdout=file, stderr=file, env={**os.environ, **product.environment}
        )


async def _ready(gateway: Gateway, process: asyncio.subprocess.Process, log: Path) -> None:
    async with asyncio.timeout(READY_SECONDS), httpx.AsyncClient() as client:
        while True:
            if process.returncode is not None:
                told = await asyncio.to_thread(log.read_text)
                raise RuntimeError("it ended while it started:\n" + told[-4000:])
            try:
                if (await client.get(f"{gateway.rest}/readyz")).status_code == 200:
                    health = await client.get(f"{gateway.rest}{gateway.path}/health")
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
