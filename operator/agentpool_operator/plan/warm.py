# SPDX-License-Identifier: Apache-2.0
"""The size of the shared tier: up at once, down one pod at a time, the emptiest first; and how many may be
evicted meanwhile.

A pod is marked by its deletion cost, and the Deployment gets smaller once the API server shows the mark. The
ReplicaSet then deletes that pod, whose host drains: what is busy ends, everything is saved and released.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agentpool_core.cluster import ROLE_WARM
from agentpool_operator.plan.views import HostView, PodView, seconds

VICTIM_COST = -1000
"""Deletion cost that makes the ReplicaSet choose a pod before all others."""

SHORT_SECONDS = 600.0
"""How long missing pods keep the others from being evicted. After it whatever keeps them from coming back may
be the very node that is to be drained, and instances move with their state anyway."""


@dataclass(frozen=True, slots=True)
class WarmPlan:
    """How many replicas the Deployment gets now.

    Attributes:
        mark: the pod that is to go first; it goes once it is seen to be marked.
        unmark: pods that were to go first, and are not any more.
    """

    replicas: int
    mark: PodView | None = None
    unmark: tuple[PodView, ...] = ()


def plan_warm(
    wanted: int, present: int | None, pods: Sequence[PodView], hosts: Mapping[str, HostView]
) -> WarmPlan:
    """The plan; `present` are the replicas that the Deployment asks for now, None when there is none."""
    mine = [pod for pod in pods if pod.role == ROLE_WARM]
    marked = [pod for pod in mine if pod.cost == VICTIM_COST and not pod.deleting]
    if present is None or wanted >= present:
        return WarmPlan(wanted, unmark=tuple(marked))
    staying = sum(1 for pod in mine if pod.ready and not pod.deleting)
    if any(pod.deleting for pod in mine) or staying > present:
        # One drains already, or is about to; its end brings the next look.
        return WarmPlan(present)

    def load(pod: PodView) -> tuple[bool, bool, int, float]:
        host = hosts.get(pod.uid)
        held = host.residents + host.active if host is not None else 0
        # What was chosen stays chosen, however its load changes meanwhile.
        return pod.ready, pod not in marked, held, -pod.created_at

    victim = min(mine, key=load, default=None)
    others = tuple(pod for pod in marked if pod is not victim)
    if victim is None or victim in marked:
        return WarmPlan(present - 1, unmark=others)
    return WarmPlan(present, victim, others)


def min_available(replicas: int, short_since: float | None, now: float) -> int:
    """How many shared pods an eviction has to leave: all but one, so that a node drains pod after pod.

    A single one may always go, and so may all when pods have been missing for `SHORT_SECONDS`: a budget that
    nothing can fulfil would hold up a node's upgrade for ever.

    Args:
        short_since: since when fewer pods than wanted are available, seconds since 1970; None: none misses.
    """
    if short_since is not None and now - short_since >= SHORT_SECONDS:
        return 0
    return max(0, replicas - 1)


def short_since(deployment: Mapping[str, Any] | None) -> float | None:
    """Since when a Deployment lacks pods, seconds since 1970; None: it does not."""
    for one in ((deployment or {}).get("status") or {}).get("conditions") or ():
        if one.get("type") == "Available" and one.get("status") == "False":
            return seconds(one.get("lastTransitionTime"))
    return None
