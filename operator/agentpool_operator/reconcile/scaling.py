# SPDX-License-Identifier: Apache-2.0
"""Looks at the load of pools whose scaling is automatic, and has their reconcile carry out what is decided.

The number lives in memory and in `status.scaling`, from which the next operator goes on; a user's spec is
never written. Times are seconds since 1970, for the cooldown outlives this process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from agentpool_core.config import EffectivePool
from agentpool_core.errors import AgentPoolError
from agentpool_core.lifecycle import Tier
from agentpool_core.scaling import Action, Direction, State, Verdict, decide
from agentpool_operator.hosts import HostAway
from agentpool_operator.plan.scaling import Capacity, Departure, capacity, plan_spread, replica_load
from agentpool_operator.plan.views import seconds
from agentpool_operator.queue import Key, Subject
from agentpool_operator.reconcile.parts import Parts
from agentpool_operator.reconcile.pods import Note
from agentpool_operator.reconcile.run import Run
from agentpool_operator.report.scaling import LASTING_SECONDS, ScalingReport
from agentpool_rpc.cancellation import heed_cancellation

log = structlog.get_logger(__name__)

LOOK_SECONDS = 5.0
SPREADING = 64
"""Instances that are sent away at once, of all pools."""
NEWS = 8
"""Actions of one pool that wait to be told."""

Pool = tuple[str, str]
_HINDRANCES = frozenset({Verdict.MISSING, Verdict.AT_MAXIMUM})


@dataclass(slots=True)
class _Known:
    """A pool that is scaled.

    Attributes:
        verdict, verdict_since: the last one, and since when it is the same.
        hindrance: as it is shown.
    """

    uid: str
    state: State
    capacity: Capacity
    action: Action | None = None
    acted_at: float = 0.0
    news: list[Action] = field(default_factory=list)
    verdict: Verdict = Verdict.STEADY
    verdict_since: float = 0.0
    hindrance: Verdict | None = None


class Scaling:
    """See the module.

    Args:
        looked: told of the verdict of each look, and of the action, if there was one.
        every: seconds between two looks.
    """

    def __init__(
        self,
        parts: Parts,
        looked: Callable[[Verdict, Action | None], None] = lambda _verdict, _action: None,
        every: float = LOOK_SECONDS,
    ) -> None:
        self._parts = parts
        self._looked = looked
        self._every = every
        self._known: dict[Pool, _Known] = {}
        self._leaving: set[asyncio.Task[None]] = set()

    @property
    def pools(self) -> int:
        """Pools that are scaled."""
        return len(self._known)

    # What the reconcile asks

    def replicas(self, run: Run, present: int | None) -> int | None:
        """The number of shared pods that is wanted; None: the configuration has it.

        Args:
            present: what the Deployment asks for; None: there is none.
        """
        if not run.effective.scaling.active:
            self.forget(run.place)
            return None
        known = self._known.get(run.place)
        if known is None or known.uid != run.owner.uid:
            known = self._begin(run, present)
        known.capacity = capacity(run.pool, run.effective)
        return known.state.desired

    def _begin(self, run: Run, present: int | None) -> _Known:
        policy, told = run.effective.scaling, run.status.get("scaling") or {}
        # What an earlier operator wanted; else what there is.
        desired = int(told.get("desiredReplicas") or present or policy.min_replicas)
        desired = max(policy.min_replicas, min(desired, policy.max_replicas))
        last = told.get("lastAction") or {}
        acted_at = seconds(last.get("at")) or None
        direction = Direction(last["direction"]) if acted_at else None
        state = State.start(desired, self._parts.wall(), acted_at, direction)
        known = _Known(run.owner.uid, state, capacity(run.pool, run.effective))
        self._known[run.place] = known
        return known

    def known(self, run: Run) -> int | None:
        """The number that is wanted, where it was asked for before."""
        known = self._known.get(run.place)
        if known is None or known.uid != run.owner.uid or not run.effective.scaling.active:
            return None
        return known.state.desired

    def forget(self, pool: Pool) -> None:
        """The pool is gone, or somebody else chooses."""
        self._known.pop(pool, None)

    def report(self, pool: Pool, effective: EffectivePool) -> ScalingReport | None:
        """For its status; None: scaling is switched off."""
        if not effective.scaling.enabled:
            return None
        known = self._known.get(pool)
        if known is None or not effective.scaling.active:
            return ScalingReport(effective.scaling)
        return ScalingReport(
            effective.scaling, known.state.desired, known.action, known.acted_at, known.hindrance
        )

    def news(self, pool: Pool) -> list[Note]:
        """Actions that nobody was told of yet."""
        known = self._known.get(pool)
        if known is None:
            return []
        told, known.news = known.news, []
        return [Note(f"Scaled{one.direction}", f"{one.reason}: {one.message}", "Scale") for one in told]

    # The looks

    async def run(self) -> None:
        """Look again and again, for ever."""
        try:
            while True:
                await asyncio.sleep(self._every)
                for pool in list(self._known):
                    self.look(pool)
                heed_cancellation()
        finally:
            for task in self._leaving:
                task.cancel()

    def look(self, pool: Pool) -> None:
        """Decide about one pool."""
        known, effective = self._known[pool], self._parts.fleet.effective(pool)
        if effective is None or not effective.scaling.active or effective.tier(Tier.WARM).max_instances == 0:
            return
        now, shared = self._parts.wall(), self._parts.fleet.shared(pool)
        loads = [replica_load(host, known.capacity) for _, host in shared]
        decision = decide(known.state, loads, effective.scaling, now)
        known.state = decision.state
        self._looked(decision.verdict, decision.action)
        shown = self._hindrance(known, decision.verdict, now)
        if decision.action is not None:
            known.action, known.acted_at = decision.action, now
            known.news = [*known.news, decision.action][-NEWS:]
            action = decision.action
            log.info(
                "pool_scaled", pool=pool[1], before=action.before, after=action.after, reason=action.reason
            )
        if decision.action is not None or shown != known.hindrance:
            known.hindrance = shown
            self._parts.queue.add(Key(Subject.POOL, *pool))
        self._spread(plan_spread(shared, known.capacity, effective.scaling.scale_up_threshold))

    def _hindrance(self, known: _Known, verdict: Verdict, now: float) -> Verdict | None:
        """What is to be shown: what has lasted."""
        if verdict is not known.verdict:
            known.verdict, known.verdict_since = verdict, now
        if now - known.verdict_since < LASTING_SECONDS:
            return known.hindrance
        return verdict if verdict in _HINDRANCES else None

    def _spread(self, departures: list[Departure]) -> None:
        under_way = {task.get_name() for task in self._leaving}
        for one in departures:
            if one.instance_id in under_way or len(self._leaving) >= SPREADING:
                continue
            task = asyncio.get_running_loop().create_task(self._send_away(one), name=one.instance_id)
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)

    async def _send_away(self, departure: Departure) -> None:
        """One instance; bounded by the call's deadline."""
        link = self._parts.fleet.link(departure.pod_uid)
        if link is None:
            return
        try:
            await link.send_away(departure.instance_id)
        except (AgentPoolError, HostAway) as exc:
            # It is busy, or somebody moves it: the next look sees how it is then.
            log.info("instance_not_sent_away", instance=departure.instance_id, reason=str(exc))
        else:
            log.info("instance_sent_away", instance=departure.instance_id, pod_uid=departure.pod_uid)
