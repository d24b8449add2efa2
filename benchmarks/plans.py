# SPDX-License-Identifier: Apache-2.0
"""What a driver process is told to send, and what it tells of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum

import msgspec


class Protocol(StrEnum):
    """How a driver speaks to the gateway."""

    REST = "rest"
    GRPC = "grpc"


class Kind(StrEnum):
    """How a request ended."""

    ANSWERED = "answered"
    REFUSED = "refused"
    """With 429 or 503, or what stands for them in gRPC."""
    FAILED = "failed"
    """Any other end, or none in time."""
    CANCELLED = "cancelled"
    """By the driver, on purpose, midway."""
    CROWDED = "crowded"
    """Not sent: as many requests as the driver may have in flight were waiting for their end."""


class Plan(msgspec.Struct, frozen=True):
    """One driver's work.

    Attributes:
        projects: tenant and project of the instances that are asked.
        per_second: Poisson arrivals, to projects drawn evenly; 0: `callers` callers in a closed loop instead,
            each with one project.
        delay: seconds after the common start.
        bound: requests in flight at most.
        stream: ask for events as they come; `cancel_share` of the streams are left midway.
    """

    protocol: Protocol
    address: str
    path: str
    projects: tuple[tuple[str, str], ...]
    body: str
    seconds: float
    seed: int
    per_second: float = 0.0
    callers: int = 1
    delay: float = 0.0
    bound: int = 1000
    stream: bool = False
    cancel_share: float = 0.0


class Outcome(msgspec.Struct, frozen=True, array_like=True):
    """One request: when it was due in seconds since its driver's start, by how many milliseconds it was sent
    late, from when it was due to its end, and whether a refusal said when to come back."""

    due: float
    late: float
    milliseconds: float
    kind: Kind
    code: str = ""
    says_when: bool = False

    @property
    def since_sent(self) -> float:
        """Milliseconds from its sending to its end."""
        return self.milliseconds - self.late


class Drive(msgspec.Struct, frozen=True):
    """Everything of one driver. `began`: on the monotonic clock, which all processes of a machine share."""

    began: float
    outcomes: tuple[Outcome, ...]
    seconds: float
    cpu_seconds: float

    def of(self, kind: Kind) -> list[Outcome]:
        """The requests that ended so."""
        return [one for one in self.outcomes if one.kind is kind]


def together(drives: Sequence[Drive]) -> Drive:
    """Drivers that shared one plan."""
    return Drive(
        began=min(drive.began for drive in drives),
        outcomes=tuple(sorted((one for drive in drives for one in drive.outcomes), key=lambda one: one.due)),
        seconds=max(drive.seconds for drive in drives),
        cpu_seconds=sum(drive.cpu_seconds for drive in drives),
    )


LATE_MS = 10.0
"""A driver that is later than that for one request in a hundred measures itself."""


def lateness(drive: Drive) -> float:
    """By how many milliseconds one request in a hundred was sent late, at least; 0 when none was sent."""
    late = sorted(one.late for one in drive.outcomes)
    return late[min(int(0.99 * len(late)), len(late) - 1)] if late else 0.0


def driver_fault(drives: Mapping[str, Drive]) -> str:
    """Why nothing can be said: a driver could not keep its schedule. Empty: all could."""
    for name, drive in drives.items():
        if (late := lateness(drive)) > LATE_MS:
            return f"{name}: one request in a hundred was sent {late:.1f} ms late, at most {LATE_MS:g}"
    return ""


def projects(name: str, count: int) -> tuple[tuple[str, str], ...]:
    """So many instances, each of a tenant of its own."""
    return tuple((f"{name}-{number}", "project") for number in range(count))
