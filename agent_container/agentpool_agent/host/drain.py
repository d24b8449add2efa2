# SPDX-License-Identifier: Apache-2.0
"""Leaving in good order: admission is off already; idle instances first, busy ones at their end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import structlog

from agentpool_agent.host.eviction import Evictions
from agentpool_agent.host.instance import Resident
from agentpool_agent.host.state import Host
from agentpool_core.errors import AgentPoolError, InstanceCrashed, StoreDataLost
from agentpool_core.lifecycle import PauseReason, Wish

log = structlog.get_logger(__name__)

POLL_SECONDS = 0.05
RETRY_SECONDS = 0.5
"""Until an instance whose release was refused is tried again."""
PATIENCE_SECONDS = 3.0
"""How long an instance is tried whose state is in the store already, unless the store is known to be silent
by then. Its record goes on naming this host, and whoever claims it next brings the proof that the host
ended: a pod that is gone."""
UNSAVED_PATIENCE_SECONDS = 30.0
"""The same for one whose last interval is in no checkpoint: what is given up is lost."""
PARALLEL = 16
"""Instances released at once; more would only wait for the store."""


class Refusals:
    """Which instances the store, or their own code, does not let go, and since when. Times are the host's
    clock."""

    def __init__(self) -> None:
        self._first: dict[str, float] = {}
        self._last: dict[str, float] = {}

    @property
    def any(self) -> bool:
        """Whether some release was refused."""
        return bool(self._first)

    def note(self, instance_id: str, now: float) -> None:
        """Its release was refused."""
        self._first.setdefault(instance_id, now)
        self._last[instance_id] = now

    def due(self, idle: Iterable[Resident], now: float) -> list[Resident]:
        """Whose release may be tried, again or for the first time; the longest untried first."""

        def last(resident: Resident) -> float:
            return self._last.get(resident.entry.instance_id, float("-inf"))

        return sorted((one for one in idle if now - last(one) >= RETRY_SECONDS), key=last)[:PARALLEL]

    def given_up(self, instance_id: str, saved: bool, silent: bool, now: float) -> bool:
        """Whether it was tried for long enough; `saved`: its state is in the store, `silent`: which answers
        nobody."""
        if saved and silent:
            # What the others heard it would hear, too: a thousand need not all be told.
            return bool(self._first)
        patience = PATIENCE_SECONDS if saved else UNSAVED_PATIENCE_SECONDS
        return now - self._first.get(instance_id, now) >= patience


async def drain(host: Host, evictions: Evictions, hurry: asyncio.Event, seconds: float) -> None:
    """Release every instance as Evicted, for at most `seconds` or until `hurry`; what is busy then is
    aborted: nothing of its requests was kept, and their callers may try again. A store that is away does not
    hold the host up: see `PATIENCE_SECONDS`."""
    deadline = host.clock() + seconds
    refusals, given_up = Refusals(), set[str]()
    log.info("drain_started", residents=len(host.residents))
    for resident in host.residents.values():
        # Whoever waits for a permit finds one elsewhere.
        resident.line.interrupt()
    while host.clock() < deadline and not hurry.is_set():
        now = host.clock()
        idle = [r for r in host.residents.values() if r.entry.active == 0 and not r.entry.leaving]
        kept = not refusals.any or not await _store_lost_data(host)
        given_up = {
            r.entry.instance_id
            for r in idle
            if refusals.given_up(
                r.entry.instance_id, kept and (r.durable or not r.touched), host.store_silent, now
            )
        }
        if len(given_up) == len(host.residents):
            break
        due = refusals.due(idle, now)
        # Bounded: each has a deadline of its own.
        left = await asyncio.gather(*(_leave(evictions, r) for r in due))
        for resident, gone in zip(due, left, strict=True):
            if not gone:
                refusals.note(resident.entry.instance_id, host.clock())
        if not any(left):
            await asyncio.sleep(POLL_SECONDS)
    await _end(host, given_up)


async def _end(host: Host, given_up: set[str]) -> None:
    aborted = len(host.residents)
    for resident in list(host.residents.values()):
        resident.abort(InstanceCrashed("The host ended before the request did."))
        if resident.entry.instance_id not in given_up:
            host.give_back(resident.ownership, resident.bucket.pack())
    if host.returning:
        await asyncio.wait(list(host.returning.values()))
    log.info("drain_ended", aborted=aborted, unreleased=len(given_up))
    host.residents.clear()


async def _store_lost_data(host: Host) -> bool:
    """Whether residents have to be written anew: what they hold is all that there is of them."""
    if host.store is None:
        return False
    try:
        await host.store.ping()
    except StoreDataLost:
        return True
    except AgentPoolError:
        return False
    return False


async def _leave(evictions: Evictions, resident: Resident) -> bool:
    # A pause that was wished is carried out; a termination waits for its caller to ask again elsewhere.
    paused = resident.entry.wish is Wish.PAUSE
    reason = PauseReason.USER_REQUESTED if paused else PauseReason.EVICTED
    return await evictions.leave(resident, reason)
