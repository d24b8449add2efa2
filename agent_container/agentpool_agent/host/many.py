# SPDX-License-Identifier: Apache-2.0
"""Requests that come many over one call: `InvokeMany` of host.proto.

    batch of requests -> a task for each -> what they have to tell -> one writer -> batch of outcomes
What is told while a batch is on its way goes with the next one: the busier the host, the fewer the batches.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from functools import partial
from typing import Any

import grpc.aio
import structlog

from agentpool_core.errors import AgentPoolError, HostOverloaded
from agentpool_proto.v1.host_pb2 import (
    HostInvokeRequest,
    InvokeManyRequest,
    InvokeManyResponse,
    NumberedOutcome,
    NumberedRequest,
)
from agentpool_proto.v1.types_pb2 import InvokeEvent
from agentpool_rpc.acceptance import ACCEPTED, answer_of
from agentpool_rpc.cancellation import before
from agentpool_rpc.status import to_status
from agentpool_rpc.tokens import CallClaims

log = structlog.get_logger(__name__)

MAX_UNDER_WAY = 2048
"""Requests of one call; a gateway sends half of that at most."""
Serve = Callable[[HostInvokeRequest, CallClaims, float], AsyncGenerator[InvokeEvent, None]]
"""The events of a request that has so many seconds; it or its first event raises what the request is refused
with."""

BATCH_BYTES = 1024 * 1024
"""Answers in one message, unless a single one is larger."""


class ManyCalls:
    """All calls that carry many requests.

    Args:
        claims: of the call token that a batch carries; raises Unauthenticated, PermissionDenied.
    """

    def __init__(self, serve: Serve, claims: Callable[[str], CallClaims]) -> None:
        self._serve = serve
        self._claims = claims
        self._closing = asyncio.Event()

    async def serve(self, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        """One call, until its gateway ends it or the host does. It is taken: that is told before anything is
        read."""
        await context.send_initial_metadata(ACCEPTED)
        await before(self._closing, _ManyCall(self._serve, self._claims, context).run())

    def close(self) -> None:
        """End all calls; to be called when there are no requests any more."""
        self._closing.set()


class _ManyCall:
    def __init__(
        self,
        serve: Serve,
        claims: Callable[[str], CallClaims],
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> None:
        self._serve = serve
        self._claims = claims
        self._context = context
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._accepted: list[int] = []
        self._outcomes: deque[NumberedOutcome] = deque()
        self._something = asyncio.Event()
        self._left = asyncio.Event()

    async def run(self) -> None:
        """Until the gateway has no more to ask, or the connection breaks: then its requests are cancelled."""
        loop = asyncio.get_running_loop()
        both = [loop.create_task(self._read()), loop.create_task(self._write())]
        try:
            done, _ = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            tasks = [*both, *self._tasks.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self) -> None:
        while isinstance(batch := await self._context.read(), InvokeManyRequest):
            self._take(batch)

    def _take(self, batch: InvokeManyRequest) -> None:
        for number in batch.cancelled:
            if (task := self._tasks.get(number)) is not None:
                task.cancel()
        try:
            claims = self._claims(batch.authorization)
            if len(self._tasks) + len(batch.requests) > MAX_UNDER_WAY:
                raise HostOverloaded(f"More than {MAX_UNDER_WAY} requests are under way.")
        except AgentPoolError as exc:
            for one in batch.requests:
                self._fail(one.number, exc)
            return
        loop = asyncio.get_running_loop()
        for one in batch.requests:
            task = self._tasks[one.number] = loop.create_task(self._answer(one, claims))
            # Also of a task that is cancelled before its first turn, of which nothing runs.
            task.add_done_callback(partial(self._ended, one.number))

    def _ended(self, number: int, _: asyncio.Task[None]) -> None:
        self._tasks.pop(number, None)

    async def _answer(self, one: NumberedRequest, claims: CallClaims) -> None:
        number = one.number
        try:
            async with aclosing(self._serve(one.request, claims, one.timeout_seconds)) as events:
                answer = await answer_of(events, lambda: self._tell(number))
            self._outcomes.append(NumberedOutcome(number=number, answer=answer))
            self._something.set()
        except AgentPoolError as exc:
            self._fail(number, exc)
        except Exception:
            log.exception("call_failed")
            self._fail(number, AgentPoolError("The component failed on this call."))

    def _fail(self, number: int, error: AgentPoolError) -> None:
        self._outcomes.append(NumberedOutcome(number=number, failure=to_status(error).SerializeToString()))
        self._something.set()

    async def _tell(self, number: int) -> None:
        """That a request was accepted has left when this returns."""
        self._accepted.append(number)
        self._something.set()
        await self._left.wait()

    async def _write(self) -> None:
        while True:
            await self._something.wait()
            batch, left = InvokeManyResponse(accepted=self._accepted), self._left
            self._accepted, self._left = [], asyncio.Event()
            size = 0
            while self._outcomes and size < BATCH_BYTES:
                outcome = self._outcomes.popleft()
                size += outcome.ByteSize()
                batch.outcomes.append(outcome)
            if not self._outcomes:
                self._something.clear()
            try:
                await self._context.write(batch)
            except Exception as exc:
                # gRPC raises what it likes when the gateway is gone before it has said so.
                log.warning("call_broke", reason=f"{type(exc).__name__}: {exc}")
                return
            left.set()
