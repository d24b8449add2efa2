# SPDX-License-Identifier: Apache-2.0
"""A host with one READY instance, without processes: its worker keeps what it is sent, its clock is set."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agentpool_agent.host.exchange import Exchange
from agentpool_agent.host.instance import Resident
from agentpool_agent.host.nursery import Nursery
from agentpool_agent.host.quota import RateBucket
from agentpool_agent.host.recovery import Recoveries
from agentpool_agent.host.settings import Settings
from agentpool_agent.host.state import Host
from agentpool_agent.host.surroundings import Surroundings
from agentpool_agent.host.table import Entry
from agentpool_agent.host.worker import Budget, WorkerChannel
from agentpool_agent.store import Claim, MemoryStore, Ownership
from agentpool_agent.wire import frames
from agentpool_core.lifecycle import State, Tier, Wish
from agentpool_core.names import Incarnation, InstanceKey
from agentpool_core.recovery import Cause
from support.hosts import pool_config

KEY = InstanceKey("default", "support", "t", "p")
ME = Incarnation("pod", "1")
START = 1_000.0


class QuietWorker(WorkerChannel):
    """Keeps the frames that are sent to it."""

    def __init__(self, rig: HostRig) -> None:
        super().__init__(1, lambda _number: None, lambda: rig.now, Budget())
        self.sent: list[frames.ToWorker] = []

    def send(self, frame: frames.ToWorker) -> None:
        """See WorkerChannel."""
        if not self.lost:
            self.sent.append(frame)


class HostRig:
    """The host, the instance, and what became of it."""

    def __init__(
        self, store: MemoryStore, ownership: Ownership, changed: Mapping[str, Any], **settings: Any
    ) -> None:
        self.now = START
        self.store = store
        self.lost: list[Cause | None] = []
        self.wishes: list[tuple[State, Wish]] = []
        told = Settings("127.0.0.1:0", Path("/nowhere"), (), **settings)
        nursery = Nursery(Path("/nowhere"), lambda: self.now)
        self.host = Host(told, ME, nursery, lambda: self.now, lambda: self.now)
        self.host.config, self.host.store = pool_config(**changed), store
        self.recoveries = Recoveries(self.host, self._fulfil)
        self.worker = QuietWorker(self)
        self.entry = Entry(KEY, KEY.instance_id, Tier.WARM, START, START, state=State.INITIALIZING)
        self.host.table.put(self.entry)
        self.resident = Resident(
            self._around(), self.entry, ownership, self.worker, RateBucket.full(0, START)
        )
        self.entry.epoch, self.entry.ready_at = ownership.epoch, START
        self.host.residents[self.entry.instance_id] = self.resident
        self.host.table.move(self.entry, State.READY)

    def _around(self) -> Surroundings:
        def lost(resident: Resident, reason: str, cause: Cause | None) -> None:
            self.lost.append(cause)
            self.recoveries.lost(resident, reason, cause)

        return Surroundings(
            store=lambda: self.store,
            clock=lambda: self.now,
            wall=lambda: self.now,
            spawn=self.host.spawn,
            released=lambda resident, exchange: self.host.count_end(resident.entry, exchange),
            lost=lost,
            strained=self.recoveries.strained,
            data_lost=lambda: None,
        )

    async def _fulfil(self, entry: Entry, wish: Wish) -> None:
        self.wishes.append((entry.state, wish))

    def grow(self, tier: Tier) -> None:
        """Give a tier more memory than any other has."""
        assert self.host.config is not None
        tiers = dict(self.host.config.tiers)
        quota = tiers[tier].quota.model_copy(update={"memory_bytes": 2**40})
        tiers[tier] = tiers[tier].model_copy(update={"quota": quota})
        self.host.config = self.host.config.model_copy(update={"tiers": tiers})

    def request(self) -> Exchange:
        """A request that the worker has."""
        self.host.table.acquire(self.entry, self.now)
        exchange = self.resident.begin("", self.now + 1000.0, 1000)
        self.resident.handle(exchange, b"1")
        return exchange

    def answer(self) -> None:
        """The worker answers every question."""
        if self.worker.asked:
            self.worker.data_received(frames.pack(frames.Pong(self.worker.pings)))

    async def settle(self) -> None:
        """Let the work that was begun end."""
        while self.host.tasks:
            await asyncio.wait(list(self.host.tasks))
            await asyncio.sleep(0)


async def host_rig(
    *, store: MemoryStore | None = None, hang_seconds: float = 10.0, **changed: Any
) -> HostRig:
    """A rig whose pool is configured with these changes."""
    store = store or MemoryStore("default", "support", clock=lambda: 1)
    ownership = await store.claim(Claim(KEY, ME, Tier.WARM))
    return HostRig(store, ownership, changed, hang_seconds=hang_seconds)
