# SPDX-License-Identifier: Apache-2.0
"""The reconcile of an AgentPool.

Pods are listed from the API server at each run, never taken from a cache of ours. One key runs at most once
at a time, and only the leader writes. What somebody may wait for, the pods of single instances, comes first;
the shared pods, the status and the Events follow.
"""

from __future__ import annotations

import asyncio

from agentpool_core.api import AgentPool, read_object
from agentpool_core.api.v1alpha1 import Storage
from agentpool_core.cluster import (
    AGENT_NAME,
    DELETION_COST,
    LABEL_NAME,
    LABEL_POOL_UID,
    ROLE_GENERIC,
    ROLE_HOT,
    ROLE_WARM,
)
from agentpool_core.config import resolve
from agentpool_core.errors import InvalidRequest
from agentpool_operator.desired import objects
from agentpool_operator.desired.naming import Owner, covers, selector_text
from agentpool_operator.desired.pod import template
from agentpool_operator.kube.kinds import (
    BUDGETS,
    DEPLOYMENTS,
    PODS,
    POOLS,
    SERVICES,
    Conflict,
    Gone,
    Kind,
    Object,
    Refused,
)
from agentpool_operator.plan.generic import GenericPlan
from agentpool_operator.plan.views import PodView, pod_view, seconds
from agentpool_operator.plan.warm import SHORT_SECONDS, VICTIM_COST, min_available, plan_warm, short_since
from agentpool_operator.queue import Key
from agentpool_operator.reconcile.parts import Parts
from agentpool_operator.reconcile.pods import refusal
from agentpool_operator.reconcile.run import Memory, Run
from agentpool_operator.reconcile.scaling import Scaling
from agentpool_operator.reconcile.single import Singles
from agentpool_operator.report.conditions import Problem
from agentpool_operator.report.pool import BUSY_SECONDS, PoolReport, counts_only, pool_status, refills
from agentpool_operator.store import StoreAway

FORCE_SECONDS = 240.0
"""How long what was granted in Redis, and the objects that nobody else writes, are trusted unseen."""
DATA_LOST_SECONDS = 600.0
"""How long the loss of the store's data stays a condition."""
COUNTS_SECONDS = 4.0
"""How long counts may differ from the status: a pod that is taken and replaced meanwhile costs no write."""
REFILLED_SECONDS = 1.0
"""That all pods wait again is told at once, but not sooner than this after the last counts."""


class PoolReconciler:
    """See the module."""

    def __init__(self, parts: Parts, scaling: Scaling) -> None:
        self._parts = parts
        self._scaling = scaling
        self._singles = Singles(parts)
        self._memory: dict[tuple[str, str], Memory] = {}
        self.sizes: dict[tuple[str, str], dict[str, tuple[int, int]]] = {}
        """Wanted and ready pods of each pool by role, for the metrics."""
        self.conditions: dict[tuple[str, str], dict[str, bool]] = {}
        """Which conditions of each pool hold, for the metrics."""

    async def __call__(self, key: Key) -> float | None:
        """Bring a pool on; see `queue.Reconcile`."""
        place = key.namespace, key.name
        body = await self._parts.cluster.get(POOLS, *place)
        if body is None:
            gone = self._memory.get(place)
            if gone is not None:
                await self._end(key.namespace, gone.uid)
            self._memory.pop(place, None)
            self.sizes.pop(place, None)
            self.conditions.pop(place, None)
            self._scaling.forget(place)
            self._parts.fleet.configure(place, None)
            return None
        metadata = body["metadata"]
        memory = self._memory.setdefault(place, Memory())
        if memory.uid != metadata["uid"]:
            memory = self._memory[place] = Memory(uid=metadata["uid"])
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
        return await self._run(Run(body, owner, pool, effective, memory))

    async def _end(self, namespace: str, uid: str) -> None:
        """The pool is gone, and its pods with it. Most go as its children; the pod of a declared instance
        belongs to its AgentInstance, which stays."""
        selector = f"{LABEL_NAME}={AGENT_NAME},{LABEL_POOL_UID}={uid}"
        for body in await self._parts.cluster.list(PODS, namespace, selector):
            metadata = body["metadata"]
            if "deletionTimestamp" not in metadata:
                await self._parts.cluster.delete(PODS, namespace, metadata["name"], metadata["uid"])

    async def _run(self, run: Run) -> float | None:
        parts = self._parts
        selector = f"{LABEL_NAME}={AGENT_NAME},{LABEL_POOL_UID}={run.owner.uid}"
        pods = parts.cluster.list(PODS, run.owner.namespace, selector)
        listed, _ = await asyncio.gather(pods, self._grant(run))
        run.pods = [pod_view(one) for one in listed]
        parts.fleet.pods_listed(run.place, run.pods)
        parts.fleet.configure(run.place, run.effective)
        for role in (ROLE_WARM, ROLE_HOT, ROLE_GENERIC):
            run.templates[role] = template(role, run.owner, run.pool, run.effective, parts.defaults)
        run.scaled = self._scaling.known(run)
        generic = await self._singles(run)
        if not run.blocked:
            try:
                await self._shared(run)
            except Refused as exc:
                run.effects.problems.append(refusal(exc))
        run.effects.again(await self._report(run, generic))
        run.effects.notes += self._scaling.news(run.place)
        for note in run.effects.notes:
            await parts.recorder.tell(POOLS, run.body, note.reason, note.text, note.action, note.warning)
        return run.effects.again_after

    # Redis

    async def _grant(self, run: Run) -> None:
        if run.effective.checkpoint.storage is not Storage.REDIS:
            return
        before = str(run.status.get("storeGeneration") or "")
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

    async def _shared(self, run: Run) -> None:
        parts, owner = self._parts, run.owner
        present = await parts.cluster.get(DEPLOYMENTS, owner.namespace, owner.warm_name)
        replicas = (present.get("spec") or {}).get("replicas") if present is not None else None
        hosts = parts.fleet.views(run.place)
        run.scaled = self._scaling.replicas(run, replicas)
        plan = plan_warm(run.replicas, replicas, run.pods, hosts)
        for pod in plan.unmark:
            await self._mark(run, pod, None)
        if plan.mark is not None:
            await self._mark(run, plan.mark, VICTIM_COST)
            run.effects.again(0.3)
        wanted = objects.deployment(owner, run.templates[ROLE_WARM], plan.replicas)
        run.deployment = present
        if not covers(present, wanted):
            run.deployment = await parts.cluster.apply(DEPLOYMENTS, owner.namespace, wanted)
        if plan.replicas != run.replicas:
            run.effects.again(2.0)
        await self._quiet_ones(run)

    async def _mark(self, run: Run, pod: PodView, cost: int | None) -> None:
        value = None if cost is None else str(cost)
        patch = {"metadata": {"uid": pod.uid, "annotations": {DELETION_COST: value}}}
        try:
            await self._parts.cluster.merge(PODS, run.owner.namespace, pod.name, patch)
        except (Gone, Conflict):
            run.effects.again(0.5)

    async def _quiet_ones(self, run: Run) -> None:
        """Objects that nobody but the operator has a reason to write: looked at when what is wanted of them
        changes, and now and then."""
        owner, memory = run.owner, run.memory
        short, wall = short_since(run.deployment), self._parts.wall()
        available = min_available(run.replicas, short, wall)
        if short is not None and wall - short < SHORT_SECONDS:
            run.effects.again(SHORT_SECONDS - (wall - short) + 1.0)
        wanted: list[tuple[Kind, Object]] = [
            (SERVICES, objects.service(owner)),
            (BUDGETS, objects.budget(owner, available)),
        ]
        now = self._parts.clock()
        if memory.asserted == (available,) and now - memory.asserted_at < FORCE_SECONDS:
            return
        for kind, body in wanted:
            name = body["metadata"]["name"]
            present = await self._parts.cluster.get(kind, owner.namespace, name)
            if not covers(present, body):
                await self._parts.cluster.apply(kind, owner.namespace, body)
        memory.asserted, memory.asserted_at = (available,), now

    # Report

    async def _report(self, run: Run, generic: GenericPlan) -> float | None:
        before = run.status
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
            scaling=self._scaling.report(run.place, run.effective),
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

    async def _refuse(self, body: Object, memory: Memory, problem: Problem) -> None:
        report = PoolReport(body["metadata"]["generation"], None, problems=[problem])
        before = body.get("status") or {}
        after = pool_status(before, report, self._parts.wall(), self._parts.clock())
        # What is in force stays in force.
        told = {key: after[key] for key in ("observedGeneration", "conditions")}
        await self._write(body, memory, before, {**before, **told})

    async def _write(self, body: Object, memory: Memory, before: Object, after: Object) -> float | None:
        self.conditions[body["metadata"]["namespace"], body["metadata"]["name"]] = {
            one["type"]: one["status"] == "True" for one in after["conditions"]
        }
        if before == after:
            memory.unwritten_since = None
            return None
        now = self._parts.clock()
        if counts_only(before, after) and (wait := self._wait(memory, refills(before, after), now)) > 0:
            return wait
        memory.unwritten_since, memory.written_at = None, now
        metadata = body["metadata"]
        identity = {"name": metadata["name"], "namespace": metadata["namespace"], "uid": metadata["uid"]}
        status = {"metadata": identity, "status": after}
        await self._parts.cluster.apply(POOLS, metadata["namespace"], status, "status")
        await self._tell(body, before, after)
        return None

    def _wait(self, memory: Memory, refilled: bool, now: float) -> float:
        """For how long the writing of counts is put off."""
        if refilled:
            return memory.written_at + REFILLED_SECONDS - now
        memory.unwritten_since = memory.unwritten_since or now
        settles = memory.unwritten_since + COUNTS_SECONDS - now
        if settles > 0:
            return max(settles, 0.2)
        wait = memory.budget.take(now)
        return max(wait, 1.0) if wait > 0 else 0.0

    async def _tell(self, body: Object, before: Object, after: Object) -> None:
        old, new = (_condition(one, "Ready") for one in (before, after))
        if (old.get("status"), old.get("reason")) == (new["status"], new["reason"]):
            return
        warning = new["status"] != "True" and new["reason"] != "Progressing"
        if warning or new["status"] == "True":
            await self._parts.recorder.tell(POOLS, body, new["reason"], new["message"], warning=warning)


def _condition(status: Object, kind: str) -> Object:
    return next((one for one in status.get("conditions") or () if one.get("type") == kind), {})


SHOWN_LATE_SECONDS = BUSY_SECONDS + 0.5
"""When a BUSY instance is looked at again, to show it as that."""
