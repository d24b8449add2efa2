# SPDX-License-Identifier: Apache-2.0
"""Where an instance goes that nobody holds. Pure.

Shared hosts are ranked per instance by weighted rendezvous hashing, so a host that joins or leaves moves only
the instances that it gains or loses, and gateways agree without asking each other. Where the first in rank is
loaded more than the others, and where no affinity is wanted, the pool's strategy chooses (X12). Generic hosts
take one instance each and wait in a queue.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import blake2b
from random import Random

from agentpool_core.api.v1alpha1 import Affinity
from agentpool_core.balance import Balancer, HostLoad
from agentpool_core.lifecycle import Tier

LOAD_FACTOR = 1.25
"""How many times its share of all requests under way the first host in rank may have. Mirrokni, Thorup and
Zadimoghaddam, Consistent Hashing with Bounded Loads (2018), call it 1 + epsilon: a smaller one moves more
instances, a larger one bounds less. HAProxy's manual (hash-balance-factor) names 1.25 to 2 as reasonable."""
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
        load: its live figures; whoever keeps them changes them in place.
    """

    id: str
    role: Role
    tiers: frozenset[Tier]
    capacity: int
    busy: int
    resident: int = 0
    load: HostLoad = field(default_factory=HostLoad, compare=False)

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


@dataclass(frozen=True, slots=True)
class Preference:
    """How a pool chooses among hosts that have room.

    Attributes:
        affinity: whether the first in rendezvous order is preferred.
    """

    balancer: Balancer
    affinity: Affinity
    random: Random


def choose_shared(
    instance_id: str,
    tier: Tier,
    candidates: Iterable[Candidate],
    avoid: Collection[str] = (),
    preference: Preference | None = None,
    now: float = 0.0,
) -> str | None:
    """The shared host for an instance, None when none takes the tier.

    Among hosts that have a free slot; else among those that can make one by eviction, so that hosts which are
    full only put instances aside for others when no host has room. Of these the first in rendezvous order, or
    the one that the preference says. Where all are full of busy instances, the first of all: it decides.

    Args:
        preference: None: rendezvous order alone.
        now: on the clock of the candidates' load figures.
    """
    best: list[Candidate] = []
    rank = (False, False)
    for one in candidates:
        if one.role is not Role.SHARED or tier not in one.tiers or one.id in avoid:
            continue
        room = (not one.full, one.has_slot)
        if not best or room > rank:
            best, rank = [one], room
        elif room == rank:
            best.append(one)
    if not best:
        return None
    if preference is not None and any(rank) and len(best) > 1:
        first = _first(instance_id, best) if preference.affinity is Affinity.PREFERRED else None
        if first is not None and _bounded(first, best):
            return first.id
        loads = [one.load for one in best]
        return best[preference.balancer.pick(loads, now, preference.random)].id
    return _first(instance_id, best).id


def _first(instance_id: str, hosts: Sequence[Candidate]) -> Candidate:
    return max(hosts, key=lambda one: (score(instance_id, one), one.id))


def _bounded(host: Candidate, among: Sequence[Candidate]) -> bool:
    """Whether one more request leaves the host within LOAD_FACTOR of its share, by capacity, of all. There is
    always one host for which that is so."""
    active = 1 + sum(one.load.active for one in among)
    share = max(host.capacity, 1) / sum(max(one.capacity, 1) for one in among)
    return host.load.active + 1 <= math.ceil(LOAD_FACTOR * active * share)


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
