# SPDX-License-Identifier: Apache-2.0
"""Where a new instance goes: pure, the same answer in every gateway.

Shared hosts are ranked per instance by weighted rendezvous hashing, so a host that joins or leaves moves
only the instances that it gains or loses. Generic hosts take one instance each and wait in a queue.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b

from agentpool_core.lifecycle import Tier

_SCALE = float(1 << 64)


class Role(StrEnum):
    """How many instances a host takes."""

    SHARED = "Shared"
    GENERIC = "Generic"


@dataclass(frozen=True, slots=True)
class Candidate:
    """What placement knows about one host.

    Attributes:
        id: stable name of the host (its pod's UID).
        capacity: how many instances it holds at most.
        busy: how many of those are at work and cannot be evicted.
        resident: how many it holds, idle ones included.
    """

    id: str
    role: Role
    tiers: frozenset[Tier]
    capacity: int
    busy: int
    resident: int = 0

    @property
    def has_slot(self) -> bool:
        """Whether a new instance needs nobody's eviction."""
        return max(self.busy, self.resident) < self.capacity

    @property
    def full(self) -> bool:
        """Whether a new instance would find no slot even by eviction."""
        return self.busy >= self.capacity


def score(instance_id: str, candidate: Candidate) -> float:
    """The rendezvous score: the highest wins, and wins in proportion to capacity."""
    digest = blake2b(f"{len(instance_id)}:{instance_id}{candidate.id}".encode(), digest_size=8).digest()
    # In (0, 1): the logarithm is finite and never zero.
    unit = (int.from_bytes(digest, "big") + 0.5) / _SCALE
    return -max(candidate.capacity, 1) / math.log(min(unit, 1 - 2**-53))


def choose_shared(
    instance_id: str, tier: Tier, candidates: Iterable[Candidate], avoid: Collection[str] = ()
) -> str | None:
    """The shared host for an instance, None when none takes the tier.

    The first in rendezvous order that has a free slot; else the first that can make one by eviction, so that
    hosts which are full only put instances aside for others when no host has room; else the first of all: it
    decides.
    """
    best: tuple[bool, bool, float, str] | None = None
    for one in candidates:
        if one.role is not Role.SHARED or tier not in one.tiers or one.id in avoid:
            continue
        rank = (not one.full, one.has_slot, score(instance_id, one), one.id)
        if best is None or rank > best:
            best = rank
    return best[3] if best else None


class GenericQueue:
    """Generic hosts without an instance, first come first taken; each operation takes constant time."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._waiting)

    def offer(self, host: str) -> None:
        """The host waits for an instance; again is the same as once."""
        self._waiting.setdefault(host, None)

    def withdraw(self, host: str) -> None:
        """The host is taken, draining or gone."""
        self._waiting.pop(host, None)

    def take(self, avoid: Collection[str] = ()) -> str | None:
        """The host that waited longest, and it waits no more; None when all are to be avoided.

        Hosts to avoid (a few, those that refused just now) are passed over and keep their place.
        """
        for host in self._waiting:
            if host not in avoid:
                del self._waiting[host]
                return host
        return None
