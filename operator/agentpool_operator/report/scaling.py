# SPDX-License-Identifier: Apache-2.0
"""Automatic scaling in the status of a pool, pure: what is wanted, the last action, a condition."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agentpool_core.config import ScalingConfig
from agentpool_core.scaling import Action, Verdict
from agentpool_operator.plan.views import seconds
from agentpool_operator.report.conditions import Condition, rfc3339

LASTING_SECONDS = 60.0
"""A hindrance shows as a condition only when it lasts: each change is a write."""


@dataclass(frozen=True, slots=True)
class ScalingReport:
    """What the status is made of.

    Attributes:
        desired: shared pods that are wanted; None: somebody else chooses.
        action, acted_at: the last one of this operator, seconds since 1970.
        hindrance: a verdict that has lasted; None: nothing hinders.
    """

    policy: ScalingConfig
    desired: int | None = None
    action: Action | None = None
    acted_at: float = 0.0
    hindrance: Verdict | None = None


def scaling_status(before: Mapping[str, Any], report: ScalingReport, current: int) -> dict[str, Any] | None:
    """The field `scaling`; None: there is none. An action of an earlier operator stays as it is."""
    if report.desired is None:
        return None
    found: dict[str, Any] = {"desiredReplicas": report.desired, "currentReplicas": current}
    last = _told(report.action, report.acted_at) if report.action is not None else before.get("lastAction")
    if last:
        found["lastAction"] = last
        until = seconds(last["at"]) + report.policy.cooldown_seconds
        found["cooldownUntil"] = rfc3339(until)
    return found


def _told(action: Action, at: float) -> dict[str, Any]:
    return {
        "direction": action.direction.value,
        "before": action.before,
        "after": action.after,
        "at": rfc3339(at),
        "reason": action.reason,
        "message": action.message,
        "loads": dict(action.loads),
    }


def scaling_condition(report: ScalingReport) -> Condition:
    """The condition ScalingActive of a pool whose scaling is switched on."""
    kind, policy = "ScalingActive", report.policy
    if report.desired is None:
        words = "spec.scaling.mode is External: spec.tiers.warm.replicas is the number of shared pods."
        return Condition(kind, False, "External", words)
    bounds = f"between {policy.min_replicas} and {policy.max_replicas}"
    if report.hindrance is Verdict.MISSING:
        words = "Not every shared pod tells its load; meanwhile the number only rises. See the pods."
        return Condition(kind, False, "SignalsMissing", words)
    if report.hindrance is Verdict.AT_MAXIMUM:
        words = f"The load asks for more pods than spec.scaling.maxReplicas, {policy.max_replicas}. Raise it."
        return Condition(kind, True, "AtMaximum", words)
    return Condition(kind, True, "Automatic", f"The number of shared pods follows their load, {bounds}.")
