# SPDX-License-Identifier: Apache-2.0
"""The classes of the effective configuration; their defaults are the product's."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from agentpool_core.api.v1alpha1 import Durability, Network, Storage, TieringMode
from agentpool_core.api.v1alpha1.forms import Identifier
from agentpool_core.config.balancing import BalancingConfig
from agentpool_core.config.flags import FlagConfig
from agentpool_core.config.scaling import ScalingConfig
from agentpool_core.errors import InvalidRequest
from agentpool_core.lifecycle import Tier
from agentpool_core.resilience import BreakerPolicy

MIB = 1024 * 1024


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class ResourceQuota(_Frozen):
    """What one instance may use (A17); the defaults are the WARM row."""

    memory_bytes: int = 512 * MIB
    cpu_millis: int = 500
    concurrent_requests: int = 10
    requests_per_minute: int = 100


QUOTAS: Mapping[Tier, ResourceQuota] = MappingProxyType(
    {
        Tier.HOT: ResourceQuota(
            memory_bytes=2048 * MIB, cpu_millis=1000, concurrent_requests=50, requests_per_minute=1000
        ),
        Tier.WARM: ResourceQuota(),
        Tier.COLD: ResourceQuota(
            memory_bytes=256 * MIB, cpu_millis=250, concurrent_requests=5, requests_per_minute=30
        ),
    }
)
"""The default quota of each tier (A7, A10, A13)."""


class TierConfig(_Frozen):
    """One tier of a pool. `tier` must be given (A19); without it, InvalidRequest."""

    tier: Tier
    max_instances: int = 100
    """Cap on owned instances of this tier over all hosts."""
    idle_seconds: int | None = 300
    """Idle longer than this: checkpointed and evicted. 0: right after use. None: never (HOT)."""
    quota: ResourceQuota = ResourceQuota()

    @model_validator(mode="before")
    @classmethod
    def _tier_is_given(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and "tier" not in data:
            raise InvalidRequest(
                "A tier configuration needs its tier.", remedy="Give tier: HOT, WARM or COLD."
            )
        return data


class InstanceConfig(_Frozen):
    """Whose an instance is (A20), and the tier it should have; None: the pool's default."""

    tenant_id: Identifier
    project_id: Identifier
    tier: Tier | None = None


class AgentConfig(_Frozen):
    """Which agent runs."""

    entrypoint: str
    config: Mapping[str, Any] = Field(default_factory=dict)


class WarmupConfig(_Frozen):
    """Workers forked ahead and waiting (A46)."""

    enabled: bool = True
    count: int = 5
    max_count: int | None = None
    """Generic pods wait up to this many while first requests come; None: always `count`."""


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
    queue_length: int = 10
    """As many as the WARM tier has permits: one more round of what is being done."""
    queue_seconds: float = 1.0
    """As long as a polite client would wait after a refusal, without the round trip. 0: not at all."""
    capacity_queue_length: int = 200
    capacity_seconds: float = 15.0
    """A pod that is made on demand is there by then, also on a node that is busy with starting many."""


class CheckpointConfig(_Frozen):
    """How state is kept."""

    storage: Storage = Storage.REDIS
    durability: Durability = Durability.RESPONSE
    interval_seconds: float = 60.0
    retention_seconds: int | None = None
    """State that nobody held for so long is removed; None: never."""


class HealthConfig(_Frozen):
    """How hosts look after their workers (A45)."""

    interval_seconds: float = 30.0
    timeout_seconds: float = 10.0
    """A worker that does not answer for so long is taken for hung."""


class RecoveryConfig(_Frozen):
    """What happens to an instance that fails (A34-A38)."""

    enabled: bool = True
    """False: a failed instance stays in ERROR until its user resumes it."""
    max_failures_per_hour: int = 5
    """With more of them, whatever their cause, an instance is left alone and its owners are told."""
    pattern_window_minutes: int = 60
    """How far back failures of one cause make a pattern."""


class CircuitBreakerConfig(_Frozen):
    """When requests of a failing instance are refused (A42); see `agentpool_core.resilience`."""

    enabled: bool = True
    failure_threshold: int = 5
    reset_timeout_seconds: float = 30.0
    half_open_max_requests: int = 3
    max_reset_timeout_seconds: float = 600.0

    @property
    def policy(self) -> BreakerPolicy:
        """For the breakers themselves."""
        return BreakerPolicy(**dict(self))


class TieringConfig(_Frozen):
    """How the tier of an instance follows its traffic (A15); see `agentpool_core.classifier`."""

    mode: TieringMode = TieringMode.MANUAL
    hot_requests_per_minute: int = 60
    """Below the WARM tier's quota of requests: what is refused for its rate does not count."""
    cold_idle_minutes: int = 30
    min_stay_seconds: float = 600.0


class IsolationConfig(_Frozen):
    """What keeps workers apart."""

    required: tuple[str, ...] = ()
    """Names of guards without which no instance starts."""
    network: Network = Network.NONE
    subprocesses: bool = False


def _tiers() -> dict[Tier, TierConfig]:
    return {
        tier: TierConfig(tier=tier, quota=quota, idle_seconds=None if tier is Tier.HOT else 300)
        for tier, quota in QUOTAS.items()
    }


class PoolConfig(_Frozen):
    """The settings of a pool; every one has a default (A18)."""

    enabled: bool = True
    """What the flag agent_pool_enabled is where nothing sets it; False: one-shot instances serve requests."""
    default_tier: Tier = Tier.WARM
    tiers: Mapping[Tier, TierConfig] = Field(default_factory=_tiers)
    warm_replicas: int = 2
    """Shared pods; unset and with storage Memory: 1, for no other pod sees the state."""
    instances_per_host: int = 50
    """How many instances one shared host holds before the least recently used idle one is evicted."""
    warmup: WarmupConfig = WarmupConfig()
    limits: LimitsConfig = LimitsConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    health: HealthConfig = HealthConfig()
    recovery: RecoveryConfig = RecoveryConfig()
    circuit_breaker: CircuitBreakerConfig = CircuitBreakerConfig()
    tiering: TieringConfig = TieringConfig()
    balancing: BalancingConfig = BalancingConfig()
    scaling: ScalingConfig = ScalingConfig()
    isolation: IsolationConfig = IsolationConfig()
    feature_flags: tuple[FlagConfig, ...] = ()

    def tier(self, tier: Tier) -> TierConfig:
        """The configuration of one tier."""
        return self.tiers[tier]


class EffectivePool(PoolConfig):
    """The whole effective configuration of one pool."""

    namespace: str
    name: str
    uid: str
    generation: int
    agent: AgentConfig
