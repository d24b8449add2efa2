# SPDX-License-Identifier: Apache-2.0
"""One resident instance: its worker, its requests, and when a change becomes durable.

A request is answered when its change is. Whatever the store cannot confirm is taken back in the worker, and
the caller gets a retryable error.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

from agentpool_agent.host.exchange import Exchange, resolve
from agentpool_agent.host.laps import Stage
from agentpool_agent.host.line import Line
from agentpool_agent.host.quota import RateBucket, carried
from agentpool_agent.host.reported import worker_error
from agentpool_agent.host.saving import MADE, Batch, Undecided, Verdict, carried_out, unconfirmed
from agentpool_agent.host.surroundings import Surroundings
from agentpool_agent.host.table import Entry
from agentpool_agent.host.terms import Terms
from agentpool_agent.host.worker import WorkerChannel
from agentpool_agent.store.base import Ownership, Write
from agentpool_agent.wire import frames
from agentpool_agent.wire.frames import RESTORING
from agentpool_core.errors import (
    AgentPoolError,
    DeadlineExceeded,
    InstanceCrashed,
    MemoryExceeded,
    OwnershipLost,
    StoreDataLost,
    StoreUnavailable,
)
from agentpool_core.recovery import Cause
from agentpool_proto.v1.types_pb2 import Done

log = structlog.get_logger(__name__)

SNAPSHOT_SECONDS = 10.0
LATE_KEYS = 256
"""Requests without a caller whose Idempotency-Key still counts as in flight."""

STAGE_CHARS = 100

GRACE_SECONDS = 0.25
"""The worker keeps the deadline itself and knows more; the host's own timer comes this much later."""


class Resident:
    """An instance with a worker of its own; a `worker.FrameSink`."""

    one_shot = False
    """Whether the last request that came does not go through the pool; see `one_shot.OneShots`."""
    forked_now = False
    """Whether its process was made for it, and had not waited."""

    def __init__(
        self,
        around: Surroundings,
        entry: Entry,
        ownership: Ownership,
        worker: WorkerChannel,
        bucket: RateBucket,
    ) -> None:
        self.entry = entry
        self.ownership = ownership
        self.worker = worker
        self.bucket = bucket
        self.durable = True
        """False: `durability: Interval`; a timer asks for snapshots."""
        self.terms: Terms | None = None
        """What its worker was started with."""
        self.exchanges: dict[int, Exchange] = {}
        self.keyed: dict[str, asyncio.Future[None]] = {}
        self.line, self.settled = Line(), asyncio.Event()
        """Set whenever an eviction or a pause of it has ended, one way or the other."""
        self.uncertain_since: float | None = None
        """When a write went unanswered: what the store holds is known again only after a new claim."""
        self.touched = False
        """With Interval: requests were handled since the last snapshot."""
        self.saving = asyncio.Lock()
        self.setup: asyncio.Future[frames.Ready] = asyncio.get_running_loop().create_future()
        self._around = around
        self._late: dict[int, str] = {}
        self._undecided = Undecided()
        self._snapshot: asyncio.Future[None] | None = None
        self._whole: asyncio.Future[None] | None = None
        self.dead, self._number = False, 0
        self.cause: Cause | None = None
        """Why the worker is gone, once it is."""
        self.stage = "the agent's constructor"
        """What is being done with the agent until it is ready."""
        self.doubted_at = 0.0
        """When a request was given up on that the worker had; 0 once the worker has answered since."""
        worker.sink, worker.instance_id = self, entry.instance_id

    # Requests

    def begin(self, idempotency_key: str, deadline: float, max_bytes: int) -> Exchange:
        """A request is admitted; `deadline` on the host's clock."""
        self._number += 1
        exchange = Exchange(self._number, idempotency_key, deadline, max_bytes, self._around.clock())
        self.exchanges[exchange.number] = exchange
        loop = asyncio.get_running_loop()
        delay = max(0.0, deadline - self._around.clock()) + GRACE_SECONDS
        exchange.timer = loop.call_later(delay, self._expire, exchange)
        if idempotency_key:
            self.keyed[idempotency_key] = loop.create_future()
        return exchange

    def handle(self, exchange: Exchange, body: bytes) -> None:
        """Give an accepted request to the worker, unless its caller has gone meanwhile."""
        if exchange.ended or exchange.released:
            return
        left = max(0.001, exchange.deadline - self._around.clock())
        self.touched = exchange.started = True
        self.worker.send(frames.Handle(exchange.number, body, left, exchange.spans_wanted))

    def leave(self, exchange: Exchange) -> None:
        """The caller is served or gone. A keyed request that the worker has goes on without it: a retry
        with the same key waits for its answer, and must not run beside it."""
        if exchange.ended or not exchange.idempotency_key or not exchange.started:
            self._cancel(exchange)
            self._close(exchange)

    def _expire(self, exchange: Exchange) -> None:
        exchange.timer = None
        # While a write is under way, the worker keeps back what it has answered.
        answered = exchange.number in self._undecided.in_save or (exchange.started and self.saving.locked())
        if answered and not exchange.idempotency_key:
            exchange.fail(unconfirmed())
        late = DeadlineExceeded("The request's deadline passed.")
        exchange.fail(self._undecided.honest(exchange.number, late))
        self._cancel(exchange)
        self._close(exchange)

    def _cancel(self, exchange: Exchange) -> None:
        if exchange.output is not None or exchange.cancelled or exchange.number not in self.exchanges:
            return
        exchange.cancelled = True
        if not exchange.started:
            return
        self.doubted_at = self.doubted_at or self._around.clock()
        if not exchange.idempotency_key:
            self.worker.send(frames.Cancel(exchange.number))
            return
        # The worker ends it at its deadline and says so; until then the key counts as in flight.
        self._late[exchange.number] = exchange.idempotency_key
        while len(self._late) > LATE_KEYS:
            self._free_key(self._late.pop(next(iter(self._late))))

    def _close(self, exchange: Exchange) -> None:
        if exchange.released:
            return
        exchange.released = True
        if exchange.timer is not None:
            exchange.timer.cancel()
            exchange.timer = None
        self.exchanges.pop(exchange.number, None)
        self._undecided.forget(exchange.number)
        if exchange.idempotency_key and exchange.number not in self._late:
            self._free_key(exchange.idempotency_key)
        self._around.released(self, exchange)

    def _free_key(self, key: str) -> None:
        waiting = self.keyed.pop(key, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    # Frames

    def frame_received(self, frame: frames.ToHost) -> None:
        """worker.FrameSink: the worker said something."""
        if isinstance(frame, frames.Commit):
            self._commit(frame)
        elif isinstance(frame, frames.Part):
            self._part(frame)
        elif isinstance(frame, frames.Failed):
            self._failed(frame)
        elif isinstance(frame, frames.Clean):
            self._snapshot_done(None)
        elif isinstance(frame, frames.Making):
            self.stage = frame.stage[:STAGE_CHARS]
            if self.stage == RESTORING:
                self.entry.laps.mark(Stage.SETUP, self._around.clock())
        elif isinstance(frame, frames.Ready):
            if not self.setup.done():
                self.setup.set_result(frame)
        elif isinstance(frame, frames.SetupFailed) and not self.setup.done():
            self.setup.set_exception(worker_error(frame.code, frame.message))

    def _part(self, frame: frames.Part) -> None:
        exchange = self.exchanges.get(frame.id)
        if exchange is not None and not exchange.part(frame.data, self._around.clock()):
            self._cancel(exchange)

    def _failed(self, frame: frames.Failed) -> None:
        key = self._late.pop(frame.id, None)
        if key is not None:
            self._free_key(key)
        exchange = self.exchanges.get(frame.id)
        error = worker_error(frame.code, frame.message)
        if isinstance(error, MemoryExceeded) and not self.dead:
            self._around.strained(self, error.message)
        if exchange is not None:
            exchange.cancelled, exchange.spans = True, frame.spans
            exchange.fail(self._undecided.honest(frame.id, error))
            if exchange.idempotency_key:
                self._close(exchange)

    def worker_lost(self, reason: str, cause: Cause) -> None:
        """worker.FrameSink: the worker is gone."""
        self.cause = cause
        # The state goes to ERROR first: a request's end must not show the instance as READY.
        self._around.lost(self, reason, cause)
        kind = MemoryExceeded if cause is Cause.MEMORY_EXCEEDED else InstanceCrashed
        self._end(kind(f"The instance's worker is gone: {reason}."))

    def drop(self, error: AgentPoolError) -> None:
        """End the worker because this host must not speak for the instance any more."""
        self.worker.sink = None
        self.worker.end("dropped")
        self._around.lost(self, error.message, None)
        self._end(error)

    @property
    def restoring(self) -> bool:
        """Whether the agent takes its stored state back."""
        return self.stage == RESTORING

    def stop(self) -> None:
        """End the worker in good order: nothing is under way."""
        self.worker.sink = None
        self.worker.send(frames.Stop())
        self.worker.end("stopped")
        self._end(InstanceCrashed("The instance was stopped."))

    def abort(self, error: AgentPoolError) -> None:
        """End the worker now; whoever waits gets the error."""
        self.worker.sink = None
        self.worker.end("aborted")
        self._end(error)

    def _end(self, error: AgentPoolError) -> None:
        self.dead = True
        if not self.setup.done():
            self.setup.set_exception(error)
            self.setup.exception()
        resolve(self._snapshot, error)
        resolve(self._whole, error)
        for exchange in list(self.exchanges.values()):
            exchange.cancelled = True
            if exchange.number not in self._undecided.in_save:
                exchange.fail(self._undecided.honest(exchange.number, error))
            self._close(exchange)
        for key in list(self.keyed):
            self._free_key(key)
        self._late.clear()
        self.line.interrupt()

    # Durability

    def _commit(self, commit: frames.Commit) -> None:
        keyed = self._finals(commit)
        if commit.full or commit.parts or commit.removed or keyed:
            batch = self._undecided.batch(commit.finished, self.exchanges, self._around.clock())
            save = self._register if commit.full else self._save
            self._around.spawn(save(commit, keyed, batch), "register" if commit.full else "save")
        else:
            # Not the end of a snapshot: an answer that crossed it; Clean follows when nothing changed.
            self._settle(commit.finished)

    def _finals(self, commit: frames.Commit) -> dict[str, bytes]:
        finals: dict[str, bytes] = {}
        for finished in commit.finished:
            exchange = self.exchanges.get(finished.id)
            key = exchange.idempotency_key if exchange is not None else self._late.get(finished.id, "")
            if key:
                finals[key] = Done(output=finished.output).SerializeToString()
        return finals

    async def _save(self, commit: frames.Commit, keyed: dict[str, bytes], batch: Batch) -> None:
        changed, began = bool(commit.parts or commit.removed), self._around.clock()
        write = Write(commit.parts, frozenset(commit.removed), keyed, carried(self.bucket, self.entry))

        async def attempt(again: bool) -> None:
            await self._around.save(self.ownership, write, again)

        async with self.saving:
            verdict = await self._store(attempt, batch)
            size = sum(map(len, commit.parts.values()))
            self._around.checkpointed(size, self._around.clock() - began)
            if self._concluded(verdict, batch):
                return
            if changed:
                self.worker.send(frames.Committed(commit.seq, verdict.error is None))
        self._settle(batch.finished, verdict)
        if changed:
            self._snapshot_done(verdict.error)
        if isinstance(verdict.error, StoreDataLost):
            self._around.data_lost()

    async def _store(self, attempt: Callable[[bool], Awaitable[None]], batch: Batch) -> Verdict:
        until = batch.until(self._around.clock())

        def give_up(unheard: bool) -> bool:
            if not self.durable:
                # The answers are out: keep the change and try until the store is back.
                return self.dead
            return not unheard or self._around.clock() >= until

        verdict = await carried_out(attempt, give_up)
        if self.durable and isinstance(verdict.error, StoreUnavailable):
            # It may have been written all the same, so nothing may build on it before a new claim.
            self.uncertain_since = self._around.clock()
        return verdict

    def _concluded(self, verdict: Verdict, batch: Batch) -> bool:
        """Whether the verdict is the last thing that this instance is told."""
        if verdict.unknown:
            self._undecided.doubt(batch.beside & self.exchanges.keys())
        if not self.dead and isinstance(verdict.error, OwnershipLost):
            self.drop(verdict.error)
        if self.dead:
            self._settle(batch.finished, verdict)
        return self.dead

    def _settle(self, finished: Sequence[frames.Finished], verdict: Verdict = MADE) -> None:
        now = self._around.clock()
        for one in finished:
            self._forget_late(one.id)
            exchange = self._undecided.in_save.pop(one.id, None) or self.exchanges.get(one.id)
            if exchange is None:
                continue
            exchange.spans, error = one.spans, verdict.told(exchange.idempotency_key)
            if error is None:
                exchange.finish(one.output, now)
            else:
                exchange.cancelled = True
                exchange.fail(error)
            if exchange.idempotency_key:
                # Its caller may be gone; nobody else would close it.
                self._close(exchange)

    def _forget_late(self, number: int) -> None:
        key = self._late.pop(number, None)
        if key is not None:
            self._free_key(key)

    def _snapshot_done(self, error: AgentPoolError | None) -> None:
        resolve(self._snapshot, error)

    async def checkpoint(self) -> None:
        """Have the worker send what changed, and save it; raises what kept it from being saved."""
        if self._snapshot is None or self._snapshot.done():
            self._snapshot = asyncio.get_running_loop().create_future()
            self.touched = False
            self.worker.send(frames.Snapshot())
        try:
            async with asyncio.timeout(SNAPSHOT_SECONDS):
                await asyncio.shield(self._snapshot)
        except TimeoutError:
            self.touched = True
            raise StoreUnavailable("The instance gave no snapshot in time.") from None
        except AgentPoolError:
            self.touched = True
            raise

    async def register(self) -> None:
        """After the store lost its data: write the whole state again, under a fresh epoch; raises what kept
        it from being written."""
        if self._whole is None or self._whole.done():
            self._whole = asyncio.get_running_loop().create_future()
            self.worker.send(frames.Snapshot(full=True))
        try:
            async with asyncio.timeout(SNAPSHOT_SECONDS):
                await asyncio.shield(self._whole)
        except TimeoutError:
            raise StoreUnavailable("The instance gave no full snapshot in time.") from None

    async def _register(self, commit: frames.Commit, keyed: dict[str, bytes], batch: Batch) -> None:
        write = Write(commit.parts, frozenset(), keyed, carried(self.bucket, self.entry))

        async def attempt(_again: bool) -> None:
            self.ownership = await self._around.store().register(self.ownership, write)
            self.entry.epoch, self.entry.noted = self.ownership.epoch, self.ownership.failures
            self.uncertain_since = None

        until = batch.until(self._around.clock())
        async with self.saving:
            verdict = await carried_out(attempt, lambda unheard: not unheard or self._around.clock() >= until)
            if self._concluded(verdict, batch):
                return
            if commit.parts or commit.removed:
                self.worker.send(frames.Committed(commit.seq, verdict.error is None))
        self._settle(batch.finished, verdict)
        resolve(self._whole, verdict.error)
