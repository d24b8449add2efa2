# SPDX-License-Identifier: Apache-2.0
"""`AgentInstance`: one tenant's project in a pool, declared by a user."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from agentpool_core.api.v1alpha1.choices import Criticality, WantedState
from agentpool_core.api.v1alpha1.forms import Identifier, Label
from agentpool_core.api.v1alpha1.meta import Part, Resource
from agentpool_core.api.v1alpha1.status import AgentInstanceStatus
from agentpool_core.lifecycle import Tier


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
