# SPDX-License-Identifier: Apache-2.0
"""One request under way: what came back from the worker and was not yet sent to the caller."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from agentpool_agent.wire.frames import SpanRecord
from agentpool_core.errors import AgentPoolError, AnswerTooLarge
from agentpool_core.outcome import succeeded
from agentpool_core.resilience import Pass

MAX_CHUNKS = 1024
"""Chunks that may wait for a slow reader."""


class Exchange:
    """The events of one request, from the worker to the caller.

    A reader that is slower than the agent holds up to `max_bytes` here and no other request; over that the
    request fails. Whatever comes after the end is ignored, so there is exactly one end.
    """

    __slots__ = (
        "_buffered",
        "_max_bytes",
        "_parts",
        "_waiter",
        "began",
        "cancelled",
        "deadline",
        "error",
        "finished_at",
        "first_event_at",
        "given",
        "idempotency_key",
        "number",
        "output",
        "released",
        "saving_at",
        "spans",
        "spans_wanted",
        "started",
        "timer",
        "trace_id",
    )

    def __init__(
        self, number: int, idempotency_key: str, deadline: float, max_bytes: int, began: float = 0.0
    ) -> None:
        self.number = number
        self.began = began
        self.idempotency_key = idempotency_key
        self.deadline = deadline
        self.output: bytes | None = None
        self.error: AgentPoolError | None = None
        self.first_event_at = 0.0
        self.saving_at = self.finished_at = 0.0
        """When a write with its change began, and when its answer was final; 0: not yet, or no change."""
        self.spans_wanted = 0
        self.spans: Sequence[SpanRecord] = ()
        """What the worker noted of it, when that is wanted."""
        self.trace_id = ""
        """For lines of the log that the agent writes for it; empty: traces are off."""
        self.given: Pass | None = None
        """Its way through the instance's breaker; None: it has not come so far."""
        self.released = False
        self.started = False
        self.cancelled = False
        self.timer: asyncio.TimerHandle | None = None
        self._parts: deque[bytes] = deque()
        self._buffered = 0
        self._max_bytes = max_bytes
        self._waiter: asyncio.Future[None] | None = None

    @property
    def ended(self) -> bool:
        """Whether the one end has come."""
        return self.output is not None or self.error is not None

    @property
    def success(self) -> bool | None:
        """How it ended (B33): answered, failed, or neither. Neither: its caller left or was at fault, or it
        was refused before the agent was given it."""
        return succeeded(self.error) if self.ended and self.operation else None

    @property
    def operation(self) -> bool:
        """Whether the agent was given it, or an answer was found for it."""
        return self.started or self.output is not None

    def part(self, data: bytes, now: float) -> bool:
        """A chunk came; False when it did not fit and the request failed for that."""
        if self.ended:
            return True
        self.first_event_at = self.first_event_at or now
        self._buffered += len(data)
        if self._buffered > self._max_bytes or len(self._parts) >= MAX_CHUNKS:
            self.fail(
                AnswerTooLarge(
                    "The caller reads the answer more slowly than the agent writes it, and too much waits.",
                    remedy="Read the stream faster, or let the agent write less at once.",
                )
            )
            return False
        self._parts.append(data)
        self._wake()
        return True

    def finish(self, output: bytes, now: float) -> None:
        """The answer is final, and durable if it changed anything."""
        if not self.ended:
            self.first_event_at = self.first_event_at or now
            self.output, self.finished_at = output, now
            self._wake()

    def fail(self, error: AgentPoolError) -> None:
        """The request ends without an answer."""
        if not self.ended:
            self.error = error
            self._wake()

    async def next(self) -> bytes | None:
        """The next chunk, or None once the answer is final; raises what the request failed with."""
        while not self._parts:
            if self.error is not None:
                raise self.error
            if self.output is not None:
                return None
            self._waiter = asyncio.get_running_loop().create_future()
            # Bounded: the request's deadline fails it.
            await self._waiter
        if self.error is not None:
            raise self.error
        data = self._parts.popleft()
        self._buffered -= len(data)
        return data

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def resolve(future: asyncio.Future[None] | None, error: AgentPoolError | None) -> None:
    """End a wait, if anybody still waits; with an error, or without."""
    if future is None or future.done():
        return
    if error is None:
        future.set_result(None)
        return
    future.set_exception(error)
    # Its waiter may have given up; asyncio would complain about an error nobody looked at.
    future.exception()
