# SPDX-License-Identifier: Apache-2.0
"""One resident instance with a worker and a store that do as they are told."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from agentpool_agent.host.exchange import Exchange
from agentpool_agent.host.instance import Resident
from agentpool_agent.host.quota import RateBucket
from agentpool_agent.host.surroundings import Surroundings
from agentpool_agent.host.table import Entry
from agentpool_agent.host.worker import Budget, WorkerChannel
from agentpool_agent.store import Claim, MemoryStore, Ownership, Write
from agentpool_agent.wire import frames
from agentpool_core.errors import (
    AgentFailure,
    AgentPoolError,
    InstanceCrashed,
    OwnershipLost,
    StoreDataLost,
    StoreUnavailable,
)
from agentpool_core.lifecycle import State, Tier
from agentpool_core.names import Incarnation, InstanceKey
from agentpool_core.recovery import Cause
from agentpool_proto.v1.types_pb2 import Done

KEY = InstanceKey("default", "support", "tenant", "project")
ME = Incarnation("pod", "1")


class Worker(WorkerChannel):
    """Keeps the frames that are sent to it."""

    def __init__(self) -> None:
        super().__init__(1, lambda _number: None, lambda: 0.0, Budget())
        self.sent: list[frames.ToWorker] = []

    def send(self, frame: frames.ToWorker) -> None:
        if not self.lost:
            self.sent.append(frame)


class Shelf(MemoryStore):
    """A store that fails as told, and holds a write back until it may go on."""

    def __init__(self) -> None:
        super().__init__("default", "support", clock=lambda: 1)
        self.failure: AgentPoolError | None = None
        self.open = asyncio.Event()
        self.open.set()
        self.writes: list[Write] = []

    async def save(self, ownership: Ownership, write: Write) -> None:
        await self.open.wait()
        self.writes.append(write)
        if self.failure is not None:
            raise self.failure
        await super().save(ownership, write)


class Rig:
    """A resident with everything around it."""

    def __init__(self, store: Shelf, ownership: Ownership) -> None:
        self.store = store
        self.lost: list[tuple[str, Cause | None]] = []
        self.strained: list[str] = []
        self.released = 0
        self.data_lost = 0
        self.tasks: list[asyncio.Task[None]] = []
        self.worker = Worker()
        entry = Entry(KEY, KEY.instance_id, Tier.WARM, 0.0, 0.0, state=State.BUSY)
        around = Surroundings(
            store=lambda: store,
            clock=lambda: 0.0,
            wall=lambda: 0.0,
            spawn=self._spawn,
            released=self._released,
            lost=lambda _resident, reason, cause: self.lost.append((reason, cause)),
            strained=lambda _resident, message: self.strained.append(message),
            data_lost=self._data_lost,
        )
        self.resident = Resident(around, entry, ownership, self.worker, RateBucket.full(10, 0.0))

    def _spawn(self, work: Coroutine[Any, Any, None], _name: str) -> None:
        self.tasks.append(asyncio.get_running_loop().create_task(work))

    def _released(self, _resident: Resident) -> None:
        self.released += 1

    def _data_lost(self) -> None:
        self.data_lost += 1

    def request(self, key: str = "") -> Exchange:
        """A request that the worker has."""
        exchange = self.resident.begin(key, 10.0, 1000)
        self.resident.handle(exchange, b"1")
        return exchange

    def commit(self, *exchanges: Exchange, changed: bool = True) -> None:
        """The worker finished these."""
        finished = [frames.Finished(one.number, b"out") for one in exchanges]
        self.resident.frame_received(frames.Commit(1, finished, {"a": b"1"} if changed else {}))

    async def settle(self) -> None:
        """Let the work that was begun end."""
        if self.tasks:
            await asyncio.wait(self.tasks)

    @property
    def verdicts(self) -> list[bool]:
        """What the worker was told of its commits."""
        return [frame.ok for frame in self.worker.sent if isinstance(frame, frames.Committed)]


@pytest.fixture
async def rig() -> Rig:
    """A resident that owns its instance."""
    store = Shelf()
    return Rig(store, await store.claim(Claim(KEY, ME, Tier.WARM)))


async def test_a_change_is_answered_after_it_is_durable(rig: Rig) -> None:
    exchange = rig.request()
    rig.store.open.clear()
    rig.commit(exchange)
    await asyncio.sleep(0)
    assert not exchange.ended and rig.verdicts == []
    rig.store.open.set()
    await rig.settle()
    assert (exchange.output, rig.verdicts) == (b"out", [True])
    assert rig.store.writes[0].rate == rig.resident.bucket.pack()


async def test_an_answer_that_changed_nothing_does_not_touch_the_store(rig: Rig) -> None:
    exchange = rig.request()
    rig.commit(exchange, changed=False)
    assert (exchange.output, rig.tasks, rig.store.writes) == (b"out", [], [])


async def test_a_key_is_written_with_its_answer_even_without_a_change(rig: Rig) -> None:
    exchange = rig.request("k")
    rig.commit(exchange, changed=False)
    assert not exchange.ended
    await rig.settle()
    kept = await rig.store.recall(KEY.instance_id, "k")
    assert kept is not None and Done.FromString(kept).output == b"out"
    assert (exchange.output, rig.verdicts, rig.resident.keyed) == (b"out", [], {})


@pytest.mark.parametrize(
    ("failure", "dropped"),
    [
        pytest.param(StoreUnavailable("away"), False, id="a silent store refuses the change, no more"),
        pytest.param(StoreDataLost("gone"), False, id="a store without its data is told apart"),
        pytest.param(OwnershipLost("taken"), True, id="lost ownership drops the instance"),
    ],
)
async def test_a_change_that_is_not_durable_is_taken_back(
    rig: Rig, failure: AgentPoolError, dropped: bool
) -> None:
    exchange, other = rig.request(), rig.request()
    rig.store.failure = failure
    rig.commit(exchange)
    await rig.settle()
    assert exchange.error is failure
    assert rig.resident.dead is dropped
    assert rig.verdicts == ([] if dropped else [False])
    assert (other.error is failure) is dropped
    assert rig.data_lost == isinstance(failure, StoreDataLost)
    assert (rig.resident.uncertain_since is not None) is isinstance(failure, StoreUnavailable)


async def test_a_worker_that_dies_ends_its_requests_once_and_nothing_is_sent_after(rig: Rig) -> None:
    exchange = rig.request()
    rig.worker.end("it crashed")
    rig.worker.end("again")
    assert isinstance(exchange.error, InstanceCrashed)
    assert (rig.lost, rig.released) == ([("it crashed", Cause.CRASH)], 1)
    rig.resident.leave(exchange)
    assert rig.released == 1


async def test_a_caller_that_leaves_cancels_its_request_unless_it_has_a_key(rig: Rig) -> None:
    plain, keyed, early = rig.request(), rig.request("k"), rig.resident.begin("e", 10.0, 1000)
    for exchange in (plain, keyed, early):
        rig.resident.leave(exchange)
    cancelled = [frame.id for frame in rig.worker.sent if isinstance(frame, frames.Cancel)]
    assert cancelled == [plain.number]
    assert set(rig.resident.keyed) == {"k"}, "what the worker never got is not in flight"
    assert rig.released == 2
    rig.commit(keyed)
    await rig.settle()
    assert (rig.resident.keyed, rig.released) == ({}, 3)
    assert await rig.store.recall(KEY.instance_id, "k") is not None


@pytest.mark.parametrize("code", ["NotOwner", "Draining", "Unauthenticated", "PoolExhausted", "made up"])
async def test_a_worker_cannot_speak_for_the_host(rig: Rig, code: str) -> None:
    exchange = rig.request()
    rig.resident.frame_received(frames.Failed(exchange.number, code, "believe me"))
    assert type(exchange.error) is AgentFailure


async def test_with_interval_a_snapshot_is_saved_when_the_store_is_back(rig: Rig) -> None:
    rig.resident.durable = False
    checkpoint = asyncio.create_task(rig.resident.checkpoint())
    await asyncio.sleep(0)
    assert rig.worker.sent == [frames.Snapshot()]
    rig.resident.frame_received(frames.Clean())
    await checkpoint


async def test_registering_writes_the_whole_state_under_a_fresh_epoch(rig: Rig) -> None:
    before = rig.resident.ownership.epoch
    registering = asyncio.create_task(rig.resident.register())
    await asyncio.sleep(0)
    assert rig.worker.sent == [frames.Snapshot(full=True)]
    rig.resident.frame_received(frames.Commit(3, [], {"all": b"1"}, full=True))
    await registering
    assert rig.resident.ownership.epoch == rig.resident.entry.epoch > before
    assert (await rig.store.load(rig.resident.ownership)).parts == {"all": b"1"}
    assert rig.verdicts == [True]


@pytest.mark.parametrize(
    "key", [pytest.param("", id="a plain answer"), pytest.param("k", id="a keyed answer")]
)
async def test_an_answer_that_crosses_a_snapshot_is_not_taken_for_its_end(rig: Rig, key: str) -> None:
    exchange = rig.request(key)
    checkpoint = asyncio.create_task(rig.resident.checkpoint())
    await asyncio.sleep(0)
    rig.commit(exchange, changed=False)
    await rig.settle()
    assert exchange.output == b"out" and not checkpoint.done()
    rig.resident.frame_received(frames.Clean())
    await checkpoint
