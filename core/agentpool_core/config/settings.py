# SPDX-License-Identifier: Apache-2.0
"""Every setting once: where it is written, its variable, its default; and how they are merged."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.alias_generators import to_camel

from agentpool_core.api.quantity import cpu_millis, memory_bytes
from agentpool_core.api.v1alpha1 import AgentPool, Storage
from agentpool_core.config import scaling
from agentpool_core.config.flags import flags_of_manifest
from agentpool_core.config.models import AgentConfig, EffectivePool, PoolConfig
from agentpool_core.config.variables import VARIABLES, read_variable
from agentpool_core.lifecycle import Tier


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


_SECTIONS = (
    *("warmup", "limits", "checkpoint", "health", "recovery"),
    *("circuit_breaker", "tiering", "balancing", "scaling", "isolation"),
)
_VARIABLE_OF = {
    "defaultTier": "AGENT_POOL_DEFAULT_TIER",
    "limits.maxInstances": "AGENT_POOL_MAX_INSTANCES",
    "warmup.count": "AGENT_POOL_WARMUP_COUNT",
    "tiers.warm.idleSeconds": "AGENT_POOL_MAX_IDLE_SECONDS",
    "tiers.cold.idleSeconds": "AGENT_POOL_MAX_IDLE_SECONDS",
    "checkpoint.intervalSeconds": "AGENT_POOL_CHECKPOINT_INTERVAL",
    "checkpoint.storage": "AGENT_POOL_CHECKPOINT_STORAGE",
    "health.intervalSeconds": "AGENT_POOL_HEALTH_CHECK_INTERVAL",
    "health.timeoutSeconds": "AGENT_POOL_HEALTH_CHECK_TIMEOUT",
    "recovery.enabled": "AGENT_POOL_ENABLE_HA",
    "recovery.maxFailuresPerHour": "AGENT_POOL_MAX_FAILURES_PER_HOUR",
    "recovery.patternWindowMinutes": "AGENT_POOL_PATTERN_DETECTION_WINDOW",
    "scaling.enabled": "AGENT_POOL_ENABLE_AUTO_SCALING",
    "scaling.scaleUpThreshold": "AGENT_POOL_SCALE_UP_THRESHOLD",
    "scaling.scaleDownThreshold": "AGENT_POOL_SCALE_DOWN_THRESHOLD",
    "scaling.cooldownSeconds": "AGENT_POOL_SCALING_COOLDOWN",
    "circuitBreaker.failureThreshold": "AGENT_POOL_CIRCUIT_FAILURE_THRESHOLD",
    "circuitBreaker.resetTimeoutSeconds": "AGENT_POOL_CIRCUIT_RESET_TIMEOUT",
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
    for section in _SECTIONS:
        yield from _section(to_camel(section), (section,), getattr(defaults, section))
    yield Setting("featureFlags", ("feature_flags",), defaults.feature_flags, None, flags_of_manifest)


def _section(spec: str, target: tuple[str, ...], part: BaseModel) -> Iterator[Setting]:
    for name in type(part).model_fields:
        value = getattr(part, name)
        path, into = f"{spec}.{to_camel(name)}", (*target, name)
        if isinstance(value, BaseModel):
            yield from _section(path, into, value)
        else:
            yield _setting(path, into, value)


def _setting(spec: str, target: tuple[str, ...], default: Any) -> Setting:
    return Setting(spec, target, default, _VARIABLE_OF.get(spec))


SETTINGS: tuple[Setting, ...] = tuple(_settings())
"""Every setting of a pool, in the order of the manifest; the agent itself apart."""


def resolve(pool: AgentPool, environ: Mapping[str, str], uid: str, generation: int) -> EffectivePool:
    """Merge manifest, environment and defaults: a field wins over a variable, a variable over the default.

    An empty variable counts as unset. A variable with a bad value is refused even where a field makes it
    moot, so that a mistake shows at once: InvalidRequest names the variable and what it may be.
    """
    variables = {
        name: read_variable(VARIABLES[name], environ[name]) for name in VARIABLES if environ.get(name)
    }
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
    alone = merged["checkpoint"]["storage"] is Storage.MEMORY
    merged["scaling"] = scaling.settle(merged["scaling"], merged["warm_replicas"] is not None, alone)
    if merged["warm_replicas"] is None:
        merged["warm_replicas"] = 1 if alone else PoolConfig().warm_replicas
    return EffectivePool(
        namespace=pool.metadata.namespace,
        name=pool.metadata.name,
        uid=uid,
        generation=generation,
        agent=AgentConfig(entrypoint=pool.spec.agent.entrypoint, config=pool.spec.agent.config or {}),
        **merged,
    )


def _lookup(spec: Mapping[str, Any], path: str) -> Any:
    value: Any = spec
    for step in path.split("."):
        value = value.get(step) if isinstance(value, Mapping) else None
    return value


def _put(into: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for step in path[:-1]:
        into = into.setdefault(step, {})
    into[path[-1]] = value
