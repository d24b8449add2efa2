# SPDX-License-Identifier: Apache-2.0
"""For programs that were written before the pool: one adapter per process, from the environment.

    adapter = await get_global_adapter()
    output = await adapter.process("acme", "handbook", question, otherwise=answer_without_pool)

| variable | meaning |
|---|---|
| `AGENT_POOL_ENABLED` | `false`: there is no pool, and every request is done the old way |
| `AGENTPOOL_CLIENT_URL` | the gateway's gRPC port, `grpc://HOST:PORT`; default `grpc://127.0.0.1:9000` |
| `AGENTPOOL_CLIENT_POOL` | `NAMESPACE/NAME`; default: the gateway's default pool |
| `AGENTPOOL_CLIENT_TOKEN_FILE` | file with the bearer token; default: none |
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Generator, Mapping
from typing import Any

from agentpool_client._async.pool import AgentPool
from agentpool_client.answers import InstanceInfo, Stats
from agentpool_core.config import VARIABLES
from agentpool_core.errors import AgentPoolError, InstanceNotFound, InvalidRequest, PoolDisabled, Unavailable
from agentpool_core.lifecycle import Tier

DEFAULT_URL = "grpc://127.0.0.1:9000"
STATS_SECONDS = 1.0
"""Statistics that `get_stats` gives are read again by `get_global_adapter` when they are older."""
STATS_PATIENCE_SECONDS = 2.0

Otherwise = Callable[[Any], Awaitable[Any]]


class PoolManager:
    """The pool as older programs know it. `get_stats` is synchronous, everything else is awaited."""

    def __init__(self, pool: AgentPool) -> None:
        self.pool = pool
        self._stats: Stats | None = None
        self._read_at = float("-inf")

    def get_stats(self) -> Stats:
        """The statistics that were read last, without I/O; not to be awaited. Unavailable when there are
        none."""
        if self._stats is None:
            raise Unavailable("No statistics could be read yet.", remedy="Await get_global_adapter() again.")
        return self._stats

    async def classify_project(self, tenant_id: str, project_id: str) -> Tier | None:
        """The tier that the pool has a project's instance in; None when there is no instance."""
        found = await self._find(tenant_id, project_id)
        return found.tier if found is not None else None

    async def set_project_tier(self, tenant_id: str, project_id: str, tier: Tier | str) -> InstanceInfo:
        """Move a project's instance to a tier and keep it there; InstanceNotFound."""
        return await self.pool.instances.move(await self._id(tenant_id, project_id), tier)

    async def get_or_create_instance(
        self, tenant_id: str, project_id: str, tier: Tier | str = ""
    ) -> InstanceInfo:
        """A project's instance, made resident."""
        return await self.pool.instances.create(tenant_id, project_id, tier)

    async def terminate_instance(self, tenant_id: str, project_id: str) -> InstanceInfo:
        """End a project's instance and erase its state; InstanceNotFound."""
        return await self.pool.instances.terminate(await self._id(tenant_id, project_id))

    async def refresh(self) -> None:
        """Read the statistics, unless they are fresh; what keeps them from being read is not raised here."""
        if time.monotonic() - self._read_at < STATS_SECONDS:
            return
        self._read_at = time.monotonic()
        try:
            async with asyncio.timeout(STATS_PATIENCE_SECONDS):
                self._stats = await self.pool.get_stats()
        except (AgentPoolError, TimeoutError):
            return

    async def _find(self, tenant_id: str, project_id: str) -> InstanceInfo | None:
        async for one in self.pool.instances.list(tenant_id=tenant_id, project_id=project_id):
            return one
        return None

    async def _id(self, tenant_id: str, project_id: str) -> str:
        found = await self._find(tenant_id, project_id)
        if found is None:
            raise InstanceNotFound(f"There is no instance for project {project_id} of tenant {tenant_id}.")
        return found.id


class SessionAdapter:
    """Lets callers that know nothing of pools use one.

    Attributes:
        _pool_manager: the pool; None when it is off. The name is the one that older programs look for.
    """

    def __init__(self, manager: PoolManager | None) -> None:
        self._pool_manager = manager

    @property
    def enabled(self) -> bool:
        """Whether there is a pool."""
        return self._pool_manager is not None

    async def process(
        self, tenant_id: str, project_id: str, input: Any, *, otherwise: Otherwise | None = None
    ) -> Any:
        """The output for an input: from the pool, or from `otherwise` where the pool is off.

        PoolDisabled when it is off and there is no other way. Other errors are raised: the request may be
        at work.
        """
        if self._pool_manager is not None:
            try:
                return (await self._pool_manager.pool.invoke(tenant_id, project_id, input)).output
            except PoolDisabled:
                if otherwise is None:
                    raise
        if otherwise is None:
            raise PoolDisabled("The pool is switched off.")
        return await otherwise(input)

    async def close(self) -> None:
        """Close the pool's connections."""
        if self._pool_manager is not None:
            await self._pool_manager.pool.close()


class PendingAdapter:
    """What `get_global_adapter()` gives: await it. Anything else says so."""

    def __await__(self) -> Generator[Any, None, SessionAdapter]:
        return _current().__await__()

    def __getattr__(self, name: str) -> Any:
        raise TypeError(
            "get_global_adapter() is asynchronous: use `adapter = await get_global_adapter()` "
            f"before adapter.{name}"
        )


def get_global_adapter() -> PendingAdapter:
    """The adapter of this process, to be awaited; the same one each time."""
    return PendingAdapter()


_adapters: dict[asyncio.AbstractEventLoop, SessionAdapter] = {}
"""One entry: connections belong to the event loop that made them, and a program has one at a time."""


async def _current() -> SessionAdapter:
    loop = asyncio.get_running_loop()
    adapter = _adapters.get(loop)
    if adapter is None:
        adapter = await open_adapter(os.environ)
        _adapters.clear()
        _adapters[loop] = adapter
    if adapter._pool_manager is not None:
        await adapter._pool_manager.refresh()
    return adapter


async def close_global_adapter() -> None:
    """Close the adapter of this process; the next `get_global_adapter()` makes another one."""
    adapter = _adapters.pop(asyncio.get_running_loop(), None)
    if adapter is not None:
        await adapter.close()


async def open_adapter(environ: Mapping[str, str]) -> SessionAdapter:
    """An adapter as these variables want it; InvalidRequest names one that is wrong."""
    enabled = VARIABLES["AGENT_POOL_ENABLED"]
    text = environ.get(enabled.name) or enabled.default
    try:
        if not enabled.read(text):
            return SessionAdapter(None)
    except ValueError as exc:
        raise InvalidRequest(f"{enabled.name} is {text!r}.", remedy=f"Give {enabled.form}.") from exc
    try:
        pool = AgentPool(
            environ.get("AGENTPOOL_CLIENT_URL") or DEFAULT_URL,
            pool=environ.get("AGENTPOOL_CLIENT_POOL", ""),
            token_file=environ.get("AGENTPOOL_CLIENT_TOKEN_FILE") or None,
        )
        await pool.open()
    except (ValueError, OSError) as exc:
        raise InvalidRequest(
            f"The pool cannot be used: {exc}.", remedy="Correct the AGENTPOOL_CLIENT_* variables."
        ) from exc
    return SessionAdapter(PoolManager(pool))
