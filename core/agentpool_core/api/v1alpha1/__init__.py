# SPDX-License-Identifier: Apache-2.0
"""The resources of group `agentpool.dev`, version `v1alpha1`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentpool_core.api.v1alpha1.choices import (
    Affinity,
    BalancingStrategy,
    Criticality,
    Durability,
    Network,
    PullPolicy,
    ScalingMode,
    Storage,
    TieringMode,
    WantedState,
)
from agentpool_core.later import later

if TYPE_CHECKING:
    from agentpool_core.api.v1alpha1.agentinstance import AgentInstance, AgentInstanceSpec
    from agentpool_core.api.v1alpha1.agentpool import AgentPool, AgentPoolSpec, ResourcesSpec
    from agentpool_core.api.v1alpha1.meta import API_VERSION, GROUP, VERSION, ObjectMeta
    from agentpool_core.api.v1alpha1.status import AgentInstanceStatus, AgentPoolStatus

__all__ = [
    "API_VERSION",
    "GROUP",
    "VERSION",
    "Affinity",
    "AgentInstance",
    "AgentInstanceSpec",
    "AgentInstanceStatus",
    "AgentPool",
    "AgentPoolSpec",
    "AgentPoolStatus",
    "BalancingStrategy",
    "Criticality",
    "Durability",
    "Network",
    "ObjectMeta",
    "PullPolicy",
    "ResourcesSpec",
    "ScalingMode",
    "Storage",
    "TieringMode",
    "WantedState",
]

_LATER = {
    "API_VERSION": "meta",
    "GROUP": "meta",
    "VERSION": "meta",
    "AgentInstance": "agentinstance",
    "AgentInstanceSpec": "agentinstance",
    "AgentInstanceStatus": "status",
    "AgentPool": "agentpool",
    "AgentPoolSpec": "agentpool",
    "AgentPoolStatus": "status",
    "ObjectMeta": "meta",
    "ResourcesSpec": "agentpool",
}

__getattr__ = later(__name__, _LATER)
