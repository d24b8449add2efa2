# SPDX-License-Identifier: Apache-2.0
"""The pods of single instances and those that wait to become some: observed, planned, carried out."""

from __future__ import annotations

import asyncio

from agentpool_core.cluster import ROLE_GENERIC, ROLE_HOT
from agentpool_core.config import EffectivePool, Storage
from agentpool_core.lifecycle import PauseReason, State, Tier
from agentpool_operator.cache import InstanceRef
from agentpool_operator.desired.pod import generic_tiers, workers_resources
from agentpool_operator.kube.kinds import INSTANCES
from agentpool_operator.plan import demand
from agentpool_operator.plan.generic import GenericPlan, plan_generic
from agentpool_operator.plan.own import OwnPlan, OwnState, OwnWish, is_hot, plan_own
from agentpool_operator.plan.views import AwaitedView, HostView, PodView
from agentpool_operator.reconcile.parts import Parts
from agentpool_operator.reconcile.pods import Note, Pods
from agentpool_operator.reconcile.run import Run
from agentpool_operator.report.conditions import Problem
from agentpool_operator.report.failures import escalated, words

AWAITED_SECONDS = 60.0
"""A request that is longer ago does not count: its caller has gone."""
ESCALATIONS = 3
"""Instances that one run tells of; the condition counts them all."""


class Singles:
    """See the module."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._pods = Pods(parts)

    async def __call__(self, run: Run) -> GenericPlan:
        """Bring them on; what was planned for the waiting ones. Raises KubeError."""
        hosts = self._parts.fleet.views(run.place)
        run.memory.expected.seen(run.pods, self._parts.clock())
        await self._pods.record_awaited(run.owner, self._awaited(run, hosts), run.effects)
        own = plan_own(self._own_state(run))
        self._remember_lost(run, own.lost)
        self._tell_escalations(run, hosts)
        generic = self._generic(run, own, hosts)
        await self._carry_out(run, own, generic)
        if own.capped:
            message = f"{own.capped} HOT instances wait: tiers.hot.maxInstances is reached. Raise it."
            run.effects.problems.append(Problem("HotCapReached", message))
        return generic

    def _awaited(self, run: Run, hosts: dict[str, HostView]) -> list[AwaitedView]:
        """New HOT instances that need a pod made for them, as no waiting one takes them; within the cap."""
        served = run.waiting[1] > 0 and Tier.HOT in generic_tiers(run.pool, run.effective)
        cache, now = self._parts.cache, self._parts.wall()
        if served or not cache.synced:
            return []
        asked = {one.id: one for host in hosts.values() for one in host.awaited}
        new = [
            one
            for one in asked.values()
            if now - one.asked_at < AWAITED_SECONDS and cache.standing_for(one.id) is None
        ]
        hot = sum(1 for ref in cache.of_pool(*run.place) if wants_own_pod(ref, run.effective))
        room = max(0, run.effective.tier(Tier.HOT).max_instances - hot)
        return sorted(new, key=lambda one: one.asked_at)[:room]

    def _tell_escalations(self, run: Run, hosts: dict[str, HostView]) -> None:
        """Instances that nobody declared have no object of their own that could tell."""
        unknown = [one for one in escalated(hosts.values()) if not self._parts.cache.standing_for(one.id)]
        for held in unknown[:ESCALATIONS]:
            if held.recovery is not None:
                text = f"Instance {held.id} is left alone. {words(held.recovery)}"
                run.effects.notes.append(Note("InstanceEscalated", text, "Recover", warning=True))

    def _generic(self, run: Run, own: OwnPlan, hosts: dict[str, HostView]) -> GenericPlan:
        moved_into = {pod.uid for pod, _ in own.adopt}
        memory, now = run.memory, self._parts.wall()
        taken = frozenset(pod.uid for pod in run.pods if _had_instance(pod, hosts.get(pod.uid))) | moved_into
        if memory.taken is None:
            # After a restart of the operator: what waits now was wanted a moment ago.
            before = int((run.status.get("generic") or {}).get("wanted") or 0)
            memory.demand, memory.taken = demand.Demand(level=float(before), at=now), taken
        present = {pod.uid for pod in run.pods}
        fresh = len(taken - memory.taken)
        memory.taken = (memory.taken | taken) & present
        memory.demand = demand.after(memory.demand, fresh, demand.start_seconds(run.pods), now)
        least, most = run.waiting
        run.effects.again(demand.falls_after(memory.demand, least, most))
        return plan_generic(
            [pod for pod in run.pods if pod.uid not in moved_into],
            hosts,
            demand.standby(memory.demand, least, most),
            run.templates[ROLE_GENERIC].hash,
            now,
            expected=memory.expected.waiting(ROLE_GENERIC),
            used_before=memory.taken,
        )

    async def _carry_out(self, run: Run, own: OwnPlan, generic: GenericPlan) -> None:
        owner, effects, expected = run.owner, run.effects, run.memory.expected
        resources = workers_resources(ROLE_HOT, run.pool, run.effective)
        calls = [
            self._pods.adopt(owner, own.adopt, resources, effects),
            self._pods.retier(owner, own.retier, resources, effects),
            self._pods.retire(owner, [*own.retire, *generic.retire], effects),
            self._pods.delete(owner, [*own.delete, *generic.delete], effects),
            *(self._forget(run, wish) for wish in own.forget),
        ]
        if not run.blocked:
            under_way = expected.instances()
            wishes = [wish for wish in own.create if wish.id not in under_way]
            calls = [
                # First in line: the next request may need it.
                self._pods.create_waiting(
                    owner, run.templates[ROLE_GENERIC], generic.create, expected, effects
                ),
                self._pods.create_own(owner, run.templates[ROLE_HOT], wishes, expected, effects),
                *calls,
            ]
        for error in await asyncio.gather(*calls, return_exceptions=True):
            if error is not None:
                raise error
        effects.again(own.again_after)
        effects.again(generic.again_after)
        effects.again(expected.again_after(self._parts.clock()))

    def _own_state(self, run: Run) -> OwnState:
        now = self._parts.clock()
        wishes = {}
        for ref in self._parts.cache.of_pool(*run.place):
            lost = run.memory.lost.get(ref.instance_id)
            wishes[ref.instance_id] = OwnWish(
                id=ref.instance_id,
                name=ref.name,
                uid=ref.uid,
                hot=wants_own_pod(ref, run.effective),
                had_pod=ref.last_state not in ("", State.CREATED.value),
                lost_for=now - lost if lost is not None else 0.0,
                declared=ref.declared,
            )
        return OwnState(
            pods=run.pods,
            hosts=self._parts.fleet.views(run.place),
            wishes=wishes,
            templates=_own_templates(run),
            waiting_template=run.templates[ROLE_GENERIC].hash,
            max_hot=run.effective.tier(Tier.HOT).max_instances,
            now=self._parts.wall(),
            known=self._parts.cache.synced,
        )

    def _remember_lost(self, run: Run, lost: frozenset[str]) -> None:
        now = self._parts.clock()
        run.memory.lost = {one: run.memory.lost.get(one, now) for one in lost}

    async def _forget(self, run: Run, wish: OwnWish) -> None:
        await self._parts.cluster.delete(INSTANCES, run.owner.namespace, wish.name, wish.uid)


def _had_instance(pod: PodView, host: HostView | None) -> bool:
    """Whether a pod that waited got an instance."""
    if pod.role != ROLE_GENERIC:
        return False
    return bool(pod.instance) or (host is not None and (host.used or host.residents > 0))


def wants_own_pod(ref: InstanceRef, effective: EffectivePool) -> bool:
    """Whether an instance is to have a pod of its own at all times: HOT, and neither paused nor ended."""
    if effective.checkpoint.storage is Storage.MEMORY or ref.wanted in ("Paused", "Terminated"):
        return False
    # What lives keeps its tier where its declaration names none.
    tier = ref.tier or (
        ref.last_tier if not ref.declared or ref.last_state not in ("", State.CREATED) else ""
    )
    if not is_hot(tier, effective.default_tier if ref.declared else Tier.COLD):
        return False
    if ref.wanted == "Running":
        return True
    user_paused = ref.last_state == State.PAUSED and ref.last_reason == PauseReason.USER_REQUESTED
    return not user_paused and ref.last_state != State.TERMINATED


def _own_templates(run: Run) -> frozenset[str]:
    """Hashes of the templates that a HOT instance's own pod may have been made from.

    That of waiting pods counts only while those can take HOT instances: both hashes are equal until HOT gets
    another runtime, which would never reach the pods that are there.
    """
    roles = [ROLE_HOT]
    if Tier.HOT in generic_tiers(run.pool, run.effective):
        roles.append(ROLE_GENERIC)
    return frozenset(run.templates[role].hash for role in roles)
