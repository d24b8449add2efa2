# SPDX-License-Identifier: Apache-2.0
"""The steps of one request between its arrival and its end: placed, tried at a host, perhaps again."""

from __future__ import annotations

from collections.abc import Callable

from agentpool_gateway.dispatch.call import SUCCESS, InvokeCall
from agentpool_gateway.dispatch.journey import Journey
from agentpool_gateway.membership.base import PoolName
from agentpool_gateway.membership.table import Host
from agentpool_gateway.membership.watcher import HostLink
from agentpool_rpc.tracing import Span, at_fault

Metadata = tuple[tuple[str, str], ...]
RETRIED = "retried"
"""Outcome of an attempt after which there is another one."""


class RequestTrace:
    """The spans of one request; one of them is open at a time.

    Args:
        span: of the whole request.
        clock: of the event loop.
    """

    def __init__(self, span: Span, pool: PoolName, call: InvokeCall, clock: Callable[[], float]) -> None:
        self._span = span
        self._clock = clock
        self._step: Span | None = None
        span.note({"agentpool.pool": str(pool)})
        if call.tier is not None:
            span.note({"agentpool.tier_wanted": call.tier.value})

    def placing(self) -> None:
        """A host is looked for."""
        if not self._span.recording:
            return
        self._end(RETRIED)
        self._step = self._span.child("place", self._clock())

    def attempt(self, host: Host) -> Metadata:
        """The host is called now; the metadata that tell it of the trace."""
        if not self._span.recording:
            return self._span.headers
        self._end(SUCCESS)
        pod = {"agentpool.pod": host.member.pod, "agentpool.role": host.role.value}
        self._step = self._span.child("attempt", self._clock(), pod, calls=True)
        return self._step.headers

    def ended(self, status: str, tier: str) -> None:
        """The request is over: `status` as it is counted, `tier` of the instance when one accepted it."""
        if tier:
            self._span.note({"agentpool.tier": tier})
        self._end(status)

    def _end(self, outcome: str) -> None:
        step, self._step = self._step, None
        if step is not None:
            step.note({"agentpool.outcome": outcome})
            step.end(self._clock(), outcome if at_fault(outcome) else "")


async def placed(journey: Journey, trace: RequestTrace | None) -> tuple[HostLink, Metadata]:
    """The host to try now, and what its call carries."""
    if trace is None:
        link, token = await journey.next_host()
        return link, (("authorization", token),)
    trace.placing()
    link, token = await journey.next_host()
    return link, (("authorization", token), *trace.attempt(link.host))
