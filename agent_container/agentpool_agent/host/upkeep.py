# SPDX-License-Identifier: Apache-2.0
"""What a host does by the clock: store's pulse, idle sweeps, health, checkpoints, wishes, retention.

One task each, none per instance.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import structlog

from agentpool_agent.host.eviction import Evictions
from agentpool_agent.host.flags import HostFlags
from agentpool_agent.host.health import Health
from agentpool_agent.host.intervals import Checkpoints
from agentpool_agent.host.load import SLICE_SECONDS, differs
from agentpool_agent.host.operations import Operations
from agentpool_agent.host.recovery import Recoveries
from agentpool_agent.host.refreshing import Refreshes
from agentpool_agent.host.retention import Retention
from agentpool_agent.host.revival import Revivals
from agentpool_agent.host.state import Host
from agentpool_agent.store import Store
from agentpool_core.errors import AgentPoolError, StoreDataLost, StoreUnavailable
from agentpool_core.lifecycle import State, Wish
from agentpool_core.names import Incarnation
from agentpool_rpc.cancellation import heed_cancellation

log = structlog.get_logger(__name__)

PULSE_SECONDS = 0.5
SILENT_SECONDS = 2.0
"""A store that has not answered for this long makes answers stale."""
SWEEP_SECONDS = 1.0
REPORT_SECONDS = 60.0
REMEMBER_SECONDS = 30.0
"""How long an instance that left is still shown, so that every watcher sees how it left."""
PROBLEMS_SECONDS = 60.0
FLAGS_SECONDS = 2.0
REAPED = 1024
REAP_SECONDS = 30.0


class Upkeep:
    """The periodic work of one host."""

    def __init__(
        self,
        host: Host,
        evictions: Evictions,
        operations: Operations,
        recoveries: Recoveries,
        revivals: Revivals,
        refreshes: Refreshes,
        flags: HostFlags,
    ) -> None:
        self._host = host
        self._evictions = evictions
        self._operations = operations
        self._registering = False
        self._reaped: set[Incarnation] = set()
        self._recoveries = recoveries
        self._revivals = revivals
        self._refreshes = refreshes
        self._flags = flags
        self._health = Health(host, SWEEP_SECONDS)
        self._checkpoints = Checkpoints(host)
        self._retention = Retention(host, random.SystemRandom().random)
        self._problems_at = 0.0
        self._report_at = host.clock() + REPORT_SECONDS

    async def run(self, changed: Callable[[], None]) -> None:
        """Run until cancelled; `changed` is called when the host as a whole looks different."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._every(PULSE_SECONDS, lambda: self.beat(changed)))
            group.create_task(self._every(SWEEP_SECONDS, self._look))
            # Apart: a slow store must not delay the detection of hangs.
            group.create_task(self._every(SWEEP_SECONDS, self._sweep))
            group.create_task(self._every(SWEEP_SECONDS, self._recoveries.note_all))
            group.create_task(self._every(SLICE_SECONDS, lambda: self._measure(changed)))
            group.create_task(self._every(FLAGS_SECONDS, self._flags.look))

    async def _every(self, seconds: float, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await work()
            except AgentPoolError as exc:
                log.warning("upkeep_failed", code=exc.code, reason=exc.message)
            heed_cancellation()
            await asyncio.sleep(seconds)

    def data_lost(self) -> None:
        """The store told that it lost its data: every resident registers again."""
        if not self._registering:
            self._registering = True
            self._host.spawn(self._register_all(), "register")

    def reap(self, ended: frozenset[Incarnation]) -> None:
        """Release what ended incarnations still hold, once per incarnation, in the background."""
        new = ended - self._reaped
        if not new or self._host.store is None:
            return
        if len(self._reaped) > REAPED:
            self._reaped.clear()
        self._reaped |= new
        self._host.spawn(self._reap(new, self._host.store), "reap")

    async def _reap(self, ended: frozenset[Incarnation], store: Store) -> None:
        for incarnation in ended:
            try:
                async with asyncio.timeout(REAP_SECONDS):
                    count = await store.reap(incarnation)
            except (AgentPoolError, TimeoutError) as exc:
                self._reaped.discard(incarnation)
                log.warning("reap_failed", ended=str(incarnation), reason=str(exc))
            else:
                log.info("host_reaped", ended=str(incarnation), instances=count)

    async def _register_all(self) -> None:
        try:
            log.warning("store_data_lost", residents=len(self._host.residents))
            for resident in list(self._host.residents.values()):
                try:
                    await resident.register()
                except AgentPoolError as exc:
                    log.warning("register_failed", instance=resident.entry.instance_id, reason=exc.message)
        finally:
            self._registering = False

    async def beat(self, changed: Callable[[], None]) -> None:
        """Ask the store for a sign of life."""
        host = self._host
        if host.store is None:
            return
        before = (host.store_reached, host.store_silent, host.problems)
        try:
            await host.store.ping()
            if not host.flags_read:
                # Before the host is ready: no gateway is to take a flag that was set for its default.
                await self._flags.look()
        except StoreDataLost:
            host.store_answered()
            self.data_lost()
        except StoreUnavailable:
            host.store_silent = host.clock() - host.store_answered_at >= SILENT_SECONDS
        else:
            host.store_answered()
            if host.clock() >= self._problems_at:
                self._problems_at = host.clock() + PROBLEMS_SECONDS
                host.problems = tuple(await host.store.problems())
        if before != (host.store_reached, host.store_silent, host.problems):
            changed()

    async def _measure(self, changed: Callable[[], None]) -> None:
        meter = self._host.meter
        load = meter.look(self._host.clock())
        if differs(meter.told, load):
            meter.told = load
            changed()

    async def _sweep(self) -> None:
        if not self._host.store_silent and not self._host.draining:
            await self._evictions.sweep()

    async def _look(self) -> None:
        host = self._host
        now = host.clock()
        self._health.look(now)
        self._check_wishes(now)
        self._forget(now)
        self._checkpoints.look(now)
        if not host.draining:
            self._revivals.look(self._recoveries.policy())
            self._refreshes.look()
            self._retention.look(now)
        if now >= self._report_at:
            self._report_at = now + REPORT_SECONDS
            counts = {f"{tier}/{state}": n for (tier, state), n in host.table.counts().items()}
            log.info("instances_counted", spares=host.nursery.spares, **counts)

    def _check_wishes(self, now: float) -> None:
        host = self._host
        grace = host.settings.terminate_grace_seconds
        for resident in list(host.residents.values()):
            entry = resident.entry
            if entry.active > 0:
                if entry.wish is Wish.TERMINATE and now - entry.wished_at > grace:
                    host.spawn(self._operations.insist(resident), "terminate")
            elif entry.wish is not None:
                host.spawn(self._operations.fulfil(resident), "wish")

    def _forget(self, now: float) -> None:
        host = self._host
        shared = host.store is not None and host.store.shared
        gone = (State.PAUSED, State.TERMINATED) if shared else (State.TERMINATED,)
        old = [e for e in host.table if e.state in gone and now - e.last_used > REMEMBER_SECONDS]
        for entry in old:
            host.table.remove(entry)
