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
    DeadlineExceeded,
    InstanceCrashed,
    OutcomeUnknown,
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
        self.replies: list[AgentPoolError | None] = []
        """What the next writes fail with, one after the other; None: nothing."""
        self.repetitions = 0
        self.repeated = asyncio.Event()

    async def save(self, ownership: Ownership, write: Write, *, again: bool = False) -> None:
        await self.open.wait()
        self.writes.append(write)
        if again:
            self.repetitions += 1
            self.repeated.set()
        if self.replies:
            reply = self.replies.pop(0)
            if reply is not None:
                raise reply
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
        self.ends: list[bool | None] = []
        self.data_lost = 0
        self.now = 0.0
        self.tasks: list[asyncio.Task[None]] = []
        self.worker = Worker()
        entry = Entry(KEY, KEY.instance_id, Tier.WARM, 0.0, 0.0, state=State.BUSY)
        around = Surroundings(
            store=lambda: store,
            clock=lambda: self.now,
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

    def _released(self, _resident: Resident, exchange: Exchange) -> None:
        self.released += 1
        self.ends.append(exchange.success)

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


@pytest.mark.parametrize(
    ("end", "success"),
    [
        pytest.param("answered", True, id="an answer is a success"),
        pytest.param("AgentFailed", False, id="a failure of the agent is one"),
        pytest.param("StateTooLarge", False, id="so is a state that is too large"),
        pytest.param("DeadlineExceeded", False, id="so is a deadline"),
        pytest.param("InputRejected", None, id="an input that the agent refuses is the caller's doing"),
        pytest.param("left", None, id="so is a caller that leaves"),
    ],
)
async def test_every_request_has_its_true_outcome(rig: Rig, end: str, success: bool | None) -> None:
    exchange = rig.request()
    if end == "answered":
        rig.commit(exchange, changed=False)
    elif end != "left":
        rig.resident.frame_received(frames.Failed(exchange.number, end, "for a test"))
    rig.resident.leave(exchange)
    assert rig.ends == [success]


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


UNHEARD = StoreUnavailable("no answer", unheard=True)
REFUSED = StoreUnavailable("the memory is full")


@pytest.mark.parametrize(
    "replies",
    [
        pytest.param([UNHEARD], id="one answer was lost"),
        pytest.param([UNHEARD, UNHEARD, REFUSED], id="several were, and then it was refused"),
    ],
)
async def test_a_write_whose_answer_was_lost_is_repeated_until_it_is_confirmed(
    rig: Rig, replies: list[AgentPoolError | None]
) -> None:
    exchange = rig.request()
    rig.store.replies = [*replies, None]
    rig.commit(exchange)
    await rig.settle()
    assert (exchange.output, rig.verdicts) == (b"out", [True])
    assert rig.store.repetitions == len(rig.store.writes) - 1 == len(replies)
    assert rig.resident.uncertain_since is None


async def test_what_was_refused_for_certain_is_not_repeated(rig: Rig) -> None:
    exchange = rig.request()
    rig.store.failure = REFUSED
    rig.commit(exchange)
    await rig.settle()
    assert exchange.error is REFUSED
    assert len(rig.store.writes) == 1


async def give_up(rig: Rig, last: AgentPoolError) -> None:
    """No attempt is answered, and then there is no time left."""
    rig.store.failure = UNHEARD
    await rig.store.repeated.wait()
    rig.store.failure, rig.now = last, 60.0
    await rig.settle()


@pytest.mark.parametrize(
    ("last", "with_key"),
    [
        pytest.param(UNHEARD, "StoreUnavailable", id="the store stays silent"),
        pytest.param(REFUSED, "StoreUnavailable", id="the store refuses a repetition"),
        pytest.param(OwnershipLost("taken"), "OwnershipLost", id="somebody else owns the instance by now"),
    ],
)
async def test_without_a_verdict_only_a_key_allows_to_try_again(
    rig: Rig, last: AgentPoolError, with_key: str
) -> None:
    plain, keyed, beside = rig.request(), rig.request("k"), rig.request("b")
    rig.commit(plain, keyed)
    later = rig.request()
    await give_up(rig, last)
    for one in (beside, later):
        rig.resident.frame_received(frames.Failed(one.number, "InstanceRolledBack", ""))
    assert isinstance(plain.error, OutcomeUnknown)
    assert keyed.error is not None and keyed.error.code == with_key and keyed.error.retryable
    assert isinstance(beside.error, OutcomeUnknown), "its change may be in the snapshot, its key is not"
    assert later.error is not None and later.error.retryable, "it began behind the snapshot"


async def test_a_store_that_lost_its_data_lost_what_was_unheard_too(rig: Rig) -> None:
    exchange = rig.request()
    rig.commit(exchange)
    await give_up(rig, StoreDataLost("gone"))
    assert isinstance(exchange.error, StoreDataLost)
    assert rig.data_lost == 1


@pytest.mark.parametrize(
    ("last", "code"),
    [
        pytest.param(None, None, id="it is confirmed"),
        pytest.param(OwnershipLost("taken"), "OwnershipLost", id="it is refused"),
    ],
)
async def test_a_worker_that_dies_behind_its_answer_does_not_decide_what_became_of_it(
    rig: Rig, last: AgentPoolError | None, code: str | None
) -> None:
    exchange, other = rig.request(), rig.request()
    rig.store.open.clear()
    rig.commit(exchange)
    await asyncio.sleep(0)
    rig.worker.end("it crashed")
    assert not exchange.ended and isinstance(other.error, InstanceCrashed)
    assert rig.released == 2, "its place is free all the same"
    rig.store.failure = last
    rig.store.open.set()
    await rig.settle()
    assert exchange.output == (b"out" if code is None else None)
    assert (exchange.error.code if exchange.error else None) == code


async def test_a_deadline_that_passes_during_a_write_leaves_the_outcome_open(rig: Rig) -> None:
    rig.store.open.clear()
    plain = rig.resident.begin("", 0.0, 1000)
    keyed = rig.resident.begin("k", 0.0, 1000)
    for exchange in (plain, keyed):
        rig.resident.handle(exchange, b"1")
    waiting = rig.resident.begin("", 0.0, 1000)
    rig.commit(plain, keyed)
    with pytest.raises(OutcomeUnknown):
        await plain.next()
    with pytest.raises(DeadlineExceeded):
        await keyed.next()
    with pytest.raises(DeadlineExceeded):
        # The worker never had it.
        await waiting.next()
    rig.store.open.set()
    await rig.settle()
