# SPDX-License-Identifier: Apache-2.0
"""The reconcile of an AgentPool.

Pods are listed from the API server at each run, never taken from a cache that lags: that is what keeps the
number of pods within bounds without bookkeeping of creations under way. One key runs at most once at a time,
and only the leader writes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import structlog

from agentpool_core.api import AgentPool, read_object
from agentpool_core.api.v1alpha1 import Storage
from agentpool_core.cluster import AGENT_NAME, LABEL_NAME, LABEL_POOL_UID, ROLE_GENERIC, ROLE_HOT, ROLE_WARM
from agentpool_core.config import EffectivePool, resolve
from agentpool_core.errors import InvalidRequest
from agentpool_core.lifecycle import PauseReason, State, Tier
from agentpool_operator.cache import InstanceRef
from agentpool_operator.desired import objects
from agentpool_operator.desired.naming import Owner, covers, selector_text
from agentpool_operator.desired.pod import Template, generic_tiers, template, workers_resources
from agentpool_operator.kube.kinds import (
    BUDGETS,
    DEPLOYMENTS,
    INSTANCES,
    PODS,
    POOLS,
    SERVICES,
    Gone,
    Kind,
    Object,
    Refused,
)
from agentpool_operator.plan.generic import GenericPlan, plan_generic
from agentpool_operator.plan.own import OwnPlan, OwnState, OwnWish, is_hot, plan_own
from agentpool_operator.plan.views import PodView, pod_view, seconds
from agentpool_operator.plan.warm import VICTIM_COST, plan_warm
from agentpool_operator.queue import Key
from agentpool_operator.reconcile.parts import Parts
from agentpool_operator.reconcile.pods import Effects, Pods, refusal
from agentpool_operator.report.budget import Budget
from agentpool_operator.report.conditions import Problem
from agentpool_operator.report.pool import BUSY_SECONDS, PoolReport, counts_only, pool_status
from agentpool_operator.store import StoreAway

log = structlog.get_logger(__name__)

FORCE_SECONDS = 240.0
"""How long what was granted in Redis, and the objects that nobody else writes, are trusted unseen."""
DATA_LOST_SECONDS = 600.0
"""How long the loss of the store's data stays a condition."""
STATUS_BURST, STATUS_PER_SECOND = 3, 0.2
DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"


@dataclass(slots=True)
class _Memory:
    """What one run leaves to the next; nothing of it is needed to be right."""

    uid: str = ""
    lost: dict[str, float] = field(default_factory=dict)
    asserted_at: float = float("-inf")
    asserted: tuple[Any, ...] = ()
    store: tuple[str, ...] = ()
    """What is wrong with the store's settings."""
    budget: Budget = field(default_factory=lambda: Budget(STATUS_BURST, STATUS_PER_SECOND))


@dataclass(slots=True)
class _Run:
    """One run over one pool."""

    body: Object
    owner: Owner
    pool: AgentPool
    effective: EffectivePool
    memory: _Memory
    pods: list[PodView] = field(default_factory=list)
    deployment: Object | None = None
    effects: Effects = field(default_factory=Effects)
    templates: dict[str, Template] = field(default_factory=dict)
    store_generation: str = ""
    blocked: bool = False
    """Pods could not start: what they mount is not there."""

    @property
    def place(self) -> tuple[str, str]:
        return self.owner.namespace, self.owner.name

    @property
    def replicas(self) -> int:
        """Wanted shared pods; a tier that takes nobody has none."""
        return self.effective.warm_replicas if self.effective.tier(Tier.WARM).max_instances > 0 else 0

    @property
    def waiting(self) -> int:
        """Wanted waiting pods."""
        warmup, limits = self.effective.warmup, self.effective.limits
        on = warmup.enabled and bool(generic_tiers(self.pool, self.effective))
        return min(warmup.count, limits.max_instances) if on else 0


class PoolReconciler:
    """See the module."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._pods = Pods(parts)
        self._memory: dict[tuple[str, str], _Memory] = {}
        self.sizes: dict[tuple[str, str], dict[str, tuple[int, int]]] = {}
        """Wanted and ready pods of each pool by role, for the metrics."""

    async def __call__(self, key: Key) -> float | None:
        """Bring a pool on; see `queue.Reconcile`."""
        place = key.namespace, key.name
        body = await self._parts.cluster.get(POOLS, *place)
        if body is None:
            self._memory.pop(place, None)
            self.sizes.pop(place, None)
            self._parts.fleet.configure(place, None)
            return None
        metadata = body["metadata"]
        memory = self._memory.setdefault(place, _Memory())
        if memory.uid != metadata["uid"]:
            memory = self._memory[place] = _Memory(uid=metadata["uid"])
        if "deletionTimestamp" in metadata:
            # Its children go with it; a new one would only hold that up.
            return None
        self._parts.cache.pool_put(body)
        owner = Owner(key.namespace, key.name, metadata["uid"])
        try:
            pool = read_object(AgentPool, body)
            effective = resolve(pool, self._parts.environ, owner.uid, metadata["generation"])
        except InvalidRequest as exc:
            problem = Problem("ConfigurationInvalid", f"{exc.message} {exc.hint}", stalled=True)
            await self._refuse(body, memory, problem)
            return None
        return await self._run(_Run(body, owner, pool, effective, memory))

    async def _run(self, run: _Run) -> float | None:
        parts = self._parts
        await self._grant(run)
        selector = f"{LABEL_NAME}={AGENT_NAME},{LABEL_POOL_UID}={run.owner.uid}"
        listed = await parts.cluster.list(PODS, run.owner.namespace, selector)
        run.pods = [pod_view(one) for one in listed]
        parts.fleet.pods_listed(run.place, run.pods)
        parts.fleet.configure(run.place, run.effective)
        for role in (ROLE_WARM, ROLE_HOT, ROLE_GENERIC):
            run.templates[role] = template(role, run.owner, run.pool, run.effective, parts.defaults)
        if not run.blocked:
            try:
                await self._shared(run)
            except Refused as exc:
                run.effects.problems.append(refusal(exc))
        own, generic = await self._single(run)
        again = await self._report(run, own, generic)
        run.effects.again(again)
        return run.effects.again_after

    # Redis

    async def _grant(self, run: _Run) -> None:
        if run.effective.checkpoint.storage is not Storage.REDIS:
            return
        before = str((run.body.get("status") or {}).get("storeGeneration") or "")
        force = self._parts.clock() - run.memory.asserted_at > FORCE_SECONDS
        try:
            run.store_generation = await self._parts.access.ensure(run.owner, before, force)
            if force:
                admin = await self._parts.access.admin()
                run.memory.store = tuple(await admin.problems())
        except StoreAway as exc:
            missing = "is missing" in str(exc)
            reason = "RedisSecretMissing" if missing else "StoreUnavailable"
            run.effects.problems.append(Problem(reason, str(exc)))
            run.effects.again(10.0)
            run.blocked = not before
        except Refused as exc:
            run.effects.problems.append(refusal(exc))
            run.blocked = not before

    # Shared pods

    async def _shared(self, run: _Run) -> None:
        parts, owner = self._parts, run.owner
        present = await parts.cluster.get(DEPLOYMENTS, owner.namespace, owner.warm_name)
        replicas = (present.get("spec") or {}).get("replicas") if present is not None else None
        hosts = parts.fleet.views(run.place)
        plan = plan_warm(run.replicas, replicas, run.pods, hosts)
        if plan.victim is not None:
            cost = {"metadata": {"uid": plan.victim.uid, "annotations": {DELETION_COST: str(VICTIM_COST)}}}
            try:
                await parts.cluster.merge(PODS, owner.namespace, plan.victim.name, cost)
            except Gone:
                run.effects.again(0.5)
        wanted = objects.deployment(owner, run.templates[ROLE_WARM], plan.replicas)
        run.deployment = present
        if not covers(present, wanted):
            run.deployment = await parts.cluster.apply(DEPLOYMENTS, owner.namespace, wanted)
        if plan.replicas != run.replicas:
            run.effects.again(2.0)
        await self._quiet_ones(run)

    async def _quiet_ones(self, run: _Run) -> None:
        """Objects that nobody but the operator has a reason to write: looked at when what is wanted of them
        changes, and now and then."""
        owner, memory = run.owner, run.memory
        wanted: list[tuple[Kind, Object]] = [
            (SERVICES, objects.service(owner)),
            (BUDGETS, objects.budget(owner, run.replicas)),
        ]
        now = self._parts.clock()
        if memory.asserted == (run.replicas,) and now - memory.asserted_at < FORCE_SECONDS:
            return
        for kind, body in wanted:
            name = body["metadata"]["name"]
            present = await self._parts.cluster.get(kind, owner.namespace, name)
            if not covers(present, body):
                await self._parts.cluster.apply(kind, owner.namespace, body)
        memory.asserted, memory.asserted_at = (run.replicas,), now

    # Pods of single instances

    async def _single(self, run: _Run) -> tuple[OwnPlan, GenericPlan]:
        parts, owner = self._parts, run.owner
        hosts = parts.fleet.views(run.place)
        own = plan_own(self._own_state(run))
        self._remember_lost(run.memory, own.lost)
        taken = {pod.uid for pod, _ in own.adopt}
        others = [pod for pod in run.pods if pod.uid not in taken]
        waiting_template = run.templates[ROLE_GENERIC]
        generic = plan_generic(others, hosts, run.waiting, waiting_template.hash, parts.wall())
        resources = workers_resources(ROLE_HOT, run.pool, run.effective)
        effects = run.effects
        await self._pods.adopt(owner, run.body, own.adopt, resources, effects)
        if not run.blocked:
            await self._pods.create_own(owner, run.templates[ROLE_HOT], own.create, effects)
            await self._pods.create_waiting(owner, waiting_template, generic.create, effects)
        await self._pods.retire(owner, [*own.retire, *generic.retire], effects)
        await self._pods.delete(owner, [*own.delete, *generic.delete], effects)
        for wish in own.forget:
            await self._forget(run, wish)
        effects.again(own.again_after)
        effects.again(generic.again_after)
        if own.capped:
            message = f"{own.capped} HOT instances wait: tiers.hot.maxInstances is reached. Raise it."
            effects.problems.append(Problem("HotCapReached", message))
        return own, generic

    def _own_state(self, run: _Run) -> OwnState:
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
            templates=frozenset({run.templates[ROLE_HOT].hash, run.templates[ROLE_GENERIC].hash}),
            max_hot=run.effective.tier(Tier.HOT).max_instances,
            now=self._parts.wall(),
            known=self._parts.cache.synced,
        )

    def _remember_lost(self, memory: _Memory, lost: frozenset[str]) -> None:
        now = self._parts.clock()
        memory.lost = {one: memory.lost.get(one, now) for one in lost}

    async def _forget(self, run: _Run, wish: OwnWish) -> None:
        await self._parts.cluster.delete(INSTANCES, run.owner.namespace, wish.name, wish.uid)

    # Report

    async def _report(self, run: _Run, own: OwnPlan, generic: GenericPlan) -> float | None:
        before = run.body.get("status") or {}
        hosts = self._parts.fleet.views(run.place)
        problems = list(run.effects.problems)
        problems += [Problem("ConfigurationRefused", one) for one in self._parts.fleet.refusals(run.place)]
        report = PoolReport(
            generation=run.effective.generation,
            effective=run.effective,
            selector=selector_text(run.owner.warm_selector),
            problems=problems,
            deployment=run.deployment,
            replicas=run.replicas,
            generic_wanted=generic.wanted,
            generic_ready=generic.ready,
            pods=run.pods,
            hosts=hosts,
            own_pods=sum(1 for pod in run.pods if pod.instance),
            store=run.memory.store,
            store_generation=run.store_generation or str(before.get("storeGeneration") or ""),
            data_lost=self._data_lost(before, run.store_generation),
        )
        after = pool_status(before, report, self._parts.wall(), self._parts.clock())
        self.sizes[run.place] = {
            ROLE_WARM: (run.replicas, after["readyReplicas"]),
            ROLE_GENERIC: (generic.wanted, generic.ready),
        }
        return await self._write(run.body, run.memory, before, after)

    def _data_lost(self, before: Object, generation: str) -> bool:
        known = str(before.get("storeGeneration") or "")
        if known and generation and known != generation:
            return True
        for one in before.get("conditions") or ():
            if one.get("type") == "StoreDataLost" and one.get("status") == "True":
                return self._parts.wall() - seconds(one.get("lastTransitionTime")) < DATA_LOST_SECONDS
        return False

    async def _refuse(self, body: Object, memory: _Memory, problem: Problem) -> None:
        report = PoolReport(body["metadata"]["generation"], None, problems=[problem])
        before = body.get("status") or {}
        after = pool_status(before, report, self._parts.wall(), self._parts.clock())
        # What is in force stays in force.
        await self._write(body, memory, before, {**before, "conditions": after["conditions"]})

    async def _write(self, body: Object, memory: _Memory, before: Object, after: Object) -> float | None:
        if before == after:
            return None
        wait = memory.budget.take(self._parts.clock())
        if wait > 0 and counts_only(before, after):
            return max(wait, 1.0)
        metadata = body["metadata"]
        identity = {"name": metadata["name"], "namespace": metadata["namespace"], "uid": metadata["uid"]}
        status = {"metadata": identity, "status": after}
        await self._parts.cluster.apply(POOLS, metadata["namespace"], status, "status")
        await self._tell(body, before, after)
        return None

    async def _tell(self, body: Object, before: Object, after: Object) -> None:
        old, new = (_condition(one, "Ready") for one in (before, after))
        if (old.get("status"), old.get("reason")) == (new["status"], new["reason"]):
            return
        warning = new["status"] != "True" and new["reason"] != "Progressing"
        if warning or new["status"] == "True":
            await self._parts.recorder.tell(POOLS, body, new["reason"], new["message"], warning=warning)


def _condition(status: Object, kind: str) -> Object:
    return next((one for one in status.get("conditions") or () if one.get("type") == kind), {})


def wants_own_pod(ref: InstanceRef, effective: EffectivePool) -> bool:
    """Whether an instance is to have a pod of its own at all times: HOT, and neither paused nor ended."""
    if effective.checkpoint.storage is Storage.MEMORY or ref.wanted in ("Paused", "Terminated"):
        return False
    tier = ref.tier or (ref.last_tier if not ref.declared else "")
    if not is_hot(tier, effective.default_tier if ref.declared else Tier.COLD):
        return False
    if ref.wanted == "Running":
        return True
    user_paused = ref.last_state == State.PAUSED and ref.last_reason == PauseReason.USER_REQUESTED
    return not user_paused and ref.last_state != State.TERMINATED


SHOWN_LATE_SECONDS = BUSY_SECONDS + 0.5
"""When a BUSY instance is looked at again, to show it as that."""
