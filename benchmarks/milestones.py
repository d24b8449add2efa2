# SPDX-License-Identifier: Apache-2.0
"""How far a request had come when, as its answer tells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields

import msgspec

from agentpool_proto.v1.gateway_pb2 import GatewayTiming
from benchmarks.samples import Summary


class HostTimes(msgspec.Struct, frozen=True):
    """The part of a REST answer's timing that the host measured."""

    activated_ms: float
    admitted_ms: float


class Times(msgspec.Struct, frozen=True):
    """The timing of a REST answer."""

    placed_ms: float
    accepted_ms: float
    first_event_ms: float
    done_ms: float
    host: HostTimes


class Answer(msgspec.Struct, frozen=True):
    """Of a REST answer, the timing."""

    timing: Times


@dataclass(frozen=True, slots=True)
class Milestones:
    """Milliseconds since the request arrived at the gateway; `activated` and `admitted` since it arrived at
    the host, whose clock starts later.

    Attributes:
        placed: a host was chosen.
        accepted: the gateway heard that the host took it.
        activated: the instance was resident; 0 when it was before.
        admitted: it was given to the worker.
        first_event: the first byte of the answer was there.
        done: the answer was whole, and a change durable.
    """

    placed: float
    accepted: float
    activated: float
    admitted: float
    first_event: float
    done: float

    @property
    def hit(self) -> bool:
        """Whether the instance was resident already."""
        return self.activated == 0.0

    @classmethod
    def of(cls, timing: GatewayTiming | Times) -> Milestones:
        """From an answer over gRPC or REST."""
        return cls(
            placed=timing.placed_ms,
            accepted=timing.accepted_ms,
            activated=timing.host.activated_ms,
            admitted=timing.host.admitted_ms,
            first_event=timing.first_event_ms,
            done=timing.done_ms,
        )


NAMES = tuple(field.name for field in fields(Milestones))


def summaries(reached: Sequence[Milestones]) -> dict[str, Summary]:
    """Percentiles of each milestone; empty for no requests."""
    if not reached:
        return {}
    columns = zip(*map(astuple, reached), strict=True)
    return {name: Summary.of(column) for name, column in zip(NAMES, columns, strict=True)}
