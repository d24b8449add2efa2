# SPDX-License-Identifier: Apache-2.0
"""What the pods of a pool bear, on one scale: 1 is all that they can, whatever is measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Signal(StrEnum):
    """What asks for pods, in the order in which a tie is told."""

    CPU = "Cpu"
    """CPU of the workers against their limit or request, or of the host against one core."""
    MEMORY = "Memory"
    """Memory of the workers against their limit."""
    QUEUE = "Queue"
    """Waiting requests against `targetQueueDepth`, or those at work against all permits."""
    LATENCY = "Latency"
    """99th percentile of the last minute against `targetLatencyMilliseconds`."""
    OCCUPANCY = "Occupancy"
    """Resident instances against `instancesPerReplica`."""
    ARRIVALS = "Arrivals"
    """CPU that present and expected arrivals need, from what a request was seen to need."""


@dataclass(frozen=True, slots=True)
class ReplicaLoad:
    """What one pod bears; shares of what it can, None: not known.

    Attributes:
        latency: None also when nobody asked lately, or there is no target.
        arrivals, completions: requests per second.
    """

    cpu: float | None
    memory: float | None
    queue: float | None
    occupancy: float | None
    latency: float | None = None
    arrivals: float = 0.0
    completions: float = 0.0

    @property
    def complete(self) -> bool:
        """Whether everything that a smaller number of pods is judged by is known."""
        return None not in (self.cpu, self.memory, self.queue, self.occupancy)


@dataclass(frozen=True, slots=True)
class Weight:
    """One signal of all pods together.

    Attributes:
        total: the sum over the pods; shared by any number of pods, it is the share of each.
        share: the mean.
    """

    total: float
    share: float


def pods_for(total: float, target: float) -> int:
    """How many pods bear `total` at `target` each."""
    # Sums of floats miss whole numbers by a hair.
    return math.ceil(total / target - 1e-9)


_LINEAR: dict[Signal, Callable[[ReplicaLoad], float | None]] = {
    Signal.CPU: lambda one: one.cpu,
    Signal.MEMORY: lambda one: one.memory,
    Signal.QUEUE: lambda one: one.queue,
    Signal.OCCUPANCY: lambda one: one.occupancy,
}


def weights(loads: Sequence[ReplicaLoad]) -> dict[Signal, Weight]:
    """The signals that are known. One that some pods lack is taken as their mean on the others."""
    found = {}
    for signal, of in _LINEAR.items():
        known = [value for one in loads if (value := of(one)) is not None]
        if known:
            mean = sum(known) / len(known)
            found[signal] = Weight(mean * len(loads), mean)
    asked = [(one.latency, one.completions) for one in loads if one.latency is not None]
    if asked:
        # Percentiles cannot be merged; weighted by requests, one slow tenant on one pod is not the pool.
        requests = sum(number for _, number in asked)
        weighted = [value * (number / requests if requests else 1 / len(asked)) for value, number in asked]
        found[Signal.LATENCY] = Weight(sum(weighted) * len(loads), sum(weighted))
    return found
