# SPDX-License-Identifier: Apache-2.0
"""Moves instances to the tier that their traffic asks for, in pools whose tiering.mode is Automatic.

A few moves a minute and pool: each costs its instance a checkpoint and a new process.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from functools import partial

import structlog

from agentpool_core.api.v1alpha1 import Criticality, TieringMode
from agentpool_core.config import EffectivePool
from agentpool_core.errors import AgentPoolError
from agentpool_core.lifecycle import PauseReason, Tier
from agentpool_operator.hosts import HostAway
from agentpool_operator.kube.kinds import POOLS, KubeError
from agentpool_operator.plan.tiers import PoolFacts, TierMove, Traffics
from agentpool_operator.plan.views import RESIDENT, HeldView
from agentpool_operator.reconcile.parts import Parts
from agentpool_operator.report.budget import Budget
from agentpool_proto.v1.types_pb2 import Instance
from agentpool_rpc.cancellation import heed_cancellation

log = structlog.get_logger(__name__)

LOOK_SECONDS = 15.0
BURST, PER_SECOND = 5, 0.1
"""Moves of one pool: five at once, six a minute."""

Pool = tuple[str, str]


class Tiering:
    """See the module.

    Args:
        moved: told of each move.
        every: seconds between two looks.
    """

    def __init__(self, parts: Parts, moved: Callable[[Tier, Tier], None], every: float) -> None:
        self._parts = parts
        self._moved = moved
        self._every = every
        self._traffic: dict[Pool, Traffics] = {}
        self._budgets: dict[Pool, Budget] = {}

    async def run(self) -> None:
        """Look again and again, for ever."""
        while True:
            await asyncio.sleep(self._every)
            for pool in list(self._parts.cache.pools):
                await self.look(pool)
                heed_cancellation()
            for gone in self._traffic.keys() - set(self._parts.cache.pools):
                del self._traffic[gone]
                self._budgets.pop(gone, None)

    async def look(self, pool: Pool) -> None:
        """Take note of a pool's traffic, and make the moves that are due."""
        effective = self._parts.fleet.effective(pool)
        if effective is None or effective.tiering.mode is not TieringMode.AUTOMATIC:
            self._traffic.pop(pool, None)
            return
        traffic = self._traffic.setdefault(pool, Traffics())
        views = self._parts.fleet.views(pool)
        held = [one for view in views.values() for one in view.instances.values()]
        now = self._parts.clock()
        traffic.see(sorted(held, key=lambda one: one.epoch), now)
        for move in traffic.plan(self._facts(pool, effective, held), now, self._parts.wall()):
            if self._budgets.setdefault(pool, Budget(BURST, PER_SECOND)).take(now) > 0:
                return
            if not await self._carry_out(pool, move):
                traffic.failed(move.id, now)
            elif move.after is Tier.COLD:
                # Its next request makes it known again.
                traffic.forget(move.id)

    def _facts(self, pool: Pool, effective: EffectivePool, held: list[HeldView]) -> PoolFacts:
        resident = [one for one in held if one.state in RESIDENT]
        stays = frozenset(
            one.id
            for one in resident
            if (holder := self._parts.fleet.holder(pool, one.id)) is not None and Tier.HOT in holder[0].tiers
        )
        flags = self._parts.fleet.flags(pool)
        return PoolFacts(
            config=effective,
            held=Counter(one.tier for one in resident),
            hot_places=self._parts.fleet.waiting_hosts(pool, Tier.HOT),
            stays=stays,
            criticality=partial(self._criticality, pool),
            most=BURST,
            may_be_hot=partial(flags.may_be_hot, now=self._parts.wall()),
        )

    def _criticality(self, pool: Pool, instance_id: str) -> Criticality | None:
        ref = self._parts.cache.standing_for(instance_id)
        if ref is None or not ref.declared:
            return Criticality.NORMAL
        if ref.tier or ref.wanted in ("Paused", "Terminated") or (ref.namespace, ref.pool) != pool:
            return None
        return Criticality(ref.criticality or Criticality.NORMAL)

    async def _carry_out(self, pool: Pool, move: TierMove) -> bool:
        """Move it, and have one that became HOT resident at once; whether it was moved."""
        fleet = self._parts.fleet
        holder = fleet.holder(pool, move.id)
        link = holder[0] if holder is not None else fleet.any_host(pool)
        if link is None:
            return False
        try:
            answer = await link.move(move.id, move.after.value)
            if Tier(answer.tier) is not move.after:
                return False
            if move.after is Tier.HOT and answer.reason == PauseReason.EVICTED:
                await self._wake(pool, move)
        except (AgentPoolError, HostAway) as exc:
            heed_cancellation()
            log.info("tier_not_changed", instance=move.id, tier=move.after, reason=str(exc))
            return False
        log.info("tier_changed", instance=move.id, before=move.before, after=move.after, reason=move.reason)
        self._moved(move.before, move.after)
        await self._tell(pool, move)
        return True

    async def _wake(self, pool: Pool, move: TierMove) -> None:
        fleet = self._parts.fleet
        target = fleet.own_host(pool, move.id) or fleet.waiting_host(pool, Tier.HOT)
        if target is None:
            return
        wanted = Instance(tenant_id=move.tenant, project_id=move.project, tier=move.after.value)
        try:
            await target.activate(wanted, "", frozenset())
        except (AgentPoolError, HostAway) as exc:
            heed_cancellation()
            # Another instance was faster: its next request brings it up.
            log.info("instance_not_woken", instance=move.id, reason=str(exc))

    async def _tell(self, pool: Pool, move: TierMove) -> None:
        note = f"Instance {move.id} was moved from {move.before} to {move.after}: {move.reason}."
        try:
            body = await self._parts.cluster.get(POOLS, *pool)
        except KubeError as exc:
            heed_cancellation()
            log.info("event_not_written", reason=str(exc))
            return
        if body is not None:
            await self._parts.recorder.tell(POOLS, body, "TierChanged", note, action="Move")
