# SPDX-License-Identifier: Apache-2.0
"""Erasing everything of a tenant: every instance, wherever and in whatever state it is.

It goes over the pool's list again and again until nothing is found, so it can be stopped and asked for again
at any time. Instances that an AgentInstance declares are only told of: they would be made again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from agentpool_core.errors import AgentPoolError, DeadlineExceeded, InstanceNotFound
from agentpool_core.lifecycle import Origin, State, Wish
from agentpool_gateway.dispatch.listing import MAX_LIMIT, ListQuery, Page
from agentpool_proto.v1.types_pb2 import Instance

PARALLEL = 8
"""Instances ended at one time: quick for a tenant of thousands, and no burden for the store."""
PAUSE_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Failure:
    """An instance that could not be erased in the last round, and why."""

    instance: Instance
    error: AgentPoolError


@dataclass(slots=True)
class Forgotten:
    """What became of a tenant's instances.

    Attributes:
        erased: how many are gone.
        busy: how many end with their last request, or when their grace time is over.
        declared: those of AgentInstances, which stay until those are deleted.
        failed: those that are still there for another reason.
    """

    erased: int = 0
    busy: int = 0
    declared: list[Instance] = field(default_factory=list)
    failed: list[Failure] = field(default_factory=list)

    @property
    def remaining(self) -> int:
        """How many are left that another call can erase."""
        return self.busy + len(self.failed)


@dataclass(slots=True)
class _Round:
    """One walk over the list: who was in it, who is gone, and who is left for the next."""

    deadline: float
    listed: set[str] = field(default_factory=set)
    gone: set[str] = field(default_factory=set)
    left: set[str] = field(default_factory=set)
    result: Forgotten = field(default_factory=Forgotten)

    def failed(self, instance: Instance, error: AgentPoolError) -> None:
        self.left.add(instance.id)
        self.result.failed.append(Failure(instance, error))

    def busy(self, instance: Instance) -> None:
        self.left.add(instance.id)
        self.result.busy += 1


class Forgetting:
    """Forgets tenants of one pool.

    Args:
        page: lists instances.
        terminate: ends an instance and erases its state.
        pause_seconds: between two rounds, while busy instances end.
    """

    def __init__(
        self,
        page: Callable[[ListQuery], Awaitable[Page]],
        terminate: Callable[[str], Awaitable[Instance]],
        pause_seconds: float = PAUSE_SECONDS,
    ) -> None:
        self._page = page
        self._terminate = terminate
        self._pause_seconds = pause_seconds

    async def forget(self, tenant_id: str, seconds: float) -> Forgotten:
        """Erase what there is of the tenant; what is left after so many seconds is told.

        Raises what kept the instances from being listed.
        """
        clock = asyncio.get_running_loop().time
        deadline = clock() + seconds
        gone: set[str] = set()
        left: set[str] = set()
        while True:
            walked = await self._round(tenant_id, deadline)
            # A busy one is not seen to end: it is gone once no list has it.
            gone = (gone | walked.gone | (left - walked.listed)) - walked.left
            left = walked.left
            pause = self._pause_seconds if left else 0.0
            if not (walked.gone or left) or clock() + pause >= deadline:
                walked.result.erased = len(gone)
                return walked.result
            await asyncio.sleep(pause)

    async def _round(self, tenant_id: str, deadline: float) -> _Round:
        walked = _Round(deadline)
        turns = asyncio.Semaphore(PARALLEL)
        cursor = ""
        while True:
            page = await self._page(ListQuery(tenant_id=tenant_id, cursor=cursor, limit=MAX_LIMIT))
            async with asyncio.TaskGroup() as group:
                for instance in page.instances:
                    group.create_task(self._erase(instance, walked, turns))
            cursor = page.cursor
            if not cursor:
                return walked

    async def _erase(self, instance: Instance, walked: _Round, turns: asyncio.Semaphore) -> None:
        if instance.state == State.TERMINATED:
            return
        walked.listed.add(instance.id)
        if instance.origin == Origin.DECLARED or instance.declared_uid:
            walked.result.declared.append(instance)
        elif instance.wish == Wish.TERMINATE:
            # Wished already: to wish again would begin its grace time anew.
            walked.busy(instance)
        else:
            async with turns:
                await self._end(instance, walked)

    async def _end(self, instance: Instance, walked: _Round) -> None:
        if asyncio.get_running_loop().time() >= walked.deadline:
            walked.failed(instance, DeadlineExceeded("It was not its turn before the call's deadline."))
            return
        try:
            answer = await self._terminate(instance.id)
        except InstanceNotFound:
            walked.gone.add(instance.id)
        except AgentPoolError as exc:
            walked.failed(instance, exc)
        else:
            if answer.state == State.TERMINATED:
                walked.gone.add(instance.id)
            else:
                walked.busy(instance)
