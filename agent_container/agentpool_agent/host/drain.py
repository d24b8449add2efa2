# SPDX-License-Identifier: Apache-2.0
"""Leaving in good order: admission is off already; idle instances first, busy ones at their end."""

from __future__ import annotations

import asyncio

import structlog

from agentpool_agent.host.eviction import Evictions
from agentpool_agent.host.instance import Resident
from agentpool_agent.host.state import Host
from agentpool_core.errors import InstanceCrashed
from agentpool_core.lifecycle import PauseReason, Wish

log = structlog.get_logger(__name__)

POLL_SECONDS = 0.05
PARALLEL = 16
"""Instances released at once; more would only wait for the store."""


async def drain(host: Host, evictions: Evictions, hurry: asyncio.Event, seconds: float) -> None:
    """Release every instance as Evicted, for at most `seconds` or until `hurry`; what is busy then is
    aborted: nothing of its requests was kept, and their callers may try again."""
    deadline = host.clock() + seconds
    log.info("drain_started", residents=len(host.residents))
    while host.residents and host.clock() < deadline and not hurry.is_set():
        idle = [r for r in host.residents.values() if r.entry.active == 0 and not r.entry.leaving]
        if idle:
            # Bounded: each has a deadline of its own.
            left = await asyncio.gather(*(_leave(evictions, r) for r in idle[:PARALLEL]))
            if any(left):
                continue
        await asyncio.sleep(POLL_SECONDS)
    for resident in list(host.residents.values()):
        resident.abort(InstanceCrashed("The host ended before the request did."))
        host.give_back(resident.ownership, resident.bucket.pack())
    if host.returning:
        await asyncio.wait(list(host.returning.values()))
    log.info("drain_ended", aborted=len(host.residents))
    host.residents.clear()


async def _leave(evictions: Evictions, resident: Resident) -> bool:
    # A pause that was wished is carried out; a termination waits for its caller to ask again elsewhere.
    paused = resident.entry.wish is Wish.PAUSE
    return await evictions.leave(resident, PauseReason.USER_REQUESTED if paused else PauseReason.EVICTED)
