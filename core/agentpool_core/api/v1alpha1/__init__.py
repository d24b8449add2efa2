# SPDX-License-Identifier: Apache-2.0
"""The resources of group `agentpool.dev`, version `v1alpha1`."""

from agentpool_core.api.v1alpha1.agentinstance import (
    AgentInstance,
    AgentInstanceSpec,
    Criticality,
    WantedState,
)
from agentpool_core.api.v1alpha1.agentpool import (
    AgentPool,
    AgentPoolSpec,
    Durability,
    Network,
    PullPolicy,
    ResourcesSpec,
    Storage,
    TieringMode,
)
from agentpool_core.api.v1alpha1.balancing import Affinity, BalancingStrategy
from agentpool_core.api.v1alpha1.meta import API_VERSION, GROUP, VERSION, ObjectMeta
from agentpool_core.api.v1alpha1.scaling import ScalingMode
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
