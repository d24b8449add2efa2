# SPDX-License-Identifier: Apache-2.0
"""A master, a replica of it, and a Sentinel that watches both: real processes on loopback ports."""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from support.redis import RedisServer, redis_server
from tools.ports import free_port

SERVICE = "store"
PATIENCE_SECONDS = 60.0


class Sentinel:
    """One sentinel process."""

    def __init__(self, master: RedisServer) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="ap-sentinel-"))
        self.port = free_port()
        settings = self._folder / "sentinel.conf"
        settings.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {self._folder}\n"
            f"sentinel monitor {SERVICE} 127.0.0.1 {master.port} 1\n"
            f"sentinel down-after-milliseconds {SERVICE} 1000\n"
            f"sentinel failover-timeout {SERVICE} 3000\n"
        )
        program = shutil.which("redis-server")
        if program is None:
            raise FileNotFoundError("redis-server is not on PATH")
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [program, str(settings), "--sentinel"], stdout=log, stderr=log, process_group=0
            )

    def remove(self) -> None:
        """End it and delete its folder."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


class Replicated:
    """Master, replica and sentinel.

    Attributes:
        url: for the store; its first sentinel does not exist.
    """

    def __init__(self, master: RedisServer, replica: RedisServer, sentinel: Sentinel) -> None:
        self.master, self.replica, self.sentinel = master, replica, sentinel
        self.url = f"redis+sentinel://127.0.0.1:{free_port()},127.0.0.1:{sentinel.port}/{SERVICE}"

    async def ready(self) -> None:
        """Wait until the sentinel knows the replica, and the replica has what the master has."""
        await self._until(self.sentinel.port, ("SENTINEL", "REPLICAS", SERVICE), bool)
        await self.caught_up()

    async def caught_up(self) -> None:
        """Wait until the replica has what the master acknowledged."""
        async with Redis(port=self.master.port) as master:
            wait: Any = master.wait(1, int(PATIENCE_SECONDS * 1000))
            assert await wait == 1

    async def cut_off(self) -> None:
        """Let the replica learn nothing more of the master."""
        async with Redis(port=self.master.port) as master:
            await master.config_set("requirepass", "a password that the replica has not")
            await master.execute_command("CLIENT", "KILL", "TYPE", "replica")

    async def fail_over(self) -> None:
        """Kill the master, and wait until the replica took its place."""
        self.master.stop()
        await self._until(self.replica.port, ("ROLE",), lambda role: role[0] == b"master")
        port = str(self.replica.port).encode()
        address = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
        await self._until(self.sentinel.port, address, lambda found: bool(found) and found[1] == port)

    async def _until(self, port: int, command: tuple[str, ...], met: Any) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        async with Redis(port=port) as client:
            client.response_callbacks.clear()
            execute: Any = client.execute_command
            while True:
                try:
                    if met(await execute(*command)):
                        return
                except (OSError, ConnectionError):
                    pass
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{command} on port {port}")
                await asyncio.sleep(0.05)


@contextmanager
def replicated_redis() -> Iterator[Replicated]:
    """All three, which end with the block."""
    with redis_server(arguments=("--repl-diskless-sync-delay", "0")) as master:
        with redis_server(arguments=("--replicaof", f"127.0.0.1 {master.port}")) as replica:
            sentinel = Sentinel(master)
            try:
                yield Replicated(master, replica, sentinel)
            finally:
                sentinel.remove()
