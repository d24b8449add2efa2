# SPDX-License-Identifier: Apache-2.0
"""The effective configuration of a pool: what remains after manifest, environment and defaults are merged.

Hosts receive it by `Configure`, gateways read the same object. It is JSON in transit, snake_case, with
plain units: bytes, seconds, thousandths of a core.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from agentpool_core.lifecycle import Tier

MIB = 1024 * 1024


class Storage(StrEnum):
    """Where state lives."""

    REDIS = "Redis"
    MEMORY = "Memory"


class Durability(StrEnum):
    """What an acknowledged answer means."""

    RESPONSE = "Response"
    """A change is durable before its answer leaves."""
    INTERVAL = "Interval"
    """Changes are saved by timer; the last interval can be lost."""


class Network(StrEnum):
    """What a worker may reach by itself."""

    NONE = "None"
    OUTBOUND = "Outbound"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class ResourceQuota(_Frozen):
    """What one instance may use (A17); the defaults are the WARM row."""

    memory_bytes: int = 512 * MIB
    cpu_millis: int = 500
    concurrent_requests: int = 10
    requests_per_minute: int = 100


class TierConfig(_Frozen):
    """One tier of a pool. `tier` must be given (A19)."""

    tier: Tier
    max_instances: int = 100
    """Cap on owned instances of this tier over all hosts."""
    idle_seconds: int | None = 300
    """Idle longer than this: checkpointed and evicted. 0: right after use. None: never (HOT)."""
    quota: ResourceQuota = ResourceQuota()


class AgentConfig(_Frozen):
    """Which agent runs."""

    entrypoint: str
    config: Mapping[str, Any] = Field(default_factory=dict)


class WarmupConfig(_Frozen):
    """Workers forked ahead and waiting (A46)."""

    enabled: bool = True
    count: int = 5


class LimitsConfig(_Frozen):
    """Bounds of the pool and of single requests."""

    max_instances: int = 100
    min_instances: int = 2
    """Idle clean-up never leaves fewer resident instances on a host than this (B2)."""
    max_instances_per_tenant: int | None = None
    input_bytes: int = MIB
    answer_bytes: int = 4 * MIB
    state_bytes: int = 8 * MIB
    creation_timeout_seconds: float = 30.0
    request_timeout_seconds: float = 60.0


class CheckpointConfig(_Frozen):
    """How state is kept."""

    storage: Storage = Storage.REDIS
    durability: Durability = Durability.RESPONSE
    interval_seconds: float = 60.0


class IsolationConfig(_Frozen):
    """What keeps workers apart."""

    required: tuple[str, ...] = ()
    """Names of guards without which no instance starts."""
    network: Network = Network.NONE
    subprocesses: bool = False


class EffectivePool(_Frozen):
    """The whole effective configuration of one pool."""

    namespace: str
    name: str
    uid: str
    generation: int
    enabled: bool = True
    agent: AgentConfig
    default_tier: Tier = Tier.WARM
    tiers: Mapping[Tier, TierConfig]
    instances_per_host: int = 50
    """How many instances one shared host holds before the least recently used idle one is evicted."""
    warmup: WarmupConfig = WarmupConfig()
    limits: LimitsConfig = LimitsConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    isolation: IsolationConfig = IsolationConfig()

    def tier(self, tier: Tier) -> TierConfig:
        """The configuration of one tier."""
        return self.tiers[tier]
