# SPDX-License-Identifier: Apache-2.0
"""Bugs on purpose: each replaces one function of the operator in its own process, so that each oracle can
show that it would find such a bug.

Every one of them is of a kind that real operators had.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from agentpool_core.config import EffectivePool, resolve
from agentpool_operator.desired.naming import covers
from agentpool_operator.kube.kinds import POOLS, Object
from agentpool_operator.kube.leader import Elector
from agentpool_operator.plan.generic import GenericPlan, plan_generic
from agentpool_operator.reconcile import pool, single
from agentpool_operator.reconcile.pool import PoolReconciler
from agentpool_operator.reconcile.resync import Resync

_quiet_ones = PoolReconciler._quiet_ones


def _replace(where: object, name: str, by: object) -> None:
    """Put something in the place of what must be there."""
    getattr(where, name)
    setattr(where, name, by)


@dataclass(frozen=True, slots=True)
class Plant:
    """A bug.

    Attributes:
        oracle: the one that is to find it.
        put_in: brings it into this process.
    """

    oracle: str
    put_in: Callable[[], None]


def _half_done() -> None:
    """What follows the Deployment is made only in the run that makes the Deployment."""

    async def quiet_ones(self: Any, run: Any) -> None:
        made = run.deployment is not None and "status" not in run.body
        if made and run.deployment.get("status", {}).get("observedGeneration") is None:
            await _quiet_ones(self, run)

    _replace(PoolReconciler, "_quiet_ones", quiet_ones)


def _ignored_field() -> None:
    """A field of the spec is read and thrown away."""

    def wrong(*arguments: Any) -> EffectivePool:
        found = resolve(*arguments)
        return found.model_copy(update={"limits": type(found.limits)()})

    _replace(pool, "resolve", wrong)


def _made_once() -> None:
    """A Deployment is made right and never changed again."""

    def wrong(observed: Any, wanted: Any) -> bool:
        if isinstance(wanted, Mapping) and "replicas" in wanted.get("spec", {}):
            return observed is not None
        return covers(observed, wanted)

    _replace(pool, "covers", wrong)


def _waits_for_start() -> None:
    """A pod is given up only once it has started: what a broken template made stays for ever."""

    def wrong(*arguments: Any, **named: Any) -> GenericPlan:
        found = plan_generic(*arguments, **named)
        return replace(found, retire=tuple(pod for pod in found.retire if pod.phase != "Pending"))

    _replace(single, "plan_generic", wrong)


def _crash_on_a_field() -> None:
    """An ordinary value of a field is not expected."""

    def wrong(*arguments: Any) -> EffectivePool:
        found = resolve(*arguments)
        return {str(tier): found for tier in ("WARM", "COLD")}[str(found.default_tier)]

    _replace(pool, "resolve", wrong)


def _zombie() -> None:
    """A leader writes without a look at its Lease, and never notices that it lost it."""

    def check(self: Any) -> None:
        return None

    async def hold(self: Any) -> None:
        while True:
            await self._sleep(1.0)

    _replace(Elector, "check", check)
    _replace(Elector, "hold", hold)


def _hot_loop() -> None:
    """A status that is written whether it changed or not, without a budget."""

    async def write(self: Any, body: Object, memory: Any, before: Object, after: Object) -> float:
        metadata = body["metadata"]
        identity = {"name": metadata["name"], "namespace": metadata["namespace"], "uid": metadata["uid"]}
        status = {"metadata": identity, "status": after}
        await self._parts.cluster.apply(POOLS, metadata["namespace"], status, "status")
        return 0.5

    _replace(PoolReconciler, "_write", write)


def _edges_only() -> None:
    """Events alone are looked at, never the whole."""

    async def run(self: Any) -> None:
        await self.once()
        await asyncio.Event().wait()

    _replace(Resync, "run", run)


PLANTS: Mapping[str, Plant] = {
    "half done": Plant("end state after a crash", _half_done),
    "zombie leader": Plant("old leader writes nothing", _zombie),
    "edges only": Plant("frozen watch", _edges_only),
    "hot loop": Plant("writes at rest", _hot_loop),
    "ignored field": Plant("consistency", _ignored_field),
    "made once": Plant("differential", _made_once),
    "waits for start": Plant("recovery", _waits_for_start),
    "crash on a field": Plant("no crash", _crash_on_a_field),
}
