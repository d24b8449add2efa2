# SPDX-License-Identifier: Apache-2.0
"""The reconcile of an AgentInstance: a few calls on hosts at most, then the report.

Pods are the pool's business; this one speaks with hosts alone.
"""

from __future__ import annotations

from dataclasses import replace

import structlog

from agentpool_core.api import AgentInstance, read_object
from agentpool_core.api.v1alpha1 import Storage, WantedState
from agentpool_core.cluster import AGENT_NAME, LABEL_NAME, LABEL_POOL_UID
from agentpool_core.config import EffectivePool
from agentpool_core.errors import AgentPoolError, InstanceNotFound, InvalidRequest, NotOwner
from agentpool_core.lifecycle import PauseReason, State, Tier
from agentpool_core.names import Incarnation
from agentpool_operator.cache import InstanceRef, instance_ref
from agentpool_operator.hosts import HostAway
from agentpool_operator.hosts.link import HostLink
from agentpool_operator.kube.kinds import INSTANCES, PODS, Object
from agentpool_operator.plan.instance import Act, is_out_of_sight, plan_instance
from agentpool_operator.plan.views import RESIDENT, pod_view
from agentpool_operator.queue import Key
from agentpool_operator.reconcile.found import (
    Found,
    fits,
    is_migrated,
    is_misplaced,
    is_orphaned,
    is_there,
    last_failure,
    present_tier,
    state_of,
    wanted_tier,
)
from agentpool_operator.reconcile.parts import Parts
from agentpool_operator.report.budget import Budget
from agentpool_operator.report.circuits import circuit_change, circuit_only, lingers
from agentpool_operator.report.conditions import Problem
from agentpool_operator.report.instance import InstanceReport, instance_status, strategy_change
from agentpool_operator.report.pool import BUSY_SECONDS, shown_state
from agentpool_proto.v1.types_pb2 import Instance

log = structlog.get_logger(__name__)

WAIT_SECONDS = 2.0
"""When nothing can be done yet: no host is ready. Most of what is waited for also makes an event."""
RETRY_SECONDS = 5.0
"""After a host refused."""
CIRCUIT_BURST, CIRCUIT_PER_SECOND = 10, 0.5
"""Writes of one pool that only tell of breakers."""
MAX_CALLS = 4
"""Calls of one run: written down, moved, activated in its new place."""


class InstanceReconciler:
    """See the module."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._budgets: dict[tuple[str, str], Budget] = {}

    async def __call__(self, key: Key) -> float | None:
        """Bring an instance on; see `queue.Reconcile`."""
        body = await self._parts.cluster.get(INSTANCES, key.namespace, key.name)
        if body is None:
            return await self._end(key)
        if "deletionTimestamp" in body["metadata"]:
            return None
        self._parts.instance_seen(body)
        try:
            instance = read_object(AgentInstance, body)
        except InvalidRequest as exc:
            log.warning("instance_unreadable", name=key.name, reason=exc.message)
            return None
        ref = instance_ref(body)
        pool = (ref.namespace, ref.pool)
        effective = self._parts.fleet.effective(pool)
        if effective is None:
            return await self._poolless(body, ref)
        if self._parts.cache.standing_for(ref.instance_id) != ref:
            return await self._double(body, ref, effective)
        return await self._bring_on(body, instance, ref, effective)

    # The three ends without a call

    async def _poolless(self, body: Object, ref: InstanceRef) -> float | None:
        known = bool(self._parts.cache.pool_uid(ref.namespace, ref.pool))
        if known or not self._parts.cache.synced:
            return WAIT_SECONDS
        problem = Problem("PoolNotFound", f"There is no AgentPool {ref.pool} in {ref.namespace}. Create it.")
        tier = Tier(ref.tier or Tier.WARM)
        report = InstanceReport(ref.generation, ref.instance_id, State.CREATED, "", tier, problem=problem)
        await self._write(body, report)
        return None

    async def _double(self, body: Object, ref: InstanceRef, effective: EffectivePool) -> float | None:
        other = self._parts.cache.standing_for(ref.instance_id)
        if not ref.declared and other is not None:
            # A user declared what was only recorded: the record has done its work.
            await self._parts.cluster.delete(INSTANCES, ref.namespace, ref.name, ref.uid)
            return None
        name = other.name if other is not None else "another"
        problem = Problem(
            "Duplicate",
            f"AgentInstance {name} already declares this tenant and project. Delete one of the two.",
            stalled=True,
        )
        tier = Tier(ref.tier or effective.default_tier)
        report = InstanceReport(ref.generation, ref.instance_id, State.CREATED, "", tier, problem=problem)
        await self._write(body, report)
        return None

    async def _end(self, key: Key) -> float | None:
        """A declared AgentInstance was deleted: its instance ends, and its state is erased."""
        cache = self._parts.cache
        cache.instance_drop(key.namespace, key.name)
        ref = cache.departed(key.namespace, key.name)
        if ref is None:
            return None
        heir = cache.standing_for(ref.instance_id)
        pool = (ref.namespace, ref.pool)
        effective = self._parts.fleet.effective(pool)
        gone = effective is None and cache.synced and not cache.pool_uid(*pool)
        if gone or (heir is not None and heir.declared):
            # The pool's end erases everything; another declaration wants the instance to live.
            cache.settle(key.namespace, key.name)
            return None
        if effective is None:
            return WAIT_SECONDS
        found = await self._find(pool, ref.instance_id)
        if found.held is None and not found.asked:
            return WAIT_SECONDS
        state = state_of(ref, found, effective, deleted=True)
        if plan_instance(state) is Act.TERMINATE:
            await self._call(Act.TERMINATE, ref, found, effective, Tier.WARM)
            log.info("instance_terminated", instance=ref.instance_id, name=key.name)
        cache.settle(key.namespace, key.name)
        return None

    # The ordinary way

    async def _bring_on(
        self, body: Object, instance: AgentInstance, ref: InstanceRef, effective: EffectivePool
    ) -> float | None:
        pool = (ref.namespace, ref.pool)
        found = await self._find(pool, ref.instance_id)
        if found.held is None and not found.asked and ref.last_state:
            # Nobody can tell now: the last report stands.
            return WAIT_SECONDS
        wanted = instance.spec.state
        found, problem, again = await self._act(ref, found, effective, wanted)
        activates = ref.declared and effective.checkpoint.storage is Storage.REDIS
        tier = present_tier(found) or wanted_tier(ref, found, effective)
        if problem is None and ref.tier and tier != ref.tier and is_migrated(found):
            problem = Problem(
                "OutOfMemory",
                f"It ran out of memory in tier {ref.tier} and was moved to {tier}. Set spec.tier to {tier},"
                f" or raise tiers.{ref.tier.lower()}.quota.memory of its pool.",
            )
        report = self._report_of(ref, found, tier, wanted, problem, activates)
        put_off = await self._write(body, report)
        lingering = lingers(body.get("status") or {}, report.breaker, self._parts.wall())
        again = min((one for one in (again, put_off, lingering) if one), default=None)
        if is_out_of_sight(found.held, report.state):
            again = min(again or RETRY_SECONDS, RETRY_SECONDS)
        if found.held is not None and found.held.state is State.BUSY and report.state is not State.BUSY:
            again = min(again or BUSY_SECONDS, BUSY_SECONDS + 0.5)
        return again

    async def _act(
        self, ref: InstanceRef, found: Found, effective: EffectivePool, wanted: WantedState | None
    ) -> tuple[Found, Problem | None, float | None]:
        """Make the calls that bring it on, one after the other; what is known then, what went wrong, and
        after how many seconds to look again."""
        pool = (ref.namespace, ref.pool)
        before = Act.NONE
        for _ in range(MAX_CALLS):
            tier = wanted_tier(ref, found, effective)
            housed = tier is not Tier.HOT or self._parts.fleet.own_host(pool, ref.instance_id) is not None
            act = plan_instance(state_of(ref, found, effective, wanted=wanted, tier=tier, housed=housed))
            if act is Act.NONE:
                return found, None, None
            if act is Act.AWAIT or act is before:
                # The same again: it is recorded as wish, or the host's report is on its way.
                return found, None, WAIT_SECONDS
            try:
                answer = await self._call(act, ref, found, effective, tier)
            except InstanceNotFound:
                return found, None, WAIT_SECONDS
            except AgentPoolError as exc:
                pause = max(RETRY_SECONDS, exc.retry_after_seconds or 0.0)
                return found, Problem(exc.code, f"{exc.message} {exc.hint}"), pause
            except HostAway as exc:
                log.info("host_away", instance=ref.instance_id, reason=str(exc))
                return found, None, WAIT_SECONDS
            if answer is None:
                return found, None, WAIT_SECONDS
            found, before = self._after(pool, ref, found, answer), act
        return found, None, WAIT_SECONDS

    def _after(self, pool: tuple[str, str], ref: InstanceRef, found: Found, answer: Instance) -> Found:
        """What is known once a call was answered: the host's own report if it came in already, with what the
        answer says of the record."""
        holder = self._parts.fleet.holder(pool, ref.instance_id)
        if holder is not None and State(answer.state) in RESIDENT:
            told = replace(holder[1], tier=Tier(answer.tier), declared_uid=answer.declared_uid)
            return Found(holder[0], told, None, True)
        return Found(found.link, None, answer, True)

    async def _find(self, pool: tuple[str, str], instance_id: str) -> Found:
        holder = self._parts.fleet.holder(pool, instance_id)
        if holder is not None and holder[1].state in RESIDENT | {State.ERROR}:
            return Found(*holder)
        found = Found()
        link = holder[0] if holder is not None else self._parts.fleet.any_host(pool)
        if link is None:
            return found
        try:
            found.stored = await link.get(instance_id)
            found.asked = True
        except InstanceNotFound:
            found.asked = True
        except (AgentPoolError, HostAway) as exc:
            log.info("store_not_asked", instance=instance_id, reason=str(exc))
        if holder is not None and found.stored is not None and State(found.stored.state) in RESIDENT:
            found.link, found.held = holder
        return found

    async def _call(
        self, act: Act, ref: InstanceRef, found: Found, effective: EffectivePool, tier: Tier
    ) -> Instance | None:
        """Make the call; None when there is no host for it yet."""
        pool = (ref.namespace, ref.pool)
        fleet = self._parts.fleet
        link = found.link
        if act in (Act.ACTIVATE, Act.RESUME) and not found.resident:
            link = fleet.host_for(pool, ref.instance_id, tier)
        elif link is None:
            link = fleet.any_host(pool)
        if link is None:
            return None
        try:
            return await self._on(link, act, ref, tier, frozenset())
        except NotOwner as exc:
            owner = Incarnation.parse(exc.details["owner"])
            other = fleet.link(owner.pod_uid)
            if other is not None and other.view is not None and fleet.lives(owner):
                return await self._on(other, act, ref, tier, frozenset())
            if not await self._has_ended(pool, effective.uid, owner):
                raise
            return await self._on(link, act, ref, tier, frozenset({owner}))

    async def _on(
        self, link: HostLink, act: Act, ref: InstanceRef, tier: Tier, ended: frozenset[Incarnation]
    ) -> Instance:
        log.info("instance_called", act=act, instance=ref.instance_id, pod_uid=link.pod_uid)
        if act is Act.ACTIVATE:
            wanted = Instance(tenant_id=ref.tenant, project_id=ref.project, tier=tier.value)
            return await link.activate(wanted, ref.uid if ref.declared else "", ended)
        if act is Act.MOVE:
            return await link.move(ref.instance_id, tier.value, ref.uid, ended)
        if act is Act.MARK:
            return await link.move(ref.instance_id, "", ref.uid, ended)
        if act is Act.PAUSE:
            return await link.pause(ref.instance_id, ended)
        if act is Act.RESUME:
            return await link.resume(ref.instance_id, ended)
        return await link.terminate(ref.instance_id, ended)

    async def _has_ended(self, pool: tuple[str, str], uid: str, owner: Incarnation) -> bool:
        """Proof that an owner lives no more: not connected, and its pod gone, ended or not ready."""
        if self._parts.fleet.lives(owner):
            return False
        selector = f"{LABEL_NAME}={AGENT_NAME},{LABEL_POOL_UID}={uid}"
        listed = await self._parts.cluster.list(PODS, pool[0], selector)
        pods = {view.uid: view for view in map(pod_view, listed)}
        pod = pods.get(owner.pod_uid)
        return pod is None or pod.ended or not pod.ready

    # Report

    def _is_nowhere(self, ref: InstanceRef) -> bool:
        pool = (ref.namespace, ref.pool)
        fleet = self._parts.fleet
        # Its report may have come in while the store was asked.
        return fleet.holder(pool, ref.instance_id) is None and fleet.hears_all(pool)

    def _report_of(
        self,
        ref: InstanceRef,
        found: Found,
        tier: Tier,
        wanted: WantedState | None,
        problem: Problem | None,
        activates: bool,
    ) -> InstanceReport:
        held, stored = found.held, found.stored
        if held is not None and found.link is not None:
            pod = self._parts.fleet.pod(found.link.pod_uid)
            state = shown_state(held, self._parts.clock())
            name = pod.name if pod is not None else ""
            facts = (state, held.reason, name, held.epoch, held.isolation)
        elif stored is not None and is_orphaned(found, self._is_nowhere(ref)):
            facts = (State.PAUSED, PauseReason.EVICTED, "", 0, ())
        elif stored is not None:
            facts = (State(stored.state), stored.reason, stored.pod, stored.epoch, tuple(stored.isolation))
        else:
            ended = wanted is WantedState.TERMINATED or bool(ref.last_state not in ("", State.CREATED))
            facts = (State.TERMINATED if ended else State.CREATED, "", "", 0, ())
        state, reason, name, epoch, isolation = facts
        satisfied = (wanted is None or fits(wanted, state, reason)) and not is_misplaced(ref, tier, state)
        if activates and wanted in (None, WantedState.RUNNING):
            satisfied = satisfied and is_there(tier, state, reason)
        return InstanceReport(
            ref.generation,
            ref.instance_id,
            state,
            reason,
            tier,
            name,
            epoch,
            isolation,
            satisfied,
            problem,
            last_failure(found),
            held.breaker if held is not None else None,
        )

    async def _write(self, body: Object, report: InstanceReport) -> float | None:
        """Write the status, if it differs; after how many seconds to try again, when it was put off."""
        before = body.get("status") or {}
        after = instance_status(before, report, self._parts.wall())
        if before == after:
            return None
        metadata = body["metadata"]
        if circuit_only(before, after) and (wait := self._budget(body).take(self._parts.clock())) > 0:
            return max(wait, 1.0)
        identity = {"name": metadata["name"], "namespace": metadata["namespace"], "uid": metadata["uid"]}
        status = {"metadata": identity, "status": after}
        written = await self._parts.cluster.apply(INSTANCES, metadata["namespace"], status, "status")
        self._parts.instance_seen(written)
        for changed in (strategy_change(before, report), circuit_change(before, report.breaker)):
            if changed is not None:
                await self._parts.recorder.tell(
                    INSTANCES, body, changed.reason, changed.message, warning=True
                )
        if report.problem is not None:
            await self._parts.recorder.tell(
                INSTANCES, body, report.problem.reason, report.problem.message, warning=True
            )
        elif before.get("state") != after["state"] and report.state in (State.PAUSED, State.TERMINATED):
            note = f"The instance is {report.state} {report.reason}".strip() + "."
            await self._parts.recorder.tell(INSTANCES, body, report.state.value.capitalize(), note)
        return None

    def _budget(self, body: Object) -> Budget:
        """Of the writes of one pool that only tell of breakers: many of them open for one reason."""
        pool = (body["metadata"]["namespace"], body["spec"]["pool"])
        for gone in self._budgets.keys() - set(self._parts.cache.pools) - {pool}:
            del self._budgets[gone]
        return self._budgets.setdefault(pool, Budget(CIRCUIT_BURST, CIRCUIT_PER_SECOND))
