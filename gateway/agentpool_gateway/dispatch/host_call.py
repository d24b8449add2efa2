# SPDX-License-Identifier: Apache-2.0
"""One call of one host for one request, and what is learnt from it."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from typing import Any

import grpc.aio

from agentpool_core.balance import LoadMetrics
from agentpool_core.errors import HostTooOld, Unavailable
from agentpool_core.outcome import succeeded
from agentpool_gateway.dispatch.call import Ended, InvokeProgress, Milestones, Part, ServedBy, Started
from agentpool_gateway.dispatch.journey import Journey
from agentpool_gateway.dispatch.tracing import Metadata
from agentpool_gateway.membership.watcher import HostLink
from agentpool_proto.v1.host_pb2 import HostInvokeRequest, HostInvokeResponse
from agentpool_proto.v1.types_pb2 import Accepted, Done, InvokeEvent
from agentpool_rpc.acceptance import tells_acceptance
from agentpool_rpc.cancellation import caller_cancelled
from agentpool_rpc.status import from_rpc_error

_ENDING: set[Any] = set()
"""Calls that brought their answer and not yet their status: one that is collected before would be cancelled.
Each is bounded by its deadline."""


QUICK_MS = 100.0
"""A host that answers within this on average is asked for answers alone: what that saves, a tenth of a
millisecond, is nothing to slower agents."""


class HostCall(ABC):
    """One call of one host.

    Attributes:
        accepted: whether the host has accepted the request, as far as that is known.
        again: after a failure, whether the host only does not know this kind of call: it is asked by another.
    """

    def __init__(
        self,
        link: HostLink,
        marks: Milestones,
        request: HostInvokeRequest,
        metadata: Metadata,
        seconds: float,
    ) -> None:
        self.accepted = self.again = False
        self._link = link
        self._marks = marks
        self._now = asyncio.get_running_loop().time
        self._over = False
        marks.placed = self._now()
        self._load: LoadMetrics | None = link.host.load.metrics
        self._load.acquire()
        self._call = self._begin(request, metadata, max(seconds, 0.001))

    @abstractmethod
    def _begin(self, request: HostInvokeRequest, metadata: Metadata, seconds: float) -> Any:
        """Send it."""

    @abstractmethod
    async def read(self) -> InvokeProgress | None:
        """The next event, None when the call ended without an answer; AioRpcError when it failed."""

    def close(self) -> None:
        """Cancel the request at the host, unless the call has ended."""
        if not self._over:
            self._call.cancel()
        self._release(None)

    def _failed(self, success: bool | None) -> None:
        self._over = True
        self._release(success)

    def _release(self, success: bool | None, host_ms: float | None = None) -> None:
        """The host works on it no more; only the first end counts."""
        if self._load is None:
            return
        now = self._now()
        self._load.release(now, (now - self._marks.placed) * 1000 if host_ms is None else host_ms, success)
        self._load = None

    def _success(self, error: grpc.aio.AioRpcError) -> bool | None:
        failure = from_rpc_error(error)
        if failure is None:
            return False
        # Before it is accepted, a host that has no room or is no owner has not failed.
        refused = not self.accepted and isinstance(failure, Unavailable)
        return None if refused else succeeded(failure)

    def _started(self, accepted: Accepted, at: float) -> Started:
        self.accepted, marks = True, self._marks
        marks.accepted, marks.first_event = at, 0.0
        marks.activated, marks.restored = accepted.activated, accepted.restored
        marks.tier = accepted.tier
        marks.served_by = ServedBy.of(accepted)
        return Started(accepted)

    def _ended(self, accepted: Accepted, done: Done) -> Ended:
        marks, timing = self._marks, done.timing
        marks.host_admitted_seconds, marks.host_seconds = timing.admitted_ms / 1000, timing.done_ms / 1000
        # Starting an instance takes its time on every host and says nothing of this one.
        self._release(True, timing.done_ms - timing.activated_ms)
        return Ended(accepted, done, marks.timing(self._now(), done))


class StreamCall(HostCall):
    """A call whose events come as they are."""

    _by = Accepted()

    def _begin(self, request: HostInvokeRequest, metadata: Metadata, seconds: float) -> Any:
        return self._link.stub.Invoke(request, metadata=metadata, timeout=seconds)

    async def read(self) -> InvokeProgress | None:
        """See HostCall."""
        try:
            event = await self._call.read()
        except grpc.aio.AioRpcError as exc:
            self._failed(self._success(exc))
            raise
        except asyncio.CancelledError:
            if caller_cancelled():
                raise
            self._failed(False)
            return None
        if not isinstance(event, InvokeEvent):
            self._failed(False)
            return None
        return self._progress(event)

    def _progress(self, event: InvokeEvent) -> InvokeProgress:
        kind = event.WhichOneof("event")
        if kind == "accepted":
            self._by = event.accepted
            return self._started(event.accepted, self._now())
        if not self._marks.first_event:
            self._marks.first_event = self._now()
        if kind == "chunk":
            return Part(event.chunk.data)
        # An answer that arrived whole is an answer, however the call ends; nobody waits for that end.
        self._over = True
        _ENDING.add(self._call)
        self._call.add_done_callback(_ENDING.discard)
        return self._ended(self._by, event.done)


class UnaryCall(HostCall):
    """A call that brings the answer alone."""

    _answer: Ended | None = None

    def _begin(self, request: HostInvokeRequest, metadata: Metadata, seconds: float) -> Any:
        return self._link.stub.InvokeUnary(request, metadata=metadata, timeout=seconds)

    async def read(self) -> InvokeProgress | None:
        """See HostCall: its beginning and its answer, both when the answer is there."""
        if self._answer is not None:
            return self._answer
        try:
            return self._answered(await self._call)
        except grpc.aio.AioRpcError as exc:
            self.accepted = tells_acceptance(exc.initial_metadata())
            self.again = isinstance(from_rpc_error(exc), HostTooOld)
            self._link.unary &= not self.again
            self._failed(None if self.again else self._success(exc))
            raise
        except asyncio.CancelledError:
            if caller_cancelled():
                raise
            # The channel was closed under it, and nothing is left that could tell.
            self.accepted = True
            self._failed(False)
            return None

    def _answered(self, response: HostInvokeResponse) -> Started | None:
        self._over = True
        if not response.HasField("done"):
            self.accepted = response.HasField("accepted")
            self._release(False)
            return None
        # When it was accepted only the host knows; the way back is counted as time before that.
        timing, now = response.done.timing, self._now()
        admitted = now - (timing.done_ms - timing.admitted_ms) / 1000
        started = self._started(response.accepted, max(admitted, self._marks.placed))
        self._marks.first_event = max(now - (timing.done_ms - timing.first_event_ms) / 1000, admitted)
        self._answer = self._ended(response.accepted, response.done)
        return started


def call_host(
    link: HostLink,
    marks: Milestones,
    request: HostInvokeRequest,
    metadata: Metadata,
    journey: Journey,
    streamed: bool,
) -> HostCall:
    """Begin a call: where the instance is there and nobody wants events, one for the answer alone.

    Where answers are slow the host is asked for events all the same: until it is known to be accepted, a
    request counts as one that nobody has looked at.
    """
    quick = link.host.load.metrics.average_response_time_ms <= QUICK_MS
    unary = quick and link.unary and journey.direct and not streamed
    return (UnaryCall if unary else StreamCall)(link, marks, request, metadata, journey.seconds_left)
