# SPDX-License-Identifier: Apache-2.0
"""The worker's half of the commit protocol (see `wire.frames`).

    request finishes -> waiting --.
                                  +- next turn of the loop, nobody exclusive, none in flight -> Commit
    request fails -> suspect -----'     a suspect that left a change behind -> rollback

Two states are remembered: `durable`, the parts that the host acknowledged, which changes are computed from;
and `good`, the parts with which the last answers left, which a rollback restores. With durable answers they
differ only before the first commit of a new instance.

A request counts as finished when its Answer arrives. A change and its Answer without a turn of the loop in
between are therefore always in the same commit: exactly what an Idempotency-Key needs.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from agentpool_agent.authoring import Agent
from agentpool_agent.wire.frames import MAX_FRAME_BYTES, Clean, Commit, Failed, Finished, SpanRecord
from agentpool_agent.worker.channel import Channel
from agentpool_agent.worker.ledger import BadSnapshot, Change, OverSize, Parts, checked, difference

log = logging.getLogger(__name__)

COMMITTED_SECONDS = 60.0
"""A host that has not answered a commit by then is broken; the worker ends rather than serve on."""

MIN_BATCH_BYTES = 1024 * 1024
"""Answers in one commit are bounded by what its frame has room for beside the state. The rest follow in the
next one; it takes many large answers at the same time to come to that."""

ROLLED_BACK = "InstanceRolledBack"
_ROLLED_BACK_MESSAGE = "Another request of the instance failed after a change of state."


class Requests(Protocol):
    """What commits need to know of the requests that run."""

    def others_may_change(self) -> bool:
        """Whether any request that runs has not declared itself unchanged."""

    def hold(self) -> None:
        """Start no request until `resume`."""

    async def stop_all(self) -> list[int]:
        """Cancel every request, start none until `resume`, and give the ids of those that had begun and had
        no answer yet. Ends the process when a handler does not stop in time."""

    def resume(self) -> None:
        """Start requests again, those first that came in the meantime; not while a stopped one that may have
        changed the state still cleans up."""


@dataclass(frozen=True, slots=True)
class _Answered:
    output: bytes
    unchanged: bool
    spans: list[SpanRecord]


@dataclass(frozen=True, slots=True)
class _InFlight:
    seq: int
    parts: Parts
    settled: asyncio.Event


@dataclass(frozen=True, slots=True)
class Terms:
    """How this instance commits."""

    durable_answers: bool
    state_bytes: int

    @property
    def batch_bytes(self) -> int:
        """Room for answers in a commit's frame beside the largest state, names and ids included."""
        return max(MIN_BATCH_BYTES, (MAX_FRAME_BYTES - self.state_bytes) // 2)


class Commits:
    """Groups finished requests into commits and rolls back after failures."""

    def __init__(
        self,
        agent: Agent,
        channel: Channel,
        terms: Terms,
        durable: Parts,
        exclusive: Callable[[], bool],
        spawn: Callable[[Awaitable[None]], None],
    ) -> None:
        """`exclusive` tells whether a handler is inside `context.exclusive()`; `spawn` runs a task whose
        failure ends the worker. Raises BadSnapshot or OverSize when the agent's first snapshot is wrong."""
        self._agent = agent
        self._channel = channel
        self._terms = terms
        self._exclusive = exclusive
        self._spawn = spawn
        self._durable = dict(durable)
        self._good: Parts = checked(agent.snapshot(), self._durable, terms.state_bytes)
        self._waiting: dict[int, _Answered] = {}
        self._suspects: list[Failed | None] = []
        self._in_flight: _InFlight | None = None
        self._seq = 0
        self._snapshot_wanted = False
        self._full_wanted = False
        self._scheduled = False
        self._rolling_back = False
        self.requests: Requests
        """Set by the owner before the first request."""

    def finish(
        self, request: int, output: bytes, spans: list[SpanRecord] | None = None, *, unchanged: bool
    ) -> None:
        """A request has its answer; it leaves with the next commit."""
        self._waiting[request] = _Answered(output, unchanged, spans or [])
        self._schedule()

    def withdraw(self, request: int) -> bool:
        """Take an answer back; False when it is on its way already."""
        return self._waiting.pop(request, None) is not None

    def fail(self, failure: Failed | None, *, unchanged: bool) -> None:
        """A request failed (None: nobody waits for it). When it left a change behind, everything since the
        last commit is rolled back, because changes of several requests cannot be told apart."""
        if unchanged:
            if failure is not None:
                self._channel.send(failure)
            return
        self._suspects.append(failure)
        self.requests.hold()
        self._schedule()

    def want_snapshot(self, *, full: bool) -> None:
        """The host asks for a commit of whatever changed; `full`: of every part."""
        self._snapshot_wanted = True
        self._full_wanted = self._full_wanted or full
        self._schedule()

    def committed(self, seq: int, *, ok: bool) -> None:
        """The host's verdict on the commit in flight. Raises ValueError when it is about another one."""
        flight = self._in_flight
        if flight is None or flight.seq != seq:
            raise ValueError(f"Committed for {seq}, which is not in flight")
        self._in_flight = None
        flight.settled.set()
        if ok:
            self._durable = dict(flight.parts)
            if self._terms.durable_answers:
                self._good = flight.parts
        elif self._terms.durable_answers and not self._rolling_back:
            self._begin_rollback([])
            return
        self._schedule()

    def freed(self) -> None:
        """Nobody is exclusive at this moment."""
        self._advance()

    def _schedule(self) -> None:
        # In the next turn of the loop, so that requests which finish in this one share the commit.
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._run_scheduled)

    def _run_scheduled(self) -> None:
        self._scheduled = False
        self._advance()

    def _advance(self) -> None:
        if self._rolling_back or self._exclusive():
            return
        if self._suspects and not self._clear_suspects():
            return
        if self._in_flight is not None and self._terms.durable_answers:
            return
        if self._waiting or (self._snapshot_wanted and self._in_flight is None):
            self._commit()

    def _clear_suspects(self) -> bool:
        suspects, self._suspects = self._suspects, []
        try:
            now = self._snapshot()
        except (BadSnapshot, OverSize) as exc:
            log.warning("agent_snapshot_refused: %s", exc)
            now = None
        base = self._in_flight.parts if self._in_flight and self._terms.durable_answers else self._good
        failures = [failure for failure in suspects if failure is not None]
        if now is None or difference(base, now):
            self._begin_rollback(failures)
            return False
        for failure in failures:
            self._channel.send(failure)
        self.requests.resume()
        return True

    def _snapshot(self) -> dict[str, bytes]:
        """What the agent holds now. Any exception of the agent's own snapshot() becomes BadSnapshot."""
        base = self._in_flight.parts if self._in_flight else self._durable
        try:
            taken = self._agent.snapshot()
        except Exception as exc:
            raise BadSnapshot(f"snapshot() raised {type(exc).__name__}: {exc}") from exc
        return checked(taken, base, self._terms.state_bytes)

    def _commit(self) -> None:
        batch = self._batch()
        known_clean = all(self._waiting[request].unchanged for request in batch)
        if known_clean and not self._snapshot_wanted and not self._others_may_change():
            self._send_commit(batch, Change({}, ()))
            return
        try:
            now = self._snapshot()
        except (BadSnapshot, OverSize) as exc:
            self._refuse(batch, exc)
            return
        answers_snapshot = self._snapshot_wanted and self._in_flight is None
        full = answers_snapshot and self._full_wanted
        change = Change(now, ()) if full else self._change_to_write(now, answers_snapshot)
        if answers_snapshot:
            self._snapshot_wanted = self._full_wanted = False
        if not self._terms.durable_answers or not change:
            self._good = now
        if batch or change or full:
            self._send_commit(batch, change, full=full)
        if change:
            self._in_flight = _InFlight(self._seq, now, asyncio.Event())
        elif answers_snapshot and not full:
            self._channel.send(Clean())

    def _change_to_write(self, now: Parts, answers_snapshot: bool) -> Change:
        if self._terms.durable_answers:
            return difference(self._durable, now) if difference(self._good, now) else Change({}, ())
        return difference(self._durable, now) if answers_snapshot else Change({}, ())

    def _batch(self) -> list[int]:
        batch: list[int] = []
        size = 0
        for request, answered in self._waiting.items():
            size += len(answered.output)
            if batch and size > self._terms.batch_bytes:
                break
            batch.append(request)
        return batch

    def _send_commit(self, batch: list[int], change: Change, *, full: bool = False) -> None:
        self._seq += 1
        answers = [(request, self._waiting.pop(request)) for request in batch]
        finished = [Finished(request, one.output, one.spans) for request, one in answers]
        self._channel.send(Commit(self._seq, finished, dict(change.parts), list(change.removed), full))
        if self._waiting:
            self._schedule()

    def _others_may_change(self) -> bool:
        waiting = any(not answered.unchanged for answered in self._waiting.values())
        return waiting or self.requests.others_may_change()

    def _refuse(self, batch: list[int], reason: BadSnapshot | OverSize) -> None:
        code = "StateTooLarge" if isinstance(reason, OverSize) else "AgentFailed"
        guilty = [request for request in batch if not self._waiting[request].unchanged]
        for request in guilty:
            del self._waiting[request]
        self._begin_rollback([Failed(request, code, str(reason)) for request in guilty])

    def _begin_rollback(self, failures: list[Failed]) -> None:
        self._rolling_back = True
        self.requests.hold()
        self._spawn(self._roll_back(failures))

    async def _roll_back(self, failures: list[Failed]) -> None:
        stopped = [*self._waiting, *await self.requests.stop_all(), *self._waiting]
        victims = dict.fromkeys(stopped)
        failures += [Failed(request, ROLLED_BACK, _ROLLED_BACK_MESSAGE) for request in victims]
        self._waiting.clear()
        if self._in_flight is not None:
            # The answers in it may leave, so its outcome decides which state is the good one.
            async with asyncio.timeout(COMMITTED_SECONDS):
                await self._in_flight.settled.wait()
        failures += [failure for failure in self._suspects if failure is not None]
        self._suspects.clear()
        self._agent.restore(dict(self._good))
        for failure in failures:
            self._channel.send(failure)
        self._rolling_back = False
        self.requests.resume()
        self._schedule()
