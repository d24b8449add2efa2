# SPDX-License-Identifier: Apache-2.0
"""What a pool answers, as plain values."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, NoReturn

import msgspec

from agentpool_core.lifecycle import State, Tier
from agentpool_proto.v1 import types_pb2


@dataclass(frozen=True, slots=True)
class Accepted:
    """The request is at work. A second one means that it is done again: chunks so far are void.

    Attributes:
        activated: whether this request had to make the instance resident.
    """

    instance_id: str
    tier: str
    pod: str
    activated: bool


@dataclass(frozen=True, slots=True)
class Chunk:
    """A part of the answer."""

    data: Any


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer of an agent.

    Attributes:
        output: what the agent answered, decoded.
        stale: from state that could not be checked against the store.
        replayed: kept from an earlier request with the same key.
        direct: whether the request went to the host itself, and not through the gateway.
        attempts: how often it was sent.
    """

    output: Any
    instance_id: str
    tier: str
    pod: str
    stale: bool
    replayed: bool
    direct: bool
    attempts: int


Event = Accepted | Chunk | Answer


@dataclass(frozen=True, slots=True)
class InstanceInfo:
    """One agent instance as the pool shows it.

    Attributes:
        reason: why it is PAUSED or in ERROR; empty otherwise.
        pod: the pod that holds it; empty when none does.
        wish: what happens once it is not busy: Pause, Terminate, Move, or empty.
        pinned: its tier was chosen by hand.
        created_at: Unix time in seconds; 0 when never.
        last_used_at: the same.
    """

    id: str
    tenant_id: str
    project_id: str
    tier: Tier | None
    state: State
    reason: str
    pod: str
    epoch: int
    origin: str
    wish: str
    pinned: bool
    active_requests: int
    total_requests: int
    created_at: float
    last_used_at: float
    memory_bytes: int
    cpu_seconds: float


class Stats(dict[str, Any]):
    """Statistics of a pool, as `GET /api/v1/pool/stats` has them."""

    def __await__(self) -> Generator[Any, None, NoReturn]:
        """Not awaitable: the statistics are here already."""
        raise TypeError("these are the statistics already: use them without await")


def accepted_of(one: types_pb2.Accepted) -> Accepted:
    """The first event of a request."""
    return Accepted(one.instance_id, one.tier, one.pod, one.activated)


def answer_of(accepted: Accepted | None, done: types_pb2.Done, direct: bool, attempts: int) -> Answer:
    """The last event of a request."""
    return Answer(
        output=msgspec.json.decode(done.output or b"null"),
        instance_id=accepted.instance_id if accepted else "",
        tier=accepted.tier if accepted else "",
        pod=accepted.pod if accepted else "",
        stale=done.stale,
        replayed=done.replayed,
        direct=direct,
        attempts=attempts,
    )


def instance_of(one: types_pb2.Instance) -> InstanceInfo:
    """An instance."""
    return InstanceInfo(
        id=one.id,
        tenant_id=one.tenant_id,
        project_id=one.project_id,
        tier=Tier(one.tier) if one.tier else None,
        state=State(one.state),
        reason=one.reason,
        pod=one.pod,
        epoch=one.epoch,
        origin=one.origin,
        wish=one.wish,
        pinned=one.pinned,
        active_requests=one.active_requests,
        total_requests=one.total_requests,
        created_at=one.created_at,
        last_used_at=one.last_used_at,
        memory_bytes=one.memory_bytes,
        cpu_seconds=one.cpu_seconds,
    )
