# SPDX-License-Identifier: Apache-2.0
"""One request as the caller wants it, and what became of it so far."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from agentpool_client.answers import Accepted
from agentpool_client.leasing import Key
from agentpool_client.retrying import MAX_REFUSALS
from agentpool_core.errors import InvalidRequest
from agentpool_proto.v1.gateway_pb2 import InvokeRequest, PoolRef
from agentpool_proto.v1.host_pb2 import HostInvokeRequest


def encode(value: Any) -> bytes:
    """An input as JSON text; InvalidRequest for what JSON cannot say."""
    try:
        return msgspec.json.encode(value)
    except (TypeError, ValueError, OverflowError) as exc:
        raise InvalidRequest(f"The input cannot be told in JSON: {exc}.") from exc


@dataclass(frozen=True, slots=True)
class Request:
    """One request.

    Attributes:
        input: JSON text.
        tier: wanted for an instance that does not exist yet; takes the way through the gateway.
        strong: refuse an answer from state that cannot be checked.
        idempotency_key: the caller's own; None: the library may make one.
        eager: more requests of this instance follow.
    """

    tenant_id: str
    project_id: str
    input: bytes
    timeout_seconds: float
    tier: str = ""
    strong: bool = False
    idempotency_key: str | None = None
    eager: bool = False

    @property
    def key(self) -> Key:
        """Which instance it is for."""
        return (self.tenant_id, self.project_id)

    def for_gateway(self, pool: PoolRef) -> InvokeRequest:
        """The request as the gateway takes it."""
        return InvokeRequest(
            pool=pool,
            tenant_id=self.tenant_id,
            project_id=self.project_id,
            tier=self.tier,
            input=self.input,
            consistency="strong" if self.strong else "",
        )

    def for_host(self, idempotency_key: str) -> HostInvokeRequest:
        """The request as a host takes it."""
        return HostInvokeRequest(
            tenant_id=self.tenant_id,
            project_id=self.project_id,
            input=self.input,
            idempotency_key=idempotency_key,
            strong=self.strong,
        )


@dataclass(slots=True)
class Course:
    """What became of a request so far. `deadline` is on the client's clock."""

    request: Request
    deadline: float
    idempotency_key: str
    own_key: bool
    attempts: int = 1
    refusals: int = 0
    direct: bool = False
    accepted: Accepted | None = None
    done: bool = field(default=False)

    @classmethod
    def begin(cls, request: Request, now: float, make_key: Callable[[], str] | None) -> Course:
        """The beginning of a request; `make_key` None: without a key, unless the caller has one."""
        own = request.idempotency_key is None and make_key is not None
        key = make_key() if own and make_key is not None else request.idempotency_key or ""
        return cls(request, now + request.timeout_seconds, key, own)

    @property
    def may_go_direct(self) -> bool:
        """Whether a lease is of use to it: it chooses no tier, and hosts have not refused it twice."""
        return not self.request.tier and self.refusals < MAX_REFUSALS
