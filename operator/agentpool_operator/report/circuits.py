# SPDX-License-Identifier: Apache-2.0
"""Open circuit breakers, as hosts report them: a condition of instance and pool, and words for an Event.

A breaker may open and close often. So an instance says that it is closed only when that lasts, trials are not
told at all, and of a pool it counts as a number does: written when there is time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from agentpool_operator.plan.views import RESIDENT, BreakerView, HostView, seconds
from agentpool_operator.report.conditions import Condition, Problem
from agentpool_operator.report.failures import some_of

CIRCUIT_OPEN = "CircuitOpen"
CIRCUITS_OPEN = "CircuitsOpen"
SETTLED_SECONDS = 60.0
"""Closed for so long, or opened so long ago, it is told as closed: at most two writes a minute each."""
_WORDS = (
    "Requests of the instance failed in a row, and further ones are refused for a time. Check what its agent"
    " calls: whether its model provider can be reached, and whether limits.requestTimeoutSeconds suffices."
)


def _before(status: Mapping[str, Any]) -> Mapping[str, Any]:
    return next((one for one in status.get("conditions") or () if one.get("type") == CIRCUIT_OPEN), {})


def lingers(before: Mapping[str, Any], breaker: BreakerView | None, now: float) -> float:
    """How many seconds longer an instance that was told to be open is told so, although it is closed."""
    past = _before(before)
    if breaker is not None or past.get("status") != "True":
        return 0.0
    return max(0.0, seconds(past.get("lastTransitionTime")) + SETTLED_SECONDS - now)


def circuit(
    before: Mapping[str, Any], breaker: BreakerView | None, resident: bool, now: float
) -> list[Condition]:
    """CircuitOpen; only on an instance whose breaker ever opened."""
    if breaker is not None or lingers(before, breaker, now) > 0:
        return [Condition(CIRCUIT_OPEN, True, "RequestsFailed", _WORDS)]
    if not _before(before):
        return []
    if not resident:
        return [Condition(CIRCUIT_OPEN, None, "NotResident", "Its next host tells.")]
    return [Condition(CIRCUIT_OPEN, False, "Closed")]


def circuit_only(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether two statuses of an instance differ in nothing but its breaker, whose writing may be put off."""

    def rest(status: Mapping[str, Any]) -> dict[str, Any]:
        others = [one for one in status.get("conditions") or () if one.get("type") != CIRCUIT_OPEN]
        return {**status, "conditions": others}

    return rest(before) == rest(after)


def circuit_change(before: Mapping[str, Any], breaker: BreakerView | None) -> Problem | None:
    """The words of an Event, when a breaker is open that was not told to be."""
    if breaker is None or _before(before).get("status") == "True":
        return None
    return Problem(CIRCUIT_OPEN, _WORDS)


def circuits(hosts: Iterable[HostView]) -> Condition:
    """The pool's condition CircuitsOpen."""
    opened = [
        one.id
        for host in hosts
        for one in host.instances.values()
        if one.breaker is not None and one.state in RESIDENT
    ]
    if not opened:
        return Condition(CIRCUITS_OPEN, False, "NoneOpen")
    return Condition(
        CIRCUITS_OPEN, True, "RequestsFailed", f"{len(opened)} instances refuse requests: {some_of(opened)}."
    )
