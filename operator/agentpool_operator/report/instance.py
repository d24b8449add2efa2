# SPDX-License-Identifier: Apache-2.0
"""The status of an AgentInstance, pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agentpool_core.lifecycle import State, Tier
from agentpool_operator.plan.views import RESIDENT, BreakerView, RecoveryView
from agentpool_operator.report.circuits import circuit
from agentpool_operator.report.conditions import Condition, Problem, kstatus, merged
from agentpool_operator.report.failures import is_down, words


@dataclass(frozen=True, slots=True)
class InstanceReport:
    """What the status is made of.

    Attributes:
        state: as its host or the store tells; CREATED for one that nobody used yet.
        recovery: its last failure and what is done about it; None: there was none lately.
        breaker: its circuit breaker; None: it is closed.
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
    recovery: RecoveryView | None = None
    breaker: BreakerView | None = None


def instance_status(before: Mapping[str, Any], report: InstanceReport, now: float) -> dict[str, Any]:
    """The whole status; `now`: seconds since 1970."""
    under_way = "" if report.satisfied else f"It is {report.state}; what the spec wants is under way."
    problem = report.problem
    if problem is None and report.state is State.ERROR:
        problem = _failed(report)
    shown = report.state.value + (f" ({report.reason})" if report.reason else "")
    conditions = kstatus(problem, under_way, f"{shown}.")
    conditions += _recovery(before, report)
    conditions += circuit(before, report.breaker, report.state in RESIDENT, now)
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


def _failed(report: InstanceReport) -> Problem:
    recovery = report.recovery
    if recovery is None:
        return Problem("AgentFailed", f"{report.reason} See the log of its pod.")
    if recovery.escalated:
        remedy = "It is left alone: mend the cause, then resume it."
        return Problem(recovery.cause, f"{words(recovery)} {remedy}", stalled=True)
    return Problem(recovery.cause, f"{words(recovery)} It is brought back by itself.")


def _recovery(before: Mapping[str, Any], report: InstanceReport) -> list[Condition]:
    """Recovering and Escalated; only on an instance that ever failed."""
    recovery = report.recovery
    if recovery is None:
        known = {one.get("type") for one in before.get("conditions") or ()}
        kept = [kind for kind in ("Recovering", "Escalated") if kind in known]
        return [Condition(kind, False, "Settled") for kind in kept]
    down = is_down(report.state, recovery)
    said = words(recovery)
    return [
        Condition("Recovering", down and not recovery.escalated, recovery.strategy.capitalize(), said),
        Condition("Escalated", down and recovery.escalated, recovery.strategy.capitalize(), said),
    ]


def strategy_change(before: Mapping[str, Any], report: InstanceReport) -> Problem | None:
    """The words of an Event, when another strategy of recovery is followed than before."""
    recovery = report.recovery
    past: Mapping[str, Any] = next(
        (one for one in before.get("conditions") or () if one.get("type") == "Recovering"), {}
    )
    if recovery is None or past.get("reason") == recovery.strategy.capitalize():
        return None
    return Problem(f"Recovery{recovery.strategy.capitalize()}", words(recovery))
