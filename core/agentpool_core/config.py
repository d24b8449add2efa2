# SPDX-License-Identifier: Apache-2.0
"""The effective configuration of a pool: what remains after manifest, environment and defaults are merged.

Hosts receive it by `Configure`, gateways read the same object. It is JSON in transit, snake_case, with
plain units: bytes, seconds, thousandths of a core. The defaults of the classes here are the product's
defaults; there is no other table of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from agentpool_core.api.quantity import cpu_millis, memory_bytes
from agentpool_core.api.v1alpha1 import AgentPool, Durability, Network, Storage
from agentpool_core.api.v1alpha1.meta import Identifier
from agentpool_core.errors import InvalidRequest
from agentpool_core.lifecycle import Tier

__all__ = [
    "MIB",
    "QUOTAS",
    "SETTINGS",
    "VARIABLES",
    "AgentConfig",
    "CheckpointConfig",
    "Durability",
    "EffectivePool",
    "InstanceConfig",
    "IsolationConfig",
    "LimitsConfig",
    "Network",
    "PoolConfig",
    "ResourceQuota",
    "Setting",
    "Storage",
    "TierConfig",
    "Variable",
    "WarmupConfig",
    "resolve",
]

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


def _tiers() -> dict[Tier, TierConfig]:
    return {
        tier: TierConfig(tier=tier, quota=quota, idle_seconds=None if tier is Tier.HOT else 300)
        for tier, quota in QUOTAS.items()
    }


class PoolConfig(_Frozen):
    """The settings of a pool; every one has a default (A18)."""

    enabled: bool = True
    default_tier: Tier = Tier.WARM
    tiers: Mapping[Tier, TierConfig] = Field(default_factory=_tiers)
    warm_replicas: int = 2
    """Shared pods; unset and with storage Memory: 1, for no other pod sees the state."""
    instances_per_host: int = 50
    """How many instances one shared host holds before the least recently used idle one is evicted."""
    warmup: WarmupConfig = WarmupConfig()
    limits: LimitsConfig = LimitsConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    isolation: IsolationConfig = IsolationConfig()

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


@dataclass(frozen=True, slots=True)
class Variable:
    """An environment variable that stands in for an unset field.

    Attributes:
        name: name of the variable.
        form: what a value looks like, for people.
        default: the value that means the same as not setting it.
        read: the value of a text; raises ValueError.
    """

    name: str
    form: str
    default: str
    read: Callable[[str], Any]


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: where it is written, where its effective value goes, and what stands in when it is unset.

    Attributes:
        spec: camelCase path below `spec`; empty when only the variable sets it.
        target: path in `PoolConfig`.
        default: the value without manifest and environment.
        variable: name of the environment variable; None when there is none.
        convert: from the manifest's form to the effective one.
    """

    spec: str
    target: tuple[str, ...]
    default: Any
    variable: str | None = None
    convert: Callable[[Any], Any] = lambda value: value


def _switch(text: str) -> bool:
    words = {"true": True, "1": True, "false": False, "0": False}
    return words[text.lower()] if text.lower() in words else _refuse()


def _refuse() -> Any:
    raise ValueError


def _whole(least: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        value = int(text) if re.fullmatch(r"[0-9]{1,9}", text) else -1
        return value if value >= least else _refuse()

    return read


def _seconds(text: str) -> float:
    value = float(text) if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,6})?", text) else 0.0
    return value if value > 0 else _refuse()


VARIABLES: Mapping[str, Variable] = MappingProxyType(
    {
        variable.name: variable
        for variable in (
            Variable("AGENT_POOL_ENABLED", "true or false", "true", _switch),
            Variable("AGENT_POOL_MAX_INSTANCES", "a whole number from 1 up", "100", _whole(1)),
            Variable("AGENT_POOL_DEFAULT_TIER", "HOT, WARM or COLD", "WARM", lambda text: Tier(text.upper())),
            Variable("AGENT_POOL_WARMUP_COUNT", "a whole number from 0 up", "5", _whole(0)),
            Variable("AGENT_POOL_MAX_IDLE_SECONDS", "whole seconds from 0 up", "300", _whole(0)),
            Variable("AGENT_POOL_CHECKPOINT_INTERVAL", "seconds above 0", "60", _seconds),
            Variable(
                "AGENT_POOL_CHECKPOINT_STORAGE",
                "redis or memory",
                "redis",
                lambda text: Storage(text.capitalize()),
            ),
        )
    }
)
"""The environment variables of a pool (A74, A76)."""

_VARIABLE_OF = {
    "defaultTier": "AGENT_POOL_DEFAULT_TIER",
    "limits.maxInstances": "AGENT_POOL_MAX_INSTANCES",
    "warmup.count": "AGENT_POOL_WARMUP_COUNT",
    "tiers.warm.idleSeconds": "AGENT_POOL_MAX_IDLE_SECONDS",
    "tiers.cold.idleSeconds": "AGENT_POOL_MAX_IDLE_SECONDS",
    "checkpoint.intervalSeconds": "AGENT_POOL_CHECKPOINT_INTERVAL",
    "checkpoint.storage": "AGENT_POOL_CHECKPOINT_STORAGE",
}


def _settings() -> Iterator[Setting]:
    defaults = PoolConfig()
    yield Setting("", ("enabled",), defaults.enabled, "AGENT_POOL_ENABLED")
    yield _setting("defaultTier", ("default_tier",), defaults.default_tier)
    for tier, config in defaults.tiers.items():
        path, target = f"tiers.{tier.lower()}", ("tiers", tier.value)
        # None: as large as the pool's own cap.
        yield _setting(f"{path}.maxInstances", (*target, "max_instances"), None)
        if tier is Tier.WARM:
            # None: 2, or 1 where the state lives in one pod's memory.
            yield _setting(f"{path}.replicas", ("warm_replicas",), None)
            yield _setting(
                f"{path}.instancesPerReplica", ("instances_per_host",), defaults.instances_per_host
            )
        if tier is not Tier.HOT:
            yield _setting(f"{path}.idleSeconds", (*target, "idle_seconds"), config.idle_seconds)
        quota, into = config.quota, (*target, "quota")
        yield Setting(f"{path}.quota.memory", (*into, "memory_bytes"), quota.memory_bytes, None, memory_bytes)
        yield Setting(f"{path}.quota.cpu", (*into, "cpu_millis"), quota.cpu_millis, None, cpu_millis)
        for name in ("concurrent_requests", "requests_per_minute"):
            yield _setting(f"{path}.quota.{to_camel(name)}", (*into, name), getattr(quota, name))
    for section in ("warmup", "limits", "checkpoint", "isolation"):
        part = getattr(defaults, section)
        for name in type(part).model_fields:
            yield _setting(f"{section}.{to_camel(name)}", (section, name), getattr(part, name))


def _setting(spec: str, target: tuple[str, ...], default: Any) -> Setting:
    return Setting(spec, target, default, _VARIABLE_OF.get(spec))


SETTINGS: tuple[Setting, ...] = tuple(_settings())
"""Every setting of a pool, in the order of the manifest; the agent itself apart."""


def resolve(pool: AgentPool, environ: Mapping[str, str], uid: str, generation: int) -> EffectivePool:
    """Merge manifest, environment and defaults: a field wins over a variable, a variable over the default.

    An empty variable counts as unset. A variable with a bad value is refused even where a field makes it
    moot, so that a mistake shows at once: InvalidRequest names the variable and what it may be.
    """
    variables = {name: _read(VARIABLES[name], environ[name]) for name in VARIABLES if environ.get(name)}
    spec = pool.spec.model_dump(by_alias=True, exclude_none=True)
    merged: dict[str, Any] = {"tiers": {tier.value: {"tier": tier} for tier in Tier}}
    for setting in SETTINGS:
        value = _lookup(spec, setting.spec)
        if value is not None:
            value = setting.convert(value)
        elif setting.variable in variables:
            value = variables[setting.variable]
        else:
            value = setting.default
        _put(merged, setting.target, value)
    for config in merged["tiers"].values():
        if config["max_instances"] is None:
            config["max_instances"] = merged["limits"]["max_instances"]
    merged["tiers"][Tier.HOT.value]["idle_seconds"] = None
    if merged["warm_replicas"] is None:
        alone = merged["checkpoint"]["storage"] is Storage.MEMORY
        merged["warm_replicas"] = 1 if alone else PoolConfig().warm_replicas
    return EffectivePool(
        namespace=pool.metadata.namespace,
        name=pool.metadata.name,
        uid=uid,
        generation=generation,
        agent=AgentConfig(entrypoint=pool.spec.agent.entrypoint, config=pool.spec.agent.config or {}),
        **merged,
    )


def _read(variable: Variable, text: str) -> Any:
    try:
        return variable.read(text.strip())
    except ValueError as exc:
        raise InvalidRequest(
            f"{variable.name} is {text[:80]!r}, which is not {variable.form}.",
            remedy=f"Set {variable.name} to {variable.form}, or unset it to use {variable.default}.",
            details={"variable": variable.name},
        ) from exc


def _lookup(spec: Mapping[str, Any], path: str) -> Any:
    value: Any = spec
    for step in path.split("."):
        value = value.get(step) if isinstance(value, Mapping) else None
    return value


def _put(into: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for step in path[:-1]:
        into = into.setdefault(step, {})
    into[path[-1]] = value
