# SPDX-License-Identifier: Apache-2.0
"""The effective configuration of automatic scaling; the defaults are the product's (A39, A41, X2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from agentpool_core.api.v1alpha1 import ScalingMode
from agentpool_core.errors import InvalidRequest


class ForecastConfig(BaseModel):
    """Scaling to the arrivals that are to be expected."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    enabled: bool = True
    horizon_seconds: float = 60.0
    """How far ahead: about as long as a new pod takes to serve."""


class ScalingConfig(BaseModel):
    """How the number of shared pods follows their load; see `agentpool_core.scaling`."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    enabled: bool = False
    mode: ScalingMode = ScalingMode.AUTOMATIC
    min_replicas: int = 2
    max_replicas: int = 20
    scale_up_threshold: float = 0.8
    scale_down_threshold: float = 0.3
    cooldown_seconds: float = 300.0
    stabilization_seconds: float = 300.0
    """The load has to stay low for so long before there are fewer pods."""
    target_latency_milliseconds: float | None = None
    """99 of 100 requests are to end within it; None: latency is no reason to scale."""
    target_queue_depth: float = 10.0
    """Requests that may wait on one pod."""
    forecast: ForecastConfig = ForecastConfig()

    @property
    def active(self) -> bool:
        """Whether the operator chooses the number."""
        return self.enabled and self.mode is ScalingMode.AUTOMATIC


def settle(merged: Mapping[str, Any], explicit: bool, memory: bool) -> dict[str, Any]:
    """The merged settings of scaling once they are known to agree; raises InvalidRequest.

    A number in the manifest is its author's choice: a variable that switches scaling on for all pools does
    not reach that pool, nor one whose state lives in the memory of its one pod. A manifest that switches it
    on itself with either is refused before.

    Args:
        explicit: the manifest has tiers.warm.replicas.
        memory: state lives in a pod's memory.
    """
    least, most = merged["min_replicas"], merged["max_replicas"]
    if least > most:
        raise InvalidRequest(
            f"scaling.minReplicas is {least}, more than scaling.maxReplicas, which is {most}.",
            remedy="Set both, the first not above the second.",
            details={"field": "spec.scaling.minReplicas"},
        )
    down, up = merged["scale_down_threshold"], merged["scale_up_threshold"]
    if down >= up:
        raise InvalidRequest(
            f"scaling.scaleDownThreshold is {down:g}, not below scaling.scaleUpThreshold, which is {up:g}.",
            remedy="Set both, or AGENT_POOL_SCALE_DOWN_THRESHOLD and AGENT_POOL_SCALE_UP_THRESHOLD.",
            details={"field": "spec.scaling.scaleDownThreshold"},
        )
    automatic = merged["mode"] is ScalingMode.AUTOMATIC
    return {**merged, "enabled": merged["enabled"] and not (automatic and (explicit or memory))}
