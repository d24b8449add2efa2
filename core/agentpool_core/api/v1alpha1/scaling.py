# SPDX-License-Identifier: Apache-2.0
"""`spec.scaling` and `status.scaling`: how many shared pods a pool has, and why."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from agentpool_core.api.problems import BadValue
from agentpool_core.api.v1alpha1.choices import ScalingMode
from agentpool_core.api.v1alpha1.meta import Part

Replicas = Annotated[int, Field(strict=True, ge=1)]
Share = Annotated[float, Field(strict=True, gt=0, le=1)]
Seconds = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
Amount = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
Switch = Annotated[bool, Field(strict=True)]


class ForecastSpec(Part):
    """Scaling to the arrivals that are to be expected."""

    enabled: Switch | None = Field(
        default=None, description="Whether the arrivals of the last minutes are followed into the future."
    )
    horizon_seconds: Amount | None = Field(
        default=None, description="How far ahead: about as long as a new pod takes to serve."
    )


class ScalingSpec(Part):
    """How the number of shared pods follows their load."""

    enabled: Switch | None = Field(default=None, description="Whether the number follows the load.")
    mode: ScalingMode | None = Field(
        default=None,
        description="Automatic: the operator chooses. External: tiers.warm.replicas rules, for kubectl scale,"
        " a HorizontalPodAutoscaler or KEDA.",
    )
    min_replicas: Replicas | None = Field(default=None, description="The fewest shared pods.")
    max_replicas: Replicas | None = Field(default=None, description="The most shared pods.")
    scale_up_threshold: Share | None = Field(
        default=None, description="Above this share of what its pods can bear, a pool gets more."
    )
    scale_down_threshold: Share | None = Field(
        default=None, description="Below this share, and for stabilizationSeconds, a pool gets fewer."
    )
    cooldown_seconds: Seconds | None = Field(
        default=None, description="Time after an action before the next; see the how-to for the exception."
    )
    stabilization_seconds: Seconds | None = Field(
        default=None, description="So long the load has to stay low before there are fewer pods."
    )
    target_latency_milliseconds: Amount | None = Field(
        default=None,
        description="99 of 100 requests are to end within this time; unset: latency is no reason to scale.",
    )
    target_queue_depth: Amount | None = Field(
        default=None, description="Requests that may wait on each shared pod."
    )
    forecast: ForecastSpec | None = Field(default=None, description="Scaling to expected arrivals.")

    @model_validator(mode="after")
    def _bounds_agree(self) -> ScalingSpec:
        least, most = self.min_replicas, self.max_replicas
        if least is not None and most is not None and least > most:
            raise BadValue(
                f"found {least}, more than scaling.maxReplicas {most}",
                remedy=f"Set it to {most} or less, or raise spec.scaling.maxReplicas.",
                path=("minReplicas",),
            )
        down, up = self.scale_down_threshold, self.scale_up_threshold
        if down is not None and up is not None and down >= up:
            raise BadValue(
                f"found {down:g}, not below scaling.scaleUpThreshold {up:g}",
                remedy=f"Set it below {up:g}, or raise spec.scaling.scaleUpThreshold.",
                path=("scaleDownThreshold",),
            )
        return self

    @property
    def chooses(self) -> bool:
        """Whether the manifest itself leaves the number to the operator."""
        return self.enabled is True and self.mode is not ScalingMode.EXTERNAL

    def check_pool(self, memory: bool, replicas: int | None) -> None:
        """Raise BadValue when the number is left to the operator in a pool that cannot have that.

        Args:
            memory: state lives in the memory of one pod.
            replicas: what tiers.warm.replicas says; None: nothing.
        """
        if self.chooses and memory:
            raise BadValue(
                "found true, and more than one pod would share no state, with checkpoint.storage Memory",
                remedy="Set spec.checkpoint.storage to Redis, or enabled to false.",
                path=("scaling", "enabled"),
            )
        if self.chooses and replicas is not None:
            raise BadValue(
                f"found {replicas} while scaling.enabled leaves the number to the operator",
                remedy="Remove it and set spec.scaling.minReplicas, or set spec.scaling.mode to External.",
                path=("tiers", "warm", "replicas"),
            )


class ScalingActionStatus(Part):
    """The last change of the number of shared pods."""

    direction: str = Field(description="Up or Down.")
    before: int = Field(description="Wanted shared pods before.")
    after: int = Field(description="Wanted shared pods since.")
    at: str = Field(description="When, RFC 3339.")
    reason: str = Field(description="The signal that asked for it: one CamelCase word.")
    message: str = Field(description="The numbers that led to it, for people.")
    loads: dict[str, float] = Field(
        description="What each signal said then: the load of the pods as a share of what they can bear.",
        json_schema_extra={"x-kubernetes-map-type": "atomic"},
    )


class ScalingStatus(Part):
    """What automatic scaling wants and did; absent without it."""

    desired_replicas: int = Field(description="Shared pods that are wanted now.")
    current_replicas: int = Field(description="Shared pods that are there.")
    last_action: ScalingActionStatus | None = Field(default=None, description="The last change.")
    cooldown_until: str | None = Field(
        default=None, description="No further action of the same direction before this time, RFC 3339."
    )
