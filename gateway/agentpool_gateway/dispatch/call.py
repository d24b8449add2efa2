# SPDX-License-Identifier: Apache-2.0
"""One request of an application, and its events as the edges show them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from agentpool_core.lifecycle import Tier
from agentpool_proto.v1.gateway_pb2 import GatewayTiming
from agentpool_proto.v1.host_pb2 import HostInvokeRequest
from agentpool_proto.v1.types_pb2 import Accepted, Done
from agentpool_rpc.tracing import Span


class ServedBy(StrEnum):
    """Which way a request takes."""

    POOL = "pool"
    """An instance of the pool, which stays for the next request."""
    ONE_SHOT = "one-shot"
    """A process that is started for it: `agent_pool_enabled` is off for its project."""

    @classmethod
    def of(cls, accepted: Accepted) -> ServedBy:
        """The way that the host took."""
        return cls.ONE_SHOT if accepted.one_shot else cls.POOL


@dataclass(frozen=True, slots=True)
class InvokeCall:
    """What an application asks of one instance.

    Attributes:
        input: JSON text, passed on as it is.
        tier: wanted tier for an instance that does not exist yet.
        strong: refuse an answer from state that cannot be checked.
        timeout_seconds: until the caller gives up.
        streamed: whether events are wanted as they come; without it parts of the answer may be left out.
        trace: its span, when its trace is kept.
    """

    tenant_id: str
    project_id: str
    input: bytes
    timeout_seconds: float
    tier: Tier | None = None
    idempotency_key: str = ""
    strong: bool = False
    streamed: bool = False
    trace: Span | None = None

    def request(self, tier: Tier | None, served_by: ServedBy) -> HostInvokeRequest:
        """It as a host is sent it, in this tier if it is new, on this way."""
        return HostInvokeRequest(
            tenant_id=self.tenant_id,
            project_id=self.project_id,
            tier=tier or "",
            input=self.input,
            idempotency_key=self.idempotency_key,
            strong=self.strong,
            one_shot=served_by is ServedBy.ONE_SHOT,
        )


SUCCESS = "success"
CANCELLED = "Cancelled"
"""Statuses of requests that ended without an error; all others are codes of errors."""


@dataclass(slots=True)
class Milestones:
    """When a request passed where, on the event loop's clock; 0: it did not.

    Attributes:
        tier: of its instance, once it is accepted.
        activated: whether its instance had to be made resident; `restored`: from saved state.
        host_admitted_seconds: from the host's arrival of it until the instance had a permit for it.
        host_seconds: time spent at the host; 0 without an answer.
        served_by: the way that it took, or was to take while no host has accepted it.
    """

    arrived: float
    placed: float = 0.0
    accepted: float = 0.0
    first_event: float = 0.0
    tier: str = ""
    activated: bool = False
    restored: bool = False
    host_admitted_seconds: float = 0.0
    host_seconds: float = 0.0
    served_by: ServedBy = ServedBy.POOL

    def timing(self, now: float, done: Done) -> GatewayTiming:
        """Milliseconds since the arrival."""
        return GatewayTiming(
            placed_ms=_ms(self.arrived, self.placed),
            accepted_ms=_ms(self.arrived, self.accepted),
            first_event_ms=_ms(self.arrived, self.first_event),
            done_ms=_ms(self.arrived, now),
            host=done.timing,
        )


def _ms(start: float, end: float) -> float:
    return round((end - start) * 1000, 3)


@dataclass(slots=True)
class Started:
    """The host accepted the request. A second one means that it is done again: chunks so far are void."""

    accepted: Accepted


@dataclass(slots=True)
class Part:
    """A chunk of the answer: JSON text."""

    data: bytes


@dataclass(slots=True)
class Ended:
    """The answer."""

    accepted: Accepted
    done: Done
    timing: GatewayTiming = field(default_factory=GatewayTiming)


InvokeProgress = Started | Part | Ended
