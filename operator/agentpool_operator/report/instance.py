# SPDX-License-Identifier: Apache-2.0
"""The status of an AgentInstance, pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agentpool_core.lifecycle import State, Tier
from agentpool_operator.report.conditions import Problem, kstatus, merged


@dataclass(frozen=True, slots=True)
class InstanceReport:
    """What the status is made of.

    Attributes:
        state: as its host or the store tells; CREATED for one that nobody used yet.
        satisfied: whether that is what its spec wants.
        problem: why it is not; None: it is under way, or nothing is wanted.
    """

    generation: int
    id: str
    state: State
    reason: str
    tier: Tier
    pod: str = ""
    epoch: int = 0
    isolation: Sequence[str] = ()
    satisfied: bool = True
    problem: Problem | None = None


def instance_status(before: Mapping[str, Any], report: InstanceReport, now: float) -> dict[str, Any]:
    """The whole status; `now`: seconds since 1970."""
    under_way = "" if report.satisfied else f"It is {report.state}; what the spec wants is under way."
    problem = report.problem
    if problem is None and report.state is State.ERROR:
        problem = Problem("AgentFailed", f"{report.reason} See the log of its pod.")
    words = report.state.value + (f" ({report.reason})" if report.reason else "")
    conditions = kstatus(problem, under_way, f"{words}.")
    return {
        "observedGeneration": report.generation,
        "conditions": merged(before.get("conditions") or (), conditions, report.generation, now),
        "id": report.id,
        "state": report.state.value,
        "reason": report.reason,
        "tier": report.tier.value,
        "pod": report.pod,
        "epoch": report.epoch,
        "isolation": list(report.isolation),
    }
