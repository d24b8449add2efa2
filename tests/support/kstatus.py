# SPDX-License-Identifier: Apache-2.0
"""What tools that follow the kstatus convention (Argo CD, Flux, `kubectl wait`) read from an object, and what
AgentPool means by it; the two have to agree."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Object = Mapping[str, Any]
CURRENT, IN_PROGRESS, FAILED, TERMINATING = "Current", "InProgress", "Failed", "Terminating"


def conditions(body: Object) -> dict[str, Object]:
    """The conditions by type."""
    return {one["type"]: one for one in (body.get("status") or {}).get("conditions") or ()}


def reading(body: Object) -> str:
    """The convention, in its order: deletion, generation, Reconciling, Stalled, Ready."""
    status, said = body.get("status") or {}, conditions(body)

    def is_true(kind: str) -> bool:
        return said.get(kind, {}).get("status") == "True"

    if body["metadata"].get("deletionTimestamp"):
        return TERMINATING
    observed = status.get("observedGeneration")
    if observed is not None and observed != body["metadata"].get("generation"):
        return IN_PROGRESS
    if is_true("Reconciling"):
        return IN_PROGRESS
    if is_true("Stalled"):
        return FAILED
    if "Ready" in said and not is_true("Ready"):
        return IN_PROGRESS
    # An object without any word is taken for finished.
    return CURRENT


def disagreement(body: Object) -> str:
    """Why the reading is not what the operator means; empty: it is. An object that no operator has looked at
    yet says nothing."""
    status, said = body.get("status") or {}, conditions(body)
    if not status or body["metadata"].get("deletionTimestamp"):
        return ""
    missing = {"Ready", "Reconciling", "Stalled"} - said.keys()
    if missing:
        return f"without {sorted(missing)}"
    ready, moving, stalled = (said[kind]["status"] == "True" for kind in ("Ready", "Reconciling", "Stalled"))
    if ready + moving + stalled != 1:
        return f"Ready {ready}, Reconciling {moving}, Stalled {stalled}: exactly one has to hold"
    generations = {one.get("observedGeneration") for one in said.values()}
    if generations != {status.get("observedGeneration")}:
        return f"conditions of generations {generations}, status of {status.get('observedGeneration')}"
    unexplained = [kind for kind, one in said.items() if not one["reason"] or not one["lastTransitionTime"]]
    if unexplained:
        return f"{unexplained} without reason or time"
    if status["observedGeneration"] != body["metadata"]["generation"]:
        return "" if reading(body) == IN_PROGRESS else "a new spec reads as settled"
    meant = CURRENT if ready else FAILED if stalled else IN_PROGRESS
    return "" if reading(body) == meant else f"meant {meant}, reads {reading(body)}"
