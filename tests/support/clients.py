# SPDX-License-Identifier: Apache-2.0
"""Both clients of the library behind one face, so that one scenario runs with either."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from agentpool_client import AgentPool, Answer, Event, InstanceInfo, Stats
from agentpool_client.sync import AgentPool as ThreadPool

KINDS = ("asyncio", "threads")


@dataclass(frozen=True)
class Used:
    """What came of a handle: its answers, then what its counters say."""

    answers: Sequence[Answer]
    instance_id: str
    requests: int
    failures: int


class AsyncSide:
    """The client for asyncio."""

    def __init__(self, pool: AgentPool) -> None:
        self.pool = pool

    async def invoke(self, tenant: str, project: str, body: Any, **more: Any) -> Answer:
        """One request."""
        return await self.pool.invoke(tenant, project, body, **more)

    async def events(self, tenant: str, project: str, body: Any, **more: Any) -> list[Event]:
        """All events of one request."""
        return [event async for event in self.pool.stream(tenant, project, body, **more)]

    async def use(self, tenant: str, project: str, bodies: Sequence[Any], **more: Any) -> Used:
        """Several requests with one handle; an error of one is passed over."""
        answers = []
        async with self.pool.acquire(tenant, project, **more) as handle:
            for body in bodies:
                try:
                    answers.append(await handle.invoke(body))
                except Exception as exc:
                    if not hasattr(exc, "code"):
                        raise
            instance_id = handle.instance_id
        return Used(answers, instance_id, handle.requests, handle.failures)

    async def use_after_release(self, tenant: str, project: str) -> None:
        """A request with a handle whose block is over."""
        async with self.pool.acquire(tenant, project) as handle:
            pass
        await handle.release()
        await handle.invoke("get")

    async def listed(self, **filters: Any) -> list[InstanceInfo]:
        """Instances."""
        return [one async for one in self.pool.instances.list(**filters)]

    async def operate(self, operation: str, *arguments: Any) -> InstanceInfo:
        """One operation on an instance."""
        done: InstanceInfo = await getattr(self.pool.instances, operation)(*arguments)
        return done

    async def stats(self) -> Stats:
        """Statistics."""
        return await self.pool.get_stats()


class ThreadSide:
    """The client for threads; each call in one of its own."""

    def __init__(self, pool: ThreadPool) -> None:
        self.pool = pool

    async def invoke(self, tenant: str, project: str, body: Any, **more: Any) -> Answer:
        """One request."""
        return await asyncio.to_thread(self.pool.invoke, tenant, project, body, **more)

    async def events(self, tenant: str, project: str, body: Any, **more: Any) -> list[Event]:
        """All events of one request."""
        return await asyncio.to_thread(lambda: list(self.pool.stream(tenant, project, body, **more)))

    async def use(self, tenant: str, project: str, bodies: Sequence[Any], **more: Any) -> Used:
        """Several requests with one handle; an error of one is passed over."""

        def run() -> Used:
            answers = []
            with self.pool.acquire(tenant, project, **more) as handle:
                for body in bodies:
                    try:
                        answers.append(handle.invoke(body))
                    except Exception as exc:
                        if not hasattr(exc, "code"):
                            raise
                instance_id = handle.instance_id
            return Used(answers, instance_id, handle.requests, handle.failures)

        return await asyncio.to_thread(run)

    async def use_after_release(self, tenant: str, project: str) -> None:
        """A request with a handle whose block is over."""

        def run() -> None:
            with self.pool.acquire(tenant, project) as handle:
                pass
            handle.release()
            handle.invoke("get")

        await asyncio.to_thread(run)

    async def listed(self, **filters: Any) -> list[InstanceInfo]:
        """Instances."""
        return await asyncio.to_thread(lambda: list(self.pool.instances.list(**filters)))

    async def operate(self, operation: str, *arguments: Any) -> InstanceInfo:
        """One operation on an instance."""
        return await asyncio.to_thread(getattr(self.pool.instances, operation), *arguments)

    async def stats(self) -> Stats:
        """Statistics."""
        return await asyncio.to_thread(self.pool.get_stats)


Side = AsyncSide | ThreadSide


@asynccontextmanager
async def client(
    kind: str, grpc_address: str, *, scheme: str = "grpc", **options: Any
) -> AsyncIterator[Side]:
    """An open client of one kind."""
    url = f"{scheme}://{grpc_address}"
    if kind == "asyncio":
        async with AgentPool(url, **options) as pool:
            yield AsyncSide(pool)
    else:
        with ThreadPool(url, **options) as threads:
            yield ThreadSide(threads)
