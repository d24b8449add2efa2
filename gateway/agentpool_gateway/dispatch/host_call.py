# SPDX-License-Identifier: Apache-2.0
"""One call of one host for one request, and what is learnt from it."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc.aio

from agentpool_core.balance import LoadMetrics
from agentpool_core.errors import Unavailable
from agentpool_core.outcome import succeeded
from agentpool_gateway.dispatch.call import Ended, InvokeProgress, Milestones, Part, ServedBy, Started
from agentpool_gateway.dispatch.tracing import Metadata
from agentpool_gateway.membership.watcher import HostLink
from agentpool_proto.v1.host_pb2 import HostInvokeRequest
from agentpool_proto.v1.types_pb2 import Accepted, InvokeEvent
from agentpool_rpc.cancellation import caller_cancelled
from agentpool_rpc.status import from_rpc_error

_ENDING: set[Any] = set()
"""Calls that brought their answer and not yet their status: one that is collected before would be cancelled.
Each is bounded by its deadline."""


class HostCall:
    """One call of one host."""

    def __init__(
        self,
        link: HostLink,
        marks: Milestones,
        request: HostInvokeRequest,
        metadata: Metadata,
        seconds: float,
    ) -> None:
        self._marks = marks
        self._now = asyncio.get_running_loop().time
        self.accepted: Accepted | None = None
        self._over = False
        marks.placed = self._now()
        self._load: LoadMetrics | None = link.host.load.metrics
        self._load.acquire()
        self._stream = link.stub.Invoke(request, metadata=metadata, timeout=max(seconds, 0.001))

    async def read(self) -> InvokeProgress | None:
        """The next event, None when the call ended without an answer; AioRpcError when it failed."""
        try:
            event = await self._stream.read()
        except grpc.aio.AioRpcError as exc:
            self._over = True
            self._release(self._success(exc))
            raise
        except asyncio.CancelledError:
            if caller_cancelled():
                raise
            self._over = True
            self._release(False)
            return None
        if not isinstance(event, InvokeEvent):
            self._over = True
            self._release(False)
            return None
        return self._progress(event)

    def close(self) -> None:
        """Cancel the request at the host, unless the call has ended."""
        if not self._over:
            self._stream.cancel()
        self._release(None)

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
        refused = self.accepted is None and isinstance(failure, Unavailable)
        return None if refused else succeeded(failure)

    def _progress(self, event: InvokeEvent) -> InvokeProgress:
        marks = self._marks
        kind = event.WhichOneof("event")
        if kind == "accepted":
            self.accepted = event.accepted
            marks.accepted, marks.first_event = self._now(), 0.0
            marks.activated, marks.restored = event.accepted.activated, event.accepted.restored
            marks.tier = event.accepted.tier
            marks.served_by = ServedBy.of(event.accepted)
            return Started(event.accepted)
        if not marks.first_event:
            marks.first_event = self._now()
        if kind == "chunk":
            return Part(event.chunk.data)
        # An answer that arrived whole is an answer, however the call ends; nobody waits for that end.
        self._over = True
        _ENDING.add(self._stream)
        self._stream.add_done_callback(_ENDING.discard)
        timing = event.done.timing
        marks.host_admitted_seconds, marks.host_seconds = timing.admitted_ms / 1000, timing.done_ms / 1000
        # Starting an instance takes its time on every host and says nothing of this one.
        self._release(True, timing.done_ms - timing.activated_ms)
        return Ended(self.accepted or Accepted(), event.done, marks.timing(self._now(), event.done))
