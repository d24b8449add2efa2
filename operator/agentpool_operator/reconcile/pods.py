# SPDX-License-Identifier: Apache-2.0
"""Carrying out the plans about single pods: adopt, make, retire, delete."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from agentpool_core.cluster import CONTAINER_WORKERS, LABEL_TIER
from agentpool_core.errors import AgentPoolError
from agentpool_core.lifecycle import State, Tier
from agentpool_core.names import InstanceKey
from agentpool_operator.cache import InstanceRef
from agentpool_operator.desired.naming import Owner, reference
from agentpool_operator.desired.objects import adoption, record
from agentpool_operator.desired.pod import Template
from agentpool_operator.hosts import HostAway
from agentpool_operator.kube.kinds import (
    INSTANCES,
    PODS,
    Conflict,
    Gone,
    KubeError,
    NotLeader,
    Object,
    Refused,
    Retry,
)
from agentpool_operator.plan.expected import Expected
from agentpool_operator.plan.own import OwnWish
from agentpool_operator.plan.views import AwaitedView, HeldView, PodView, Trouble
from agentpool_operator.queue import Key, Subject
from agentpool_operator.reconcile.parts import Parts
from agentpool_operator.report.conditions import Problem

log = structlog.get_logger(__name__)

PARALLEL = 8
UNREACHED_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Note:
    """What is told of a pool in an Event."""

    reason: str
    text: str
    action: str
    warning: bool = False


@dataclass(slots=True)
class Effects:
    """What came of it: problems for the report, and when to look again."""

    problems: list[Problem] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    """For Events, written when everything else is done."""
    again_after: float | None = None

    def again(self, seconds: float | None) -> None:
        """Look again after that time at the latest."""
        if seconds is not None:
            self.again_after = seconds if self.again_after is None else min(self.again_after, seconds)


class Pods:
    """See the module."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def adopt(
        self,
        owner: Owner,
        pairs: Iterable[tuple[PodView, HeldView]],
        hot_resources: dict[str, Any],
        effects: Effects,
    ) -> None:
        """Make each pod its instance's own; one that changed meanwhile is looked at again."""
        for pod, held in pairs:
            try:
                ref = await self._record(owner, held)
                if ref is None:
                    continue
                patch = adoption(pod, held, ref.name, ref.uid)
                await self._parts.cluster.merge(PODS, owner.namespace, pod.name, patch)
            except (Conflict, Gone):
                effects.again(0.2)
                continue
            except Refused as exc:
                effects.problems.append(refusal(exc))
                continue
            log.info("pod_adopted", pod=pod.name, instance=held.id, tier=held.tier)
            note = f"Pod {pod.name} became the own pod of {held.tier} instance {held.id}."
            effects.notes.append(Note("PodAdopted", note, "Adopt"))
            if held.tier is Tier.HOT:
                await self._resize(owner, pod, hot_resources, effects)

    async def retier(
        self,
        owner: Owner,
        pairs: Iterable[tuple[PodView, HeldView]],
        hot_resources: dict[str, Any],
        effects: Effects,
    ) -> None:
        """Say on each pod which tier its instance has now, and give one that became HOT its resources."""
        for pod, held in pairs:
            patch = {"metadata": {"uid": pod.uid, "labels": {LABEL_TIER: held.tier.value.lower()}}}
            try:
                await self._parts.cluster.merge(PODS, owner.namespace, pod.name, patch)
            except (Conflict, Gone):
                effects.again(0.2)
                continue
            log.info("pod_retiered", pod=pod.name, instance=held.id, tier=held.tier)
            if held.tier is Tier.HOT:
                await self._resize(owner, pod, hot_resources, effects)

    async def record_awaited(self, owner: Owner, awaited: Iterable[AwaitedView], effects: Effects) -> None:
        """Record new HOT instances, so that each gets its pod."""
        for one in awaited:
            held = HeldView(one.id, one.tenant, one.project, Tier.HOT, State.CREATED)
            try:
                await self._record(owner, held)
            except (Conflict, Gone):
                effects.again(0.2)
            except Refused as exc:
                effects.problems.append(refusal(exc))
            else:
                log.info("instance_awaited", instance=one.id)

    async def _record(self, owner: Owner, held: HeldView) -> InstanceRef | None:
        """The AgentInstance of an instance, recorded now if nobody declared one."""
        ref = self._parts.cache.standing_for(held.id)
        if ref is not None:
            return ref
        key = InstanceKey(owner.namespace, owner.name, held.tenant, held.project)
        if key.instance_id != held.id:
            log.warning("instance_id_does_not_fit", instance=held.id, pool=owner.name)
            return None
        try:
            body = await self._parts.cluster.create(INSTANCES, owner.namespace, record(owner, held))
        except Conflict:
            present = await self._parts.cluster.get(INSTANCES, owner.namespace, held.id)
            if present is None:
                raise
            body = present
        if "deletionTimestamp" in body["metadata"]:
            return None
        self._parts.cache.instance_put(body)
        # Its event brings nothing new, and may never come: a watch that begins anew lists without events.
        self._parts.queue.add(Key(Subject.INSTANCE, owner.namespace, body["metadata"]["name"]))
        return self._parts.cache.standing_for(held.id)

    async def _resize(self, owner: Owner, pod: PodView, resources: dict[str, Any], effects: Effects) -> None:
        try:
            await self._parts.cluster.resize(owner.namespace, pod.name, CONTAINER_WORKERS, resources)
        except (Refused, Gone, Conflict) as exc:
            log.info("pod_not_resized", pod=pod.name, reason=exc.message)
            note = f"Pod {pod.name} keeps the resources of a waiting pod: {exc.message}"
            effects.notes.append(Note("PodNotResized", note, "Resize", warning=True))

    async def create_waiting(
        self, owner: Owner, template: Template, count: int, expected: Expected, effects: Effects
    ) -> None:
        """Make pods that wait."""
        names = (f"{owner.child('generic')}-{self._parts.suffix()}" for _ in range(count))
        pods = [(template.pod(owner, name), "") for name in names]
        await self._make(owner, template.role, pods, expected, effects)

    async def create_own(
        self,
        owner: Owner,
        template: Template,
        wishes: Sequence[OwnWish],
        expected: Expected,
        effects: Effects,
    ) -> None:
        """Make a pod for each instance."""
        pods = []
        for wish in wishes:
            name = f"{owner.child('hot')}-{self._parts.suffix()}"
            ref = reference("AgentInstance", wish.name, wish.uid)
            pods.append((template.own_pod(owner, name, wish.id, ref), wish.id))
        await self._make(owner, template.role, pods, expected, effects)

    async def _make(
        self,
        owner: Owner,
        role: str,
        pods: Sequence[tuple[Object, str]],
        expected: Expected,
        effects: Effects,
    ) -> None:
        """One pod, then two, then four: what refuses the first one, a quota or a namespace that ends, refuses
        the others as well, and is not asked for each of them."""
        start, size = 0, 1
        while start < len(pods):
            batch, start = pods[start : start + size], start + size
            for body, instance_id in batch:
                expected.add(body["metadata"]["name"], role, self._parts.clock(), instance_id)
            calls = [self._create(owner, body, expected) for body, _ in batch]
            if not await self._all(calls, effects):
                return
            size = min(size * 2, PARALLEL)

    async def _create(self, owner: Owner, body: Object, expected: Expected) -> None:
        name = body["metadata"]["name"]
        try:
            await self._parts.cluster.create(PODS, owner.namespace, body)
        except (Conflict, Refused, Gone, NotLeader):
            # A conflict: the random name is taken, or a quota is being counted; the next look draws another.
            # Without an answer (Retry) it may be there all the same.
            expected.refused(name)
            raise
        log.info("pod_created", pod=name)

    async def retire(self, owner: Owner, pods: Sequence[PodView], effects: Effects) -> None:
        """Delete pods whose hosts agree that they hold nothing and will take nothing."""
        await self._all((self._retire(owner, pod, effects) for pod in pods), effects)

    async def _retire(self, owner: Owner, pod: PodView, effects: Effects) -> None:
        link = self._parts.fleet.link(pod.uid)
        view = link.view if link is not None else None
        if link is None or view is None:
            if pod.phase != "Pending":
                effects.again(UNREACHED_SECONDS)
                return
        elif not view.draining:
            try:
                await link.retire()
            except (AgentPoolError, HostAway) as exc:
                # An instance got there first, or the host is unreachable: both are looked at again.
                log.info("pod_not_retired", pod=pod.name, reason=str(exc))
                effects.again(UNREACHED_SECONDS)
                return
        await self._parts.cluster.delete(PODS, owner.namespace, pod.name, pod.uid)
        log.info("pod_retired", pod=pod.name)

    async def delete(self, owner: Owner, pods: Sequence[PodView], effects: Effects) -> None:
        """Delete exactly these pods; what still runs in them drains."""
        cluster = self._parts.cluster
        calls = (cluster.delete(PODS, owner.namespace, pod.name, pod.uid) for pod in pods)
        await self._all(calls, effects)

    async def _all(self, calls: Iterable[Awaitable[None]], effects: Effects) -> bool:
        """Whether every call went well; the others are told in `effects`."""
        gate = asyncio.Semaphore(PARALLEL)

        async def bounded(call: Awaitable[None]) -> None:
            async with gate:
                await call

        results = await asyncio.gather(*(bounded(call) for call in calls), return_exceptions=True)
        for result in results:
            if isinstance(result, Refused):
                effects.problems.append(refusal(result))
            elif isinstance(result, Retry | Gone | Conflict):
                effects.again(2.0)
                log.warning("pod_call_failed", reason=str(result))
            elif isinstance(result, BaseException):
                raise result
        return all(result is None for result in results)


def refusal(error: KubeError) -> Problem:
    """What the API server's refusal means to the pool's owner."""
    if isinstance(error, Refused) and error.quota:
        remedy = "Raise the ResourceQuota of the namespace, or lower replicas or warmup.count."
        return Problem(Trouble.QUOTA.value, f"{error.message}. {remedy}")
    return Problem(Trouble.REFUSED.value, f"The API server refused an object: {error.message}")
