# SPDX-License-Identifier: Apache-2.0
"""Conditions in the form of Kubernetes' conventions (kstatus), pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

MESSAGE_CHARS = 1000


@dataclass(frozen=True, slots=True)
class Condition:
    """One observation; `holds` None: unknown."""

    type: str
    holds: bool | None
    reason: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class Problem:
    """Why an object is not as it should be.

    Attributes:
        message: what was found, with what to do about it.
        stalled: waiting does not help: the user has to change something.
    """

    reason: str
    message: str
    stalled: bool = False


def rfc3339(now: float) -> str:
    """Seconds since 1970 as Kubernetes writes times."""
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def kstatus(problem: Problem | None, reconciling: str, ready_message: str) -> list[Condition]:
    """Ready, Reconciling and Stalled.

    Args:
        problem: the worst one; None: there is none.
        reconciling: what is still under way; empty: nothing.
    """
    stalled = problem is not None and problem.stalled
    if problem is not None:
        ready = Condition("Ready", False, problem.reason, problem.message)
    elif reconciling:
        ready = Condition("Ready", False, "Progressing", reconciling)
    else:
        ready = Condition("Ready", True, "Ready", ready_message)
    under_way = not stalled and (problem is not None or bool(reconciling))
    return [
        ready,
        Condition(
            "Reconciling",
            under_way,
            "Progressing" if under_way else "Settled",
            (reconciling or ready.message) if under_way else "",
        ),
        Condition(
            "Stalled",
            stalled,
            problem.reason if problem is not None and stalled else "Settled",
            ready.message if stalled else "",
        ),
    ]


def merged(
    before: Iterable[Mapping[str, Any]], now_true: Sequence[Condition], generation: int, now: float
) -> list[dict[str, Any]]:
    """The conditions to write; a time changes only with its condition's status."""
    old = {one.get("type"): one for one in before}
    found = []
    for one in now_true:
        status = "Unknown" if one.holds is None else str(one.holds)
        past = old.get(one.type) or {}
        same = past.get("status") == status and past.get("lastTransitionTime")
        found.append(
            {
                "type": one.type,
                "status": status,
                "reason": one.reason,
                "message": one.message[:MESSAGE_CHARS],
                "lastTransitionTime": past["lastTransitionTime"] if same else rfc3339(now),
                "observedGeneration": generation,
            }
        )
    return found
