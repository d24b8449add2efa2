# SPDX-License-Identifier: Apache-2.0
"""The resources of group `agentpool.dev`, version `v1alpha1`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

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


def __getattr__(name: str) -> Any:
    # A host works with the words alone: its start does not pay for the classes of the resources.
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
