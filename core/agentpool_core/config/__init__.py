# SPDX-License-Identifier: Apache-2.0
"""The effective configuration of a pool: what remains after manifest, environment and defaults are merged.

Hosts receive it by `Configure`, gateways read the same object. It is JSON in transit, snake_case, with
plain units: bytes, seconds, thousandths of a core. The defaults of the classes here are the product's
defaults; there is no other table of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentpool_core.api.v1alpha1 import Durability, Network, Storage
from agentpool_core.config.balancing import BalancingConfig, WantedCapability
from agentpool_core.config.flags import (
    FlagConfig,
    FlagProject,
    FlagSchedule,
    FlagSet,
    FlagStep,
    pack_flags,
    read_flag,
    unpack_flags,
    written_flag,
)
from agentpool_core.config.models import (
    MIB,
    QUOTAS,
    AgentConfig,
    CheckpointConfig,
    CircuitBreakerConfig,
    EffectivePool,
    HealthConfig,
    InstanceConfig,
    IsolationConfig,
    LimitsConfig,
    PoolConfig,
    RecoveryConfig,
    ResourceQuota,
    TierConfig,
    TieringConfig,
    WarmupConfig,
)
from agentpool_core.config.scaling import ForecastConfig, ScalingConfig
from agentpool_core.config.variables import VARIABLES, Variable
from agentpool_core.later import later

if TYPE_CHECKING:
    from agentpool_core.config.settings import SETTINGS, Setting, resolve

__all__ = [
    "MIB",
    "QUOTAS",
    "SETTINGS",
    "VARIABLES",
    "AgentConfig",
    "BalancingConfig",
    "CheckpointConfig",
    "CircuitBreakerConfig",
    "Durability",
    "EffectivePool",
    "FlagConfig",
    "FlagProject",
    "FlagSchedule",
    "FlagSet",
    "FlagStep",
    "ForecastConfig",
    "HealthConfig",
    "InstanceConfig",
    "IsolationConfig",
    "LimitsConfig",
    "Network",
    "PoolConfig",
    "RecoveryConfig",
    "ResourceQuota",
    "ScalingConfig",
    "Setting",
    "Storage",
    "TierConfig",
    "TieringConfig",
    "Variable",
    "WantedCapability",
    "WarmupConfig",
    "pack_flags",
    "read_flag",
    "resolve",
    "unpack_flags",
    "written_flag",
]

_LATER = {"SETTINGS": "settings", "Setting": "settings", "resolve": "settings"}

__getattr__ = later(__name__, _LATER)
