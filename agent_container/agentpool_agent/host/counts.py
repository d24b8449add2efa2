# SPDX-License-Identifier: Apache-2.0
"""What one host counts of its work: plain numbers, written by its event loop."""

from __future__ import annotations

from collections import Counter

from agentpool_agent.host.laps import Laps
from agentpool_core.errors import BY_CODE
from agentpool_rpc.metrics import Distributions

STORE_BUCKETS = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 3.0)
"""Seconds; the last one is the store's own time-out."""
SIZE_BUCKETS = (256, 1024, 4096, 16_384, 65_536, 262_144, 1_048_576, 4_194_304, 16_777_216)
"""Bytes, from a counter to the largest state that a pool may allow."""
SUCCESS, CANCELLED, OTHER = "success", "cancelled", "Other"


class HostCounts:
    """The numbers, as the families that Prometheus is shown."""

    def __init__(self) -> None:
        self.statuses: Counter[str] = Counter()
        self.store_failures: Counter[str] = Counter()
        self.requests = Distributions(
            "agent_pool_host_request_seconds", "Time from a request's arrival at the host to its end."
        )
        self.activations = Distributions(
            "agent_pool_host_activation_seconds",
            "Time to make an instance resident; kind: new, restored (from saved state).",
            ("kind",),
        )
        self.stages = Distributions(
            "agent_pool_host_activation_stage_seconds",
            "Steps of an activation: claim, turn, load, worker, setup, restore.",
            ("stage",),
        )
        self.store_calls = Distributions(
            "agent_pool_host_store_call_seconds",
            "Time of a call of the store, its waits included.",
            ("operation",),
            STORE_BUCKETS,
        )
        self.checkpoint_bytes = Distributions(
            "agent_pool_host_checkpoint_bytes",
            "Bytes of the changed parts in one checkpoint, before they are packed.",
            bounds=SIZE_BUCKETS,
        )
        self.checkpoint_seconds = Distributions(
            "agent_pool_host_checkpoint_seconds",
            "Time until a checkpoint was durable or given up, its waits for an earlier one included.",
        )
        self._request = self.requests.child()
        self._bytes, self._seconds = self.checkpoint_bytes.child(), self.checkpoint_seconds.child()

    @property
    def families(self) -> tuple[Distributions, ...]:
        """All histograms."""
        return (
            self.requests,
            self.activations,
            self.stages,
            self.store_calls,
            self.checkpoint_bytes,
            self.checkpoint_seconds,
        )

    def request_ended(self, status: str, seconds: float) -> None:
        """A request ended; `status` is success, cancelled, or an error's code."""
        known = status in BY_CODE or status in (SUCCESS, CANCELLED)
        self.statuses[status if known else OTHER] += 1
        self._request.observe(seconds)

    def activated(self, laps: Laps, *, restored: bool) -> None:
        """An instance became resident."""
        self.activations.observe(laps.ended - laps.began, "restored" if restored else "new")
        for stage, began, ended in laps:
            self.stages.observe(ended - began, stage.value)

    def store_called(self, operation: str, seconds: float, silent: bool) -> None:
        """The store was asked; `silent`: it did not answer."""
        self.store_calls.observe(seconds, operation)
        if silent:
            self.store_failures[operation] += 1

    def checkpointed(self, size: int, seconds: float) -> None:
        """A checkpoint was made durable, or given up."""
        self._bytes.observe(size)
        self._seconds.observe(seconds)
