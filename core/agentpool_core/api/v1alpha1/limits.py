# SPDX-License-Identifier: Apache-2.0
"""Bounds of a pool, of what waits in it, and when a failing instance is left in peace."""

from __future__ import annotations

from pydantic import Field, model_validator

from agentpool_core.api.problems import BadValue
from agentpool_core.api.v1alpha1.fields import Number, Positive, Seconds, Switch, Wait
from agentpool_core.api.v1alpha1.meta import Part


class LimitsSpec(Part):
    """Bounds of the pool and of single requests."""

    max_instances: Positive | None = Field(
        default=None, description="Resident instances of all tiers together, a cap at run time."
    )
    min_instances: Number | None = Field(
        default=None, description="Idle clean-up leaves at least this many resident instances on a host."
    )
    max_instances_per_tenant: Positive | None = Field(
        default=None, description="Resident instances of one tenant; unset: no such cap."
    )
    input_bytes: Positive | None = Field(default=None, description="Largest input of a request, in bytes.")
    answer_bytes: Positive | None = Field(default=None, description="Largest answer, in bytes.")
    state_bytes: Positive | None = Field(default=None, description="Largest state of an instance, in bytes.")
    creation_timeout_seconds: Seconds | None = Field(
        default=None, description="Time for an agent's constructor, setup and restore."
    )
    request_timeout_seconds: Seconds | None = Field(
        default=None, description="Time for a request that brings no deadline of its own."
    )
    queue_length: Number | None = Field(
        default=None,
        description="Requests of one instance that may wait for a permit; more answer 429. 0: none.",
    )
    queue_seconds: Wait | None = Field(
        default=None,
        description="How long a request waits for a permit, or for room in a full pool; 0: not at all.",
    )
    capacity_queue_length: Number | None = Field(
        default=None,
        description="Requests that may wait at one gateway for a host that takes their instance; 0: none.",
    )
    capacity_seconds: Wait | None = Field(
        default=None,
        description="How long a request waits for a host that takes its instance; 0: not at all.",
    )


class CircuitBreakerSpec(Part):
    """When requests of an instance that fails again and again are refused without being tried."""

    enabled: Switch | None = Field(default=None, description="False: every request is tried.")
    failure_threshold: Positive | None = Field(
        default=None, description="Requests that fail in a row before the breaker opens."
    )
    reset_timeout_seconds: Seconds | None = Field(
        default=None, description="How long it stays open before trials; doubled each time that one fails."
    )
    half_open_max_requests: Positive | None = Field(
        default=None, description="Trials at one time, and successes in a row that close it."
    )
    max_reset_timeout_seconds: Seconds | None = Field(
        default=None, description="The longest time that it stays open."
    )

    @model_validator(mode="after")
    def _times_agree(self) -> CircuitBreakerSpec:
        first, longest = self.reset_timeout_seconds, self.max_reset_timeout_seconds
        if first is not None and longest is not None and longest < first:
            raise BadValue(
                f"found {longest:g}, less than circuitBreaker.resetTimeoutSeconds {first:g}",
                remedy=f"Set it to {first:g} or more, or lower spec.circuitBreaker.resetTimeoutSeconds.",
                path=("maxResetTimeoutSeconds",),
            )
        return self
