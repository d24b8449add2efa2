# SPDX-License-Identifier: Apache-2.0
"""Requests that do not go through the pool: each is served by a process that is started for it alone.

    let go what is there -> activate from a new fork -> serve -> checkpoint, release, end
It is the same instance as far as its state goes: owned, fenced and saved in the same way, so that a rollout
and a rollback lose nothing. It does without what a pool gives: the waiting worker, the process that stays.
"""

from __future__ import annotations

import asyncio

from agentpool_agent.host.eviction import Evictions
from agentpool_agent.host.instance import Resident
from agentpool_agent.host.state import Host
from agentpool_core.lifecycle import PauseReason, Tier


class OneShots:
    """See the module."""

    def __init__(self, host: Host, evictions: Evictions) -> None:
        self._host = host
        self._evictions = evictions
        self._leaving: set[asyncio.Task[bool]] = set()

    def used(self, resident: Resident) -> bool:
        """Whether its process must not serve such a request: it is idle, and was of the pool or has served.

        A busy one is shared: an instance has one process, and its requests are allowed beside each other.
        While the store is silent nothing can be let go, and what is here serves on.
        """
        if self._host.stale:
            return False
        return resident.entry.evictable and not (resident.forked_now and resident.entry.total == 0)

    async def let_go(self, resident: Resident) -> bool:
        """Have it leave, saved; False: the store refused, and it has to serve on. It goes on leaving when the
        caller stops to wait."""
        loop = asyncio.get_running_loop()
        task = loop.create_task(self._evictions.leave(resident, PauseReason.EVICTED), name="let-go")
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)
        return await asyncio.shield(task)

    def leaves(self, resident: Resident) -> bool:
        """Whether it is let go now that its last request has ended. One that the operator keeps, because it
        is HOT or an AgentInstance wants it, stays until its next request: it would be brought back at once.
        """
        kept = resident.entry.tier is Tier.HOT or resident.ownership.declared_uid
        return resident.one_shot and not kept
