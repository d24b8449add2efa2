# SPDX-License-Identifier: Apache-2.0
"""The size of the shared tier: up at once, down one pod at a time, the emptiest first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agentpool_core.cluster import ROLE_WARM
from agentpool_operator.plan.views import HostView, PodView

VICTIM_COST = -1000
"""Deletion cost that makes the ReplicaSet choose a pod before all others."""


@dataclass(frozen=True, slots=True)
class WarmPlan:
    """How many replicas the Deployment gets now, and which pod is to go first when that is fewer."""

    replicas: int
    victim: PodView | None = None


def plan_warm(
    wanted: int, present: int | None, pods: Sequence[PodView], hosts: Mapping[str, HostView]
) -> WarmPlan:
    """The plan; `present` are the replicas that the Deployment asks for now, None when there is none."""
    if present is None or wanted >= present:
        return WarmPlan(wanted)
    mine = [pod for pod in pods if pod.role == ROLE_WARM]
    if any(pod.deleting for pod in mine):
        # One drains already; its end brings the next look.
        return WarmPlan(present)

    def load(pod: PodView) -> tuple[bool, int, float]:
        host = hosts.get(pod.uid)
        return pod.ready, host.residents if host is not None else 0, -pod.created_at

    return WarmPlan(present - 1, min(mine, key=load, default=None))
