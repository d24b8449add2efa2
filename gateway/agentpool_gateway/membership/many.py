# SPDX-License-Identifier: Apache-2.0
"""Requests for one host, many over one call: the gateway's half of `InvokeMany` of host.proto.

A request is asked, and awaited, as if it had a unary call of its own; it fails with the same errors. What is
asked while a batch is on its way goes with the next one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Generator
from typing import Any

import grpc
import grpc.aio
import structlog
from grpc.aio import AioRpcError, Metadata

from agentpool_proto.v1.host_pb2 import (
    HostInvokeRequest,
    HostInvokeResponse,
    InvokeManyRequest,
    InvokeManyResponse,
    NumberedOutcome,
    NumberedRequest,
)
from agentpool_rpc.acceptance import ACCEPTED, tells_acceptance
from agentpool_rpc.status import TRAILER, grpc_code, status_of

log = structlog.get_logger(__name__)

MAX_PENDING = 1024
SMALL_BYTES = 64 * 1024
"""Larger inputs, and instances whose answers were larger, have calls of their own: gRPC divides a connection
between calls, and a message is never divided."""
BATCH_BYTES = 1024 * 1024
MAX_LARGE = 4096
"""Instances that are remembered for their large answers."""


class Asked:
    """One request under way. Await it for the answer; AioRpcError when it failed, with initial metadata that
    tell whether it was accepted."""

    __slots__ = ("_future", "_many", "_timer", "accepted", "authorization", "numbered", "sent")

    def __init__(
        self, many: ManyCall, numbered: NumberedRequest, authorization: str, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.numbered = numbered
        self.authorization = authorization
        self.accepted = self.sent = False
        self._many = many
        self._future: asyncio.Future[HostInvokeResponse] = loop.create_future()
        self._timer = loop.call_later(numbered.timeout_seconds, self._expire)

    def __await__(self) -> Generator[Any, None, HostInvokeResponse]:
        return self._future.__await__()

    def cancel(self) -> None:
        """Nobody waits for it any more; the host is told."""
        self._timer.cancel()
        self._many.forget(self)
        self._future.cancel()

    def answered(self, response: HostInvokeResponse) -> None:
        """Its answer is there."""
        self._timer.cancel()
        if not self._future.done():
            self._future.set_result(response)

    def failed(self, code: grpc.StatusCode, details: str, status: bytes = b"") -> None:
        """It will not be answered. `status`: the error that the host told."""
        self._timer.cancel()
        if not self._future.done():
            initial = Metadata(*ACCEPTED) if self.accepted else Metadata()
            trailing = Metadata((TRAILER, status)) if status else Metadata()
            self._future.set_exception(AioRpcError(code, initial, trailing, details))

    def _expire(self) -> None:
        self._many.forget(self)
        self.failed(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")


class ManyCall:
    """The one call of a host; made with the first request, and again after it broke.

    Attributes:
        known: whether the host knows the method.
    """

    def __init__(self, stub: Any) -> None:
        self.known = True
        self._stub = stub
        self._last = 0
        self._pending: dict[int, Asked] = {}
        self._waiting: deque[Asked] = deque()
        self._cancelled: list[int] = []
        self._something = asyncio.Event()
        self._large: set[str] = set()
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    def takes(self, request: HostInvokeRequest, instance_id: str) -> bool:
        """Whether a request should be asked this way."""
        # While nothing can be written, what waits outlives the requests whose time is over.
        if not self.known or self._closing or max(len(self._pending), len(self._waiting)) >= MAX_PENDING:
            return False
        return len(request.input) <= SMALL_BYTES and instance_id not in self._large

    def ask(self, request: HostInvokeRequest, authorization: str, seconds: float) -> Asked:
        """Send a request."""
        loop = asyncio.get_running_loop()
        self._last += 1
        numbered = NumberedRequest(number=self._last, request=request, timeout_seconds=seconds)
        asked = self._pending[self._last] = Asked(self, numbered, authorization, loop)
        self._waiting.append(asked)
        self._something.set()
        if self._task is None:
            self._task = loop.create_task(self._run(authorization), name="many")
        return asked

    def forget(self, asked: Asked) -> None:
        """A request that nobody waits for; unless it has ended, the host is told."""
        number = asked.numbered.number
        if self._pending.pop(number, None) is not None and asked.sent:
            self._cancelled.append(number)
            self._something.set()

    async def close(self, seconds: float) -> None:
        """Ask no more, wait so long for the answers, then end the call."""
        self._closing = True
        if self._pending:
            await asyncio.wait([asked._future for asked in self._pending.values()], timeout=seconds)
        if (task := self._task) is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _run(self, authorization: str) -> None:
        call = self._stub.InvokeMany(metadata=(("authorization", authorization),))
        writing = asyncio.get_running_loop().create_task(self._write(call))
        code, details, status = grpc.StatusCode.UNAVAILABLE, "The host ended the call.", b""
        try:
            while isinstance(batch := await call.read(), InvokeManyResponse):
                self._took(batch)
        except AioRpcError as exc:
            code, details, status = exc.code(), exc.details() or details, status_of(exc)
            self.known = code is not grpc.StatusCode.UNIMPLEMENTED
        except asyncio.CancelledError:
            # The channel was closed under it; what its host told last may not have come.
            for asked in self._pending.values():
                asked.accepted = True
            raise
        finally:
            writing.cancel()
            call.cancel()
            self._broke(code, details, status)
            # Who asks from here on begins a new call.
            self._task = None
            await asyncio.wait([writing])

    def _broke(self, code: grpc.StatusCode, details: str, status: bytes) -> None:
        pending, self._pending = self._pending, {}
        self._waiting.clear()
        self._cancelled.clear()
        for asked in pending.values():
            asked.failed(code, details, status)

    async def _write(self, call: Any) -> None:
        try:
            # What is written to a call that the host does not take may end it before it says why.
            if not tells_acceptance(await call.initial_metadata()):
                return
            while True:
                await self._something.wait()
                await call.write(self._batch())
        except (AioRpcError, asyncio.InvalidStateError):
            # The call is over; whoever reads it learns why.
            return
        except Exception:
            log.exception("requests_not_sent")
            call.cancel()

    def _batch(self) -> InvokeManyRequest:
        batch = InvokeManyRequest(cancelled=self._cancelled)
        self._cancelled.clear()
        waiting, size = self._waiting, 0
        while waiting and size < BATCH_BYTES:
            asked = waiting[0]
            if asked.authorization != batch.authorization:
                if batch.requests:
                    break
                batch.authorization = asked.authorization
            waiting.popleft()
            if asked.numbered.number in self._pending:
                asked.sent = True
                batch.requests.append(asked.numbered)
                size += len(asked.numbered.request.input)
        if not waiting:
            self._something.clear()
        return batch

    def _took(self, batch: InvokeManyResponse) -> None:
        for number in batch.accepted:
            if (asked := self._pending.get(number)) is not None:
                asked.accepted = True
        for outcome in batch.outcomes:
            if (asked := self._pending.pop(outcome.number, None)) is not None:
                self._ended(asked, outcome)

    def _ended(self, asked: Asked, outcome: NumberedOutcome) -> None:
        if outcome.HasField("failure"):
            code, details = grpc_code(outcome.failure)
            asked.failed(code, details, outcome.failure)
            return
        answer = outcome.answer
        if len(answer.done.output) > SMALL_BYTES:
            if len(self._large) >= MAX_LARGE:
                self._large.clear()
            self._large.add(answer.accepted.instance_id)
        asked.answered(answer)
