# SPDX-License-Identifier: Apache-2.0
"""What the operator reports: `status` of AgentPool and AgentInstance, in the form of Kubernetes' conventions.

Models of the schema alone: reports are written as plain objects, and what an older operator does not know
is kept.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final

from pydantic import Field

from agentpool_core.api.v1alpha1.meta import Part
from agentpool_core.api.v1alpha1.scaling import ScalingStatus
from agentpool_core.lifecycle import State, Tier

ATOMIC: Final[dict[str, Any]] = {"x-kubernetes-map-type": "atomic"}
"""Replaced as a whole. Merged key by key, a map whose last key is no longer applied becomes null, which the
schema refuses: the status could never be written again."""


class ConditionStatus(StrEnum):
    """Whether a condition holds."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Condition(Part):
    """One observation about an object, with its reason."""

    type: str = Field(description="What is observed, an adjective such as Ready.")
    status: ConditionStatus = Field(description="True, False or Unknown.")
    reason: str = Field(description="Why, one CamelCase word that programs may rely on.")
    message: str = Field(description="Why, for people, and what to do about it.")
    last_transition_time: str = Field(description="When status last changed, RFC 3339.")
    observed_generation: int = Field(description="Generation of the object that this was observed for.")


class GenericStatus(Part):
    """The pods that wait for an instance of their own."""

    wanted: int = Field(description="Pods that are to wait.")
    ready: int = Field(description="Pods that wait and take an instance at once.")


class AgentPoolStatus(Part):
    """What is observed of a pool."""

    observed_generation: int | None = Field(
        default=None, description="Generation of the spec that the rest was observed for."
    )
    conditions: tuple[Condition, ...] | None = Field(
        default=None,
        description="Ready, Reconciling, Stalled, and what else is worth knowing, each with a reason.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    effective: dict[str, Any] | None = Field(
        default=None,
        description="The configuration in force: defaults and environment included, plain units.",
        json_schema_extra={"x-kubernetes-preserve-unknown-fields": True, **ATOMIC},
    )
    replicas: int | None = Field(default=None, description="Shared pods of the WARM tier.")
    ready_replicas: int | None = Field(
        default=None, description="Shared pods of the WARM tier that are ready."
    )
    selector: str | None = Field(default=None, description="Label selector of the shared pods, for scalers.")
    scaling: ScalingStatus | None = Field(default=None, description="What automatic scaling does.")
    generic: GenericStatus | None = Field(
        default=None, description="Pods that wait for a COLD or suddenly HOT instance."
    )
    resident: int | None = Field(default=None, description="Instances that have a process now.")
    instances: dict[Tier, dict[State, int]] | None = Field(
        default=None,
        description="Instances that the hosts hold, by tier and state; may lag by seconds.",
        json_schema_extra=ATOMIC,
    )
    store_generation: str | None = Field(
        default=None, description="Name of the store's data; another one means that data was lost."
    )


class AgentInstanceStatus(Part):
    """What is observed of an instance."""

    observed_generation: int | None = Field(
        default=None, description="Generation of the spec that the rest was observed for."
    )
    conditions: tuple[Condition, ...] | None = Field(
        default=None,
        description="Ready, Reconciling and Stalled, each with a reason.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    id: str | None = Field(default=None, description="Id of the instance in the gateway's API.")
    state: State | None = Field(
        default=None, description="State of its lifecycle; BUSY only when it was held for ten seconds."
    )
    reason: str | None = Field(default=None, description="Why it is PAUSED or in ERROR.")
    tier: Tier | None = Field(default=None, description="Tier it has.")
    pod: str | None = Field(default=None, description="Pod that holds it; empty when none does.")
    epoch: int | None = Field(default=None, description="Fencing number of its present ownership.")
    isolation: tuple[str, ...] | None = Field(default=None, description="Guards around its process.")
