# SPDX-License-Identifier: Apache-2.0
"""`AgentInstance`: one tenant's project in a pool, declared by a user."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from pydantic import Field

from agentpool_core.api.v1alpha1.meta import Identifier, Label, Part, Resource
from agentpool_core.api.v1alpha1.status import AgentInstanceStatus
from agentpool_core.lifecycle import Tier


class WantedState(StrEnum):
    """What a user wants of a declared instance."""

    RUNNING = "Running"
    """Takes requests; resumed when it was paused."""
    PAUSED = "Paused"
    """Holds no process; its state is kept."""
    TERMINATED = "Terminated"
    """Ended and erased, for good."""


class Criticality(StrEnum):
    """How much depends on an instance."""

    HIGH = "High"
    """HOT, whatever its traffic is."""
    NORMAL = "Normal"
    """As its traffic says."""
    LOW = "Low"
    """As its traffic says, but never HOT."""


class AgentInstanceSpec(Part):
    """What is wanted of one instance. Pool, tenant and project never change."""

    pool: Label = Field(description="Name of the AgentPool, in the same namespace.")
    tenant: Identifier = Field(description="Id of the tenant, 1 to 253 printable characters.")
    project: Identifier = Field(description="Id of the tenant's project, 1 to 253 printable characters.")
    tier: Tier | None = Field(default=None, description="HOT, WARM or COLD; unset: the pool's defaultTier.")
    criticality: Criticality | None = Field(
        default=None,
        description="High, Normal or Low, for a pool whose tiering.mode is Automatic; unset: Normal."
        " A tier that is set wins.",
    )
    state: WantedState | None = Field(
        default=None, description="Running, Paused or Terminated; unset: REST and idle times decide."
    )


class AgentInstance(Resource):
    """One declared instance."""

    KIND: ClassVar[str] = "AgentInstance"
    STATUS: ClassVar[type[Part]] = AgentInstanceStatus

    spec: AgentInstanceSpec
