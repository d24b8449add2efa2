# SPDX-License-Identifier: Apache-2.0
"""Agent pods as processes on this machine: a real host, a real zygote with workers, and a client.

async with host_pod(pool_config(agent="support.agents.counter:Counter")) as pod:
    answer = await pod.client.invoke("tenant", "project", "add")
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from agentpool_agent.store import open_store
from agentpool_core.config import (
    AgentConfig,
    CheckpointConfig,
    EffectivePool,
    IsolationConfig,
    LimitsConfig,
    ResourceQuota,
    TierConfig,
    WarmupConfig,
)
from agentpool_core.lifecycle import Tier
from agentpool_core.names import Incarnation, InstanceKey
from agentpool_proto.v1 import host_pb2
from support.host_calls import ALL_VERBS, PRIVATE_KEY, PUBLIC_KEY, HostClient, Reply

TESTS = Path(__file__).parents[1]
SOURCES = (TESTS.parent / "core", TESTS.parent / "agent_container", TESTS)
START_SECONDS = 20.0
END_SECONDS = 15.0
ECHO = "agentpool_agent.agents.echo:Echo"
COUNTER = "support.agents.counter:Counter"
FAULTY = "support.agents.faulty:Faulty"

__all__ = [
    "ALL_VERBS",
    "COUNTER",
    "ECHO",
    "FAULTY",
    "PRIVATE_KEY",
    "PUBLIC_KEY",
    "HostClient",
    "HostPod",
    "Reply",
    "create_pool",
    "host_pod",
    "instance_id",
    "pool_config",
]

_pods = itertools.count(1)


def pool_config(
    *,
    agent: str = ECHO,
    config: Mapping[str, Any] | None = None,
    storage: str = "Memory",
    durability: str = "Response",
    interval_seconds: float = 60.0,
    idle_seconds: int | None = 300,
    instances_per_host: int = 50,
    min_instances: int = 0,
    max_instances: int = 1000,
    concurrent: int = 200,
    per_minute: int = 1_000_000,
    memory_bytes: int = 128 * 1024 * 1024,
    cpu_millis: int = 500,
    spares: int = 2,
    uid: str = "pool-uid",
    generation: int = 1,
    required: tuple[str, ...] = (),
    limits: Mapping[str, Any] | None = None,
    **more: Any,
) -> EffectivePool:
    """The effective configuration of pool default/support, with room for everything by default; `more`:
    further parts of it, such as recovery and health, as dictionaries."""
    quota = _quota(memory_bytes, cpu_millis, concurrent, per_minute)
    return EffectivePool(
        namespace="default",
        name="support",
        uid=uid,
        generation=generation,
        agent=AgentConfig(entrypoint=agent, config=dict(config or {})),
        tiers=_tiers(quota, max_instances, idle_seconds),
        instances_per_host=instances_per_host,
        warmup=WarmupConfig(enabled=spares > 0, count=spares),
        limits=_limits(max_instances, min_instances, limits or {}),
        checkpoint=_checkpoint(storage, durability, interval_seconds),
        isolation=IsolationConfig(required=required),
        **more,
    )


def _limits(most: int, least: int, others: Mapping[str, Any]) -> LimitsConfig:
    return LimitsConfig.model_validate({"max_instances": most, "min_instances": least, **others})


def _checkpoint(storage: str, durability: str, interval_seconds: float) -> CheckpointConfig:
    saved = {"storage": storage, "durability": durability, "interval_seconds": interval_seconds}
    return CheckpointConfig.model_validate(saved)


def _quota(memory_bytes: int, cpu_millis: int, concurrent: int, per_minute: int) -> ResourceQuota:
    return ResourceQuota(
        memory_bytes=memory_bytes,
        cpu_millis=cpu_millis,
        concurrent_requests=concurrent,
        requests_per_minute=per_minute,
    )


def _tiers(quota: ResourceQuota, most: int, idle: int | None) -> dict[Tier, TierConfig]:
    return {
        tier: TierConfig(
            tier=tier, quota=quota, max_instances=most, idle_seconds=None if tier is Tier.HOT else idle
        )
        for tier in Tier
    }


def instance_id(tenant: str, project: str) -> str:
    """The id of an instance of pool default/support."""
    return InstanceKey("default", "support", tenant, project).instance_id


class HostPod:
    """One agent pod as two processes; `start_host` again after `kill_host` is a container restart."""

    def __init__(self, config: EffectivePool | None, options: Mapping[str, Any]) -> None:
        number = next(_pods)
        self.name = f"pod-{number}"
        self.uid = f"uid-{number}-{os.getpid()}"
        self.config = config
        self.folder = Path(tempfile.mkdtemp(prefix="ap-pod-"))
        self.address = ""
        self.host: asyncio.subprocess.Process | None = None
        self.zygote: asyncio.subprocess.Process | None = None
        self._client: HostClient | None = None
        self._options = options
        self._sources: tuple[Path, ...] = options.get("sources", SOURCES)
        self._keeper: asyncio.Task[None] | None = None
        self._closing = False
        self._log: str | None = None

    @property
    def client(self) -> HostClient:
        """A client of the present host process."""
        assert self._client is not None
        return self._client

    @property
    def incarnation(self) -> Incarnation:
        """Of the present host process."""
        return Incarnation.parse(self.client.incarnation)

    @property
    def log(self) -> str:
        """What host and zygote wrote; kept when the pod is closed."""
        if self._log is None:
            return (self.folder / "log").read_text()
        return self._log

    async def start_host(self, *, configure: bool = True) -> None:
        """Start the host process and wait until it serves; with a configuration, until it is ready."""
        address_file = self.folder / "address"
        address_file.unlink(missing_ok=True)
        (self.folder / "key.pem").write_bytes(PUBLIC_KEY)
        self.host = await self._run("agentpool_agent.host", *self._arguments(address_file, configure))
        async with asyncio.timeout(START_SECONDS):
            while not address_file.exists():  # another process writes it
                if self.host.returncode is not None:
                    raise AssertionError(self.log)
                await asyncio.sleep(0.01)
        self.address = address_file.read_text()
        incarnation = await self._incarnation()
        if self._client is not None:
            await self._client.close()
        self._client = HostClient(self.address, incarnation)

    async def start_zygote(self) -> None:
        """Start the zygote, and again whenever it ends, as a container restart would."""
        await self._start_zygote()
        self._keeper = asyncio.get_running_loop().create_task(self._keep_zygote())

    async def _start_zygote(self) -> None:
        agent = self._options.get("agent") or (self.config.agent.entrypoint if self.config else ECHO)
        work = self.folder / "work"
        work.mkdir(mode=0o700, exist_ok=True)
        paths = itertools.chain.from_iterable(("--app-dir", str(path)) for path in self._sources)
        arguments = ("--socket", str(self.folder / "zygote.sock"), "--entrypoint", agent)
        self.zygote = await self._run("agentpool_agent.zygote", *arguments, "--work-dir", str(work), *paths)

    async def _keep_zygote(self) -> None:
        while True:
            assert self.zygote is not None
            await self.zygote.wait()
            if self._closing:
                return
            await asyncio.sleep(0.05)
            await self._start_zygote()

    async def wait_ready(self, seconds: float = START_SECONDS) -> None:
        """Wait until the host says that it takes requests."""
        async for status in self.statuses(seconds):
            if status.ready:
                return

    async def statuses(self, seconds: float = START_SECONDS) -> AsyncIterator[host_pb2.HostStatus]:
        """The host's own status, whenever it changes."""
        metadata = self.client.metadata(audience=self.uid)
        async with asyncio.timeout(seconds):
            async for event in self.client.stub.Watch(host_pb2.WatchRequest(), metadata=metadata):
                kind = getattr(event, event.WhichOneof("event"))
                if kind.HasField("host"):
                    yield kind.host

    async def kill_host(self) -> Incarnation:
        """SIGKILL the host; the incarnation that ended."""
        assert self.host is not None
        ended = self.incarnation
        self.host.kill()
        await self.host.wait()
        return ended

    async def lose_zygote(self) -> None:
        """SIGKILL the zygote, in a pod whose containers are not started again."""
        assert self.zygote is not None
        if self._keeper is not None:
            self._keeper.cancel()
        self.zygote.kill()
        await self.zygote.wait()

    async def drain_host(self, seconds: float = END_SECONDS) -> int:
        """SIGTERM the host and wait for its end; its exit status."""
        assert self.host is not None
        self.host.send_signal(signal.SIGTERM)
        async with asyncio.timeout(seconds):
            return await self.host.wait()

    async def close(self) -> None:
        """End both processes."""
        self._closing = True
        if self._client is not None:
            await self._client.close()
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
        for process in (self.host, self.zygote):
            if process is not None and process.returncode is None:
                process.kill()
                await process.wait()
        self._log = self.log
        await asyncio.to_thread(shutil.rmtree, self.folder, True)

    def _arguments(self, address_file: Path, configure: bool) -> list[str]:
        arguments = [
            "--listen",
            self.address or "127.0.0.1:0",
            "--run-dir",
            str(self.folder),
            "--pod",
            self.name,
        ]
        arguments += ["--pod-uid", self.uid, "--address-file", str(address_file)]
        arguments += ["--public-key-file", str(self.folder / "key.pem")]
        if configure and self.config is not None:
            (self.folder / "pool.json").write_text(self.config.model_dump_json())
            arguments += ["--config-file", str(self.folder / "pool.json")]
        if self._options.get("redis_url"):
            (self.folder / "redis").write_text(self._options["redis_url"])
            arguments += ["--redis-url-file", str(self.folder / "redis")]
        for name in (
            "role",
            "tiers",
            "reserved_for",
            "drain_seconds",
            "hang_seconds",
            "terminate_grace_seconds",
            "metrics_port",
            "log_level",
        ):
            if name in self._options:
                arguments += [f"--{name.replace('_', '-')}", str(self._options[name])]
        if self._options.get("instance_metrics"):
            arguments.append("--instance-metrics")
        return arguments

    async def _run(self, module: str, *arguments: str) -> asyncio.subprocess.Process:
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(map(str, self._sources))}
        environment |= self._options.get("environment", {})
        with (self.folder / "log").open("ab") as log:
            return await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-m", module, *arguments, env=environment, stdout=log, stderr=log
            )

    async def _incarnation(self) -> str:
        client = HostClient(self.address, self.uid)
        try:
            async with asyncio.timeout(START_SECONDS):
                watch = client.stub.Watch(host_pb2.WatchRequest(), metadata=client.metadata())
                event = await watch.read()
                watch.cancel()
                return str(event.snapshot.host.incarnation)
        finally:
            await client.close()


async def create_pool(config: EffectivePool, redis_url: str) -> None:
    """What whoever creates a pool does to the store: say that it is new."""
    store = open_store(redis_url, pool_uid=config.uid, namespace=config.namespace, pool=config.name)
    try:
        await store.initialise()
    finally:
        await store.close()


@contextlib.asynccontextmanager
async def host_pod(config: EffectivePool | None = None, **options: Any) -> AsyncIterator[HostPod]:
    """A pod that is ready when there is a configuration, and gone at the end of the block.

    Args:
        config: what the host is configured with at its start; None: it waits for `Configure`.
        options: agent, redis_url, role, tiers, drain_seconds, hang_seconds, metrics_port, log_level,
            environment, sources (folders with the code that it runs; default: this checkout's).
    """
    pod = HostPod(config, options)
    try:
        if config is not None and options.get("redis_url"):
            await create_pool(config, options["redis_url"])
        await pod.start_host()
        await pod.start_zygote()
        if config is not None:
            await pod.wait_ready()
        yield pod
    except BaseException:
        sys.stderr.write(pod.log)
        raise
    finally:
        await pod.close()
