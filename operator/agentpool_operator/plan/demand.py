# SPDX-License-Identifier: Apache-2.0
"""How many pods should wait: as many as are likely to be taken before new ones have started.

The rule: while a pod starts, as many are taken as were in the same time before; twice that number is kept,
for takes do not come evenly. Between `warmup.count` and `warmup.maxCount` the number rises at once and falls
by half in five minutes, so that a lull between two bursts does not undo what the first one taught.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

from agentpool_core.cluster import ROLE_WARM
from agentpool_operator.plan.views import PodView

MARGIN = 2.0
LEAST_HORIZON_SECONDS = 10.0
"""Pods that start faster than half of this are not counted on to: one slow start would refuse requests."""
MOST_HORIZON_SECONDS = 240.0
HALF_LIFE_SECONDS = 300.0
START_SECONDS = 5.0
"""Of a pod, before any was seen to start."""
REMEMBERED = 1024
"""Takes that are remembered; more within one horizon make no difference to any pool."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What is known of takes.

    Attributes:
        level: how many pods should wait, not rounded.
        at: when that was found, seconds since 1970.
        takes: when pods were taken, the oldest first, as far back as they count.
    """

    level: float = 0.0
    at: float = 0.0
    takes: tuple[float, ...] = ()


def start_seconds(pods: Sequence[PodView]) -> float:
    """How long a pod of one instance takes to be ready after its creation, as those that are there tell."""
    found = [
        pod.ready_at - pod.created_at
        for pod in pods
        if pod.role != ROLE_WARM and pod.ready_at > pod.created_at > 0
    ]
    return median(found) if found else START_SECONDS


def horizon_seconds(start: float) -> float:
    """The time whose takes are counted, for pods that start in `start` seconds."""
    return min(max(start * MARGIN, LEAST_HORIZON_SECONDS), MOST_HORIZON_SECONDS)


def after(demand: Demand, taken: int, start: float, now: float) -> Demand:
    """The demand once `taken` more pods were taken, just now."""
    since = now - horizon_seconds(start)
    takes = tuple(at for at in (*demand.takes, *([now] * taken)) if at > since)[-REMEMBERED:]
    passed = max(0.0, now - demand.at)
    faded = demand.level * 0.5 ** (passed / HALF_LIFE_SECONDS)
    return replace(demand, level=max(faded, float(len(takes))), at=now, takes=takes)


def standby(demand: Demand, least: int, most: int) -> int:
    """How many pods are to wait: the demand, within the bounds that the pool sets."""
    return max(least, min(math.ceil(demand.level - 0.5), most))


def falls_after(demand: Demand, least: int, most: int) -> float | None:
    """Seconds until time alone makes `standby` smaller; None: never."""
    present = standby(demand, least, most)
    if present <= least:
        return None
    return max(1.0, HALF_LIFE_SECONDS * math.log2(demand.level / (present - 0.5)))
