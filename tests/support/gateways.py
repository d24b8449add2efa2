# SPDX-License-Identifier: Apache-2.0
"""Real gateway processes on loopback, for given hosts."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import httpx
import yaml

from agentpool_core.config import EffectivePool
from agentpool_rpc.tokens import TokenVerifier, generate_keypair
from support.waiting import eventually

START_SECONDS = 20.0
MEMBERSHIP = "membership.yaml"


class Host(Protocol):
    """What a membership file says of a host."""

    @property
    def pod(self) -> str: ...
    @property
    def pod_uid(self) -> str: ...
    @property
    def address(self) -> str: ...


@dataclass(frozen=True)
class HostEntry:
    """A host by its facts."""

    pod: str
    pod_uid: str
    address: str


@dataclass
class CallKeys:
    """The key pair of call tokens."""

    private: bytes
    public: bytes

    @classmethod
    def make(cls) -> CallKeys:
        """A new pair."""
        return cls(*generate_keypair())

    def verifier(self) -> TokenVerifier:
        """What a host checks with."""
        return TokenVerifier([self.public], time.time)


def write_membership(path: Path, pools: Iterable[tuple[EffectivePool, Sequence[Host]]]) -> None:
    """Write a membership file, in one step."""
    document = {
        "pools": [
            {
                "config": json.loads(config.model_dump_json()),
                "hosts": [{"pod": h.pod, "pod_uid": h.pod_uid, "address": h.address} for h in hosts],
            }
            for config, hosts in pools
        ]
    }
    draft = path.with_suffix(".draft")
    draft.write_text(yaml.safe_dump(document))
    draft.replace(path)


@dataclass
class GatewayProcess:
    """A running gateway."""

    process: asyncio.subprocess.Process
    directory: Path
    url: str
    grpc_address: str
    membership_file: Path
    clients: list[httpx.AsyncClient] = field(default_factory=list)

    @property
    def log(self) -> str:
        """Everything it logged so far."""
        return (self.directory / "gateway.log").read_text()

    def client(self, headers: Mapping[str, str] | None = None) -> httpx.AsyncClient:
        """An HTTP client of it, closed with the gateway."""
        client = httpx.AsyncClient(base_url=self.url, headers=headers or {}, timeout=30.0)
        self.clients.append(client)
        return client

    async def ready(self, seconds: float = START_SECONDS) -> None:
        """Wait until it takes requests."""
        async with httpx.AsyncClient(base_url=self.url) as client:

            async def is_ready() -> bool:
                return (await client.get("/readyz")).status_code == 200

            await eventually(is_ready, seconds)

    async def sees(self, hosts: int, seconds: float = START_SECONDS) -> None:
        """Wait until it has the snapshot of that many hosts, over all pools."""
        await eventually(lambda: self.log.count('"event": "host_watched"') >= hosts, seconds)

    async def stop(self, number: int = signal.SIGTERM) -> int:
        """End it and give its exit code."""
        if self.process.returncode is None:
            self.process.send_signal(number)
        async with asyncio.timeout(30):
            return await self.process.wait()


@asynccontextmanager
async def running_gateway(
    directory: Path,
    keys: CallKeys,
    pools: Iterable[tuple[EffectivePool, Sequence[Host]]],
    **settings: Any,
) -> AsyncIterator[GatewayProcess]:
    """A gateway on free ports of loopback, ended with the block. `settings` go over those of a trial."""
    _write_files(directory, keys, list(pools), settings)
    with open(directory / "gateway.log", "wb") as log:  # noqa: ASYNC230  # once, before anything runs
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "agentpool_gateway",
            "--settings",
            str(directory / "gateway.yaml"),
            stderr=log,
        )
    try:
        started = await _started(process, directory / "gateway.log")
        gateway = GatewayProcess(
            process,
            directory,
            url=f"http://{started['http']}",
            grpc_address=f"127.0.0.1:{started['grpc_port']}",
            membership_file=directory / MEMBERSHIP,
        )
        await gateway.ready()
        try:
            yield gateway
        finally:
            for client in gateway.clients:
                await client.aclose()
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def _write_files(
    directory: Path,
    keys: CallKeys,
    pools: list[tuple[EffectivePool, Sequence[Host]]],
    settings: Mapping[str, Any],
) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    write_membership(directory / MEMBERSHIP, pools)
    key_file = directory / "call-token.pem"
    key_file.write_bytes(keys.private)
    values = {
        "http_listen": "127.0.0.1:0",
        "grpc_listen": "127.0.0.1:0",
        "call_token_key_file": str(key_file),
        "membership_file": str(directory / MEMBERSHIP),
        "default_pool": f"{pools[0][0].namespace}/{pools[0][0].name}" if pools else None,
        "auth": {"mode": "insecure"},
        **settings,
    }
    (directory / "gateway.yaml").write_text(yaml.safe_dump(values))


async def _started(process: asyncio.subprocess.Process, log: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def look() -> bool:
        for line in log.read_text().splitlines():
            if '"event": "gateway_started"' in line:
                found.update(json.loads(line))
        return bool(found) or process.returncode is not None

    await eventually(look, START_SECONDS)
    if not found:
        raise AssertionError(f"the gateway did not start:\n{log.read_text()}")  # noqa: ASYNC240
    return found
