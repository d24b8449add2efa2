# SPDX-License-Identifier: Apache-2.0
"""Which instances get the tier that their traffic asks for: what hosts report goes in, moves come out.

Traffic is kept as a few sums per instance, so that a thousand instances cost little. Times are seconds of one
clock, given by the caller; `last_used_at` comes from hosts and is of theirs, seconds since 1970.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from agentpool_core.api.v1alpha1 import Criticality
from agentpool_core.classifier import RATE_WINDOW_SECONDS, Observation, classify
from agentpool_core.config import EffectivePool
from agentpool_core.lifecycle import State, Tier
from agentpool_operator.plan.views import HeldView

TRACKED = 20_000
"""Instances whose traffic is remembered; the longest unseen are forgotten first."""
STEP_SECONDS = 30.0
"""Requests are summed up over this time."""
SHORTEST_SECONDS = 60.0
"""A rate needs at least so long: the first requests of an instance are no traffic yet."""
RETRY_SECONDS = 60.0
"""After a move that failed."""
_STEADY = frozenset({State.READY, State.BUSY, State.PAUSED})


@dataclass(frozen=True, slots=True)
class TierMove:
    """One instance that is to have another tier, and why."""

    id: str
    tenant: str
    project: str
    before: Tier
    after: Tier
    reason: str


@dataclass(slots=True)
class _Traffic:
    held: HeldView
    since: float
    """In the present tier."""
    first_seen: float
    total: int = 0
    epoch: int = 0
    requests: deque[tuple[float, int]] = field(default_factory=deque)
    """Begin of a step, and the requests that ended in it."""
    not_before: float = 0.0
    seen_at: float = 0.0

    def count(self, held: HeldView, now: float) -> None:
        # A new activation counts from zero again.
        before = self.total if held.epoch == self.epoch else 0
        more = max(0, held.total_requests - before)
        self.total, self.epoch = held.total_requests, held.epoch
        if held.tier is not self.held.tier:
            self.since = now
        self.held = held
        if more:
            if not self.requests or now - self.requests[-1][0] >= STEP_SECONDS:
                self.requests.append((now, 0))
            began, sofar = self.requests[-1]
            self.requests[-1] = (began, sofar + more)

    def rate(self, now: float) -> float:
        """Requests per minute."""
        while self.requests and now - self.requests[0][0] > RATE_WINDOW_SECONDS:
            self.requests.popleft()
        seconds = min(RATE_WINDOW_SECONDS, max(SHORTEST_SECONDS, now - self.first_seen))
        return sum(number for _, number in self.requests) * 60.0 / seconds


class Traffics:
    """The traffic of one pool's instances, as far as their hosts told."""

    def __init__(self, tracked: int = TRACKED) -> None:
        self._of: OrderedDict[str, _Traffic] = OrderedDict()
        self._tracked = tracked

    def see(self, held: Iterable[HeldView], now: float) -> None:
        """What all hosts report now."""
        for one in held:
            if one.state not in _STEADY:
                continue
            known = self._of.get(one.id)
            if known is None:
                known = self._of[one.id] = _Traffic(one, now, now, one.total_requests, one.epoch)
            elif one.epoch or not known.held.epoch or one.tier is not known.held.tier:
                known.count(one, now)
            self._of[one.id].seen_at = now
            self._of.move_to_end(one.id)
        while len(self._of) > self._tracked:
            self._of.popitem(last=False)

    def forget(self, instance_id: str) -> None:
        """It has nothing left to be moved for."""
        self._of.pop(instance_id, None)

    def failed(self, instance_id: str, now: float) -> None:
        """A move of it failed: not again at once."""
        if instance_id in self._of:
            self._of[instance_id].not_before = now + RETRY_SECONDS

    def plan(self, pool: PoolFacts, now: float, wall: float) -> list[TierMove]:
        """The moves that are due, the most urgent first, at most `pool.most` and within the caps."""
        wanted = [move for one in list(self._of.values()) if (move := _move(one, pool, now, wall))]
        wanted.sort(key=lambda move: (_URGENCY[move.after], move.id))
        room = {tier: pool.config.tier(tier).max_instances - pool.held[tier] for tier in Tier}
        room[Tier.HOT] = min(room[Tier.HOT], pool.hot_places)
        chosen: list[TierMove] = []
        for move in wanted:
            here = move.after is Tier.HOT and move.id in pool.stays
            if len(chosen) < pool.most and (room[move.after] > 0 or here):
                room[move.after] -= 1
                chosen.append(move)
        return chosen


@dataclass(frozen=True, slots=True)
class PoolFacts:
    """What a plan rests on besides traffic.

    Attributes:
        held: instances that the hosts hold, by tier.
        hot_places: waiting pods that take a HOT instance now.
        stays: ids of instances whose own pod takes them as HOT, too.
        criticality: of an instance; None: its tier is chosen by hand.
        most: moves that may be made now.
        may_be_hot: whether a tenant's project may become HOT by its traffic: the flag agent_pool_hot_tier.
    """

    config: EffectivePool
    held: Counter[Tier]
    hot_places: int
    stays: frozenset[str]
    criticality: Callable[[str], Criticality | None]
    most: int
    may_be_hot: Callable[[str, str], bool] = lambda _tenant, _project: True


_URGENCY = {Tier.HOT: 0, Tier.WARM: 1, Tier.COLD: 2}


def _move(one: _Traffic, pool: PoolFacts, now: float, wall: float) -> TierMove | None:
    held = one.held
    criticality = pool.criticality(held.id)
    if held.pinned or criticality is None or now < one.not_before:
        return None
    at_work = held.state is State.BUSY and one.seen_at == now
    idle = 0.0 if at_work else max(0.0, wall - held.last_used_at)
    seen = Observation(one.rate(now), idle, now - one.since, criticality)
    verdict = classify(seen, pool.config.tiering, held.tier)
    after = verdict.tier
    if after is Tier.HOT and not pool.may_be_hot(held.tenant, held.project):
        # What would be HOT is worth a place in a shared pod at least, and stays HOT where it is.
        after = Tier.WARM if held.tier is Tier.COLD else held.tier
    if after is held.tier:
        return None
    return TierMove(held.id, held.tenant, held.project, held.tier, after, verdict.reason)
