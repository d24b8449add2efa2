# SPDX-License-Identifier: Apache-2.0
"""The effective configuration: field before variable before default, and one default in all three places."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from agentpool_core.config import (
    MIB,
    QUOTAS,
    SETTINGS,
    VARIABLES,
    EffectivePool,
    InstanceConfig,
    PoolConfig,
    ResourceQuota,
    Storage,
    TierConfig,
    resolve,
)
from agentpool_core.errors import InvalidRequest
from agentpool_core.lifecycle import Tier
from support.builders import ENTRYPOINT, agent_pool, effective_pool

BARE = effective_pool()

PROMISED = {
    "enabled": True,
    "default_tier": "WARM",
    "instances_per_host": 50,
    "warmup": {"enabled": True, "count": 5, "max_count": None},
    "limits": {
        "max_instances": 100,
        "min_instances": 2,
        "max_instances_per_tenant": None,
        "input_bytes": 1048576,
        "answer_bytes": 4194304,
        "state_bytes": 8388608,
        "creation_timeout_seconds": 30.0,
        "request_timeout_seconds": 60.0,
        "queue_length": 10,
        "queue_seconds": 1.0,
        "capacity_queue_length": 200,
        "capacity_seconds": 15.0,
    },
    "checkpoint": {
        "storage": "Redis",
        "durability": "Response",
        "interval_seconds": 60.0,
        "retention_seconds": None,
    },
    "health": {"interval_seconds": 30.0, "timeout_seconds": 10.0},
    "recovery": {"enabled": True, "max_failures_per_hour": 5, "pattern_window_minutes": 60},
    "circuit_breaker": {
        "enabled": True,
        "failure_threshold": 5,
        "reset_timeout_seconds": 30.0,
        "half_open_max_requests": 3,
        "max_reset_timeout_seconds": 600.0,
    },
    "isolation": {"required": (), "network": "None", "subprocesses": False},
    "scaling": {
        "enabled": False,
        "mode": "Automatic",
        "min_replicas": 2,
        "max_replicas": 20,
        "scale_up_threshold": 0.8,
        "scale_down_threshold": 0.3,
        "cooldown_seconds": 300.0,
        "stabilization_seconds": 300.0,
        "target_latency_milliseconds": None,
        "target_queue_depth": 10.0,
        "forecast": {"enabled": True, "horizon_seconds": 60.0},
    },
}


def written(path: str, value: Any) -> dict[str, Any]:
    """The spec in which only the field at a path is set."""
    *above, last = path.split(".")
    spec: dict[str, Any] = {last: value}
    for step in reversed(above):
        spec = {step: spec}
    return spec


def in_manifest_form(path: str, value: Any) -> Any:
    if path.endswith(".memory"):
        return str(value)
    return f"{value}m" if path.endswith(".cpu") else value


def test_the_defaults_are_the_promised_ones() -> None:
    dumped = BARE.model_dump()
    assert {name: dumped[name] for name in PROMISED} == PROMISED
    rows = {
        tier: (q.memory_bytes // MIB, q.cpu_millis, q.concurrent_requests, q.requests_per_minute)
        for tier, q in ((tier, BARE.tier(tier).quota) for tier in Tier)
    }
    assert rows == {
        Tier.HOT: (2048, 1000, 50, 1000),
        Tier.WARM: (512, 500, 10, 100),
        Tier.COLD: (256, 250, 5, 30),
    }
    assert [BARE.tier(tier).idle_seconds for tier in Tier] == [None, 300, 300]


@pytest.mark.parametrize(
    "setting", [s for s in SETTINGS if s.spec and s.default is not None], ids=lambda s: s.spec
)
def test_writing_the_default_into_the_manifest_changes_nothing(setting: Any) -> None:
    value = in_manifest_form(setting.spec, setting.default)
    assert effective_pool(written(setting.spec, value)) == BARE


@pytest.mark.parametrize("name", VARIABLES)
def test_writing_the_default_into_the_environment_changes_nothing(name: str) -> None:
    assert effective_pool(environ={name: VARIABLES[name].default}) == BARE


def test_the_classes_have_the_same_defaults() -> None:
    classes = PoolConfig().model_dump()
    assert {name: value for name, value in BARE.model_dump().items() if name in classes} == classes


OTHER = {
    "AGENT_POOL_ENABLED": ("false", "enabled", False),
    "AGENT_POOL_MAX_INSTANCES": ("7", "limits.max_instances", 7),
    "AGENT_POOL_DEFAULT_TIER": ("cold", "default_tier", Tier.COLD),
    "AGENT_POOL_WARMUP_COUNT": ("0", "warmup.count", 0),
    "AGENT_POOL_MAX_IDLE_SECONDS": ("0", "tiers.WARM.idle_seconds", 0),
    "AGENT_POOL_CHECKPOINT_INTERVAL": ("1.5", "checkpoint.interval_seconds", 1.5),
    "AGENT_POOL_CHECKPOINT_STORAGE": ("memory", "checkpoint.storage", Storage.MEMORY),
    "AGENT_POOL_HEALTH_CHECK_INTERVAL": ("7.5", "health.interval_seconds", 7.5),
    "AGENT_POOL_HEALTH_CHECK_TIMEOUT": ("2", "health.timeout_seconds", 2.0),
    "AGENT_POOL_ENABLE_HA": ("false", "recovery.enabled", False),
    "AGENT_POOL_MAX_FAILURES_PER_HOUR": ("9", "recovery.max_failures_per_hour", 9),
    "AGENT_POOL_CIRCUIT_FAILURE_THRESHOLD": ("2", "circuit_breaker.failure_threshold", 2),
    "AGENT_POOL_CIRCUIT_RESET_TIMEOUT": ("0.5", "circuit_breaker.reset_timeout_seconds", 0.5),
    "AGENT_POOL_PATTERN_DETECTION_WINDOW": ("15", "recovery.pattern_window_minutes", 15),
    "AGENT_POOL_ENABLE_AUTO_SCALING": ("true", "scaling.enabled", True),
    "AGENT_POOL_SCALE_UP_THRESHOLD": ("0.7", "scaling.scale_up_threshold", 0.7),
    "AGENT_POOL_SCALE_DOWN_THRESHOLD": ("0.2", "scaling.scale_down_threshold", 0.2),
    "AGENT_POOL_SCALING_COOLDOWN": ("0", "scaling.cooldown_seconds", 0.0),
}


def at(pool: EffectivePool, path: str) -> Any:
    value: Any = pool.model_dump()
    for step in path.split("."):
        value = value[step]
    return value


def test_every_variable_is_tried_below() -> None:
    assert set(OTHER) == set(VARIABLES)


@pytest.mark.parametrize("name", OTHER)
def test_a_variable_wins_over_the_default(name: str) -> None:
    text, path, value = OTHER[name]
    assert at(effective_pool(environ={name: text}), path) == value
    assert at(BARE, path) != value


FIELDS = [s for s in SETTINGS if s.variable and s.spec]


@pytest.mark.parametrize("setting", FIELDS, ids=lambda s: f"{s.spec} over {s.variable}")
def test_a_field_wins_over_its_variable(setting: Any) -> None:
    text, _, _ = OTHER[setting.variable]
    pool = effective_pool(written(setting.spec, setting.default), environ={setting.variable: text})
    assert at(pool, ".".join(setting.target)) == setting.default


def test_the_idle_time_of_the_environment_holds_for_warm_and_cold_and_never_for_hot() -> None:
    pool = effective_pool(
        {"tiers": {"cold": {"idleSeconds": 9}}}, environ={"AGENT_POOL_MAX_IDLE_SECONDS": "4"}
    )
    assert [pool.tier(tier).idle_seconds for tier in Tier] == [None, 4, 9]


def test_an_unset_cap_of_a_tier_is_the_pools() -> None:
    pool = effective_pool({"limits": {"maxInstances": 8}, "tiers": {"hot": {"maxInstances": 3}}})
    assert [pool.tier(tier).max_instances for tier in Tier] == [3, 8, 8]


def test_an_empty_variable_counts_as_unset() -> None:
    assert effective_pool(environ=dict.fromkeys(VARIABLES, "")) == BARE


BAD = {
    "AGENT_POOL_ENABLED": ["maybe", "yes please"],
    "AGENT_POOL_MAX_INSTANCES": ["0", "-1", "ten", "1.5", "1e3", "9999999999"],
    "AGENT_POOL_DEFAULT_TIER": ["LUKEWARM"],
    "AGENT_POOL_WARMUP_COUNT": ["-1", "all"],
    "AGENT_POOL_MAX_IDLE_SECONDS": ["5m", "-3"],
    "AGENT_POOL_CHECKPOINT_INTERVAL": ["0", "inf", "nan", "-1", "1e3"],
    "AGENT_POOL_CHECKPOINT_STORAGE": ["disk"],
    "AGENT_POOL_ENABLE_AUTO_SCALING": ["sometimes"],
    "AGENT_POOL_SCALE_UP_THRESHOLD": ["0", "1.1", "80", "80%", "nan"],
    "AGENT_POOL_SCALE_DOWN_THRESHOLD": ["-0.3"],
    "AGENT_POOL_SCALING_COOLDOWN": ["-1", "5m", "inf"],
}


@pytest.mark.parametrize(
    ("name", "text"),
    [(name, text) for name, texts in BAD.items() for text in texts],
    ids=[f"{name} refuses {text}" for name, texts in BAD.items() for text in texts],
)
def test_a_bad_variable_is_named_with_its_remedy(name: str, text: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        effective_pool(environ={name: text})
    assert refused.value.message.startswith(f"{name} is '{text}', which is not ")
    assert refused.value.hint.startswith(f"Set {name} to ")
    assert refused.value.details == {"variable": name}


def test_a_bad_variable_is_refused_even_where_a_field_makes_it_moot() -> None:
    with pytest.raises(InvalidRequest):
        effective_pool({"warmup": {"count": 1}}, environ={"AGENT_POOL_WARMUP_COUNT": "many"})


def test_the_effective_pool_carries_identity_and_agent() -> None:
    spec = {"agent": {"entrypoint": ENTRYPOINT, "config": {"deep": [1, {"x": None}]}}}
    pool = resolve(agent_pool(spec), {}, "uid-7", 12)
    assert (pool.namespace, pool.name, pool.uid, pool.generation) == ("default", "support", "uid-7", 12)
    assert pool.agent.config == {"deep": [1, {"x": None}]}


def test_the_effective_pool_survives_the_wire() -> None:
    assert EffectivePool.model_validate_json(BARE.model_dump_json()) == BARE


def test_a_quota_can_be_built_empty_and_is_the_warm_row() -> None:
    assert ResourceQuota() == QUOTAS[Tier.WARM]


def test_a_tier_configuration_without_its_tier_says_so() -> None:
    with pytest.raises(InvalidRequest, match="needs its tier") as refused:
        TierConfig(max_instances=3)  # type: ignore[call-arg]
    assert refused.value.hint == "Give tier: HOT, WARM or COLD."


@pytest.mark.parametrize("missing", ["tenant_id", "project_id"])
def test_an_instance_needs_tenant_and_project(missing: str) -> None:
    ids = {"tenant_id": "acme", "project_id": "handbook"}
    assert InstanceConfig.model_validate(ids).tier is None
    with pytest.raises(ValidationError, match=missing):
        InstanceConfig.model_validate({key: value for key, value in ids.items() if key != missing})


IDS = {
    "one character": ("a", True),
    "a space and a slash": ("a b/c", True),
    "letters of any script": ("Ünïcödé 東京", True),
    "253 characters": ("x" * 253, True),
    "254 characters": ("x" * 254, False),
    "nothing": ("", False),
    "a control character": ("a\x00b", False),
    "a line break": ("a\nb", False),
    "half a surrogate pair": ("\ud800", False),
    "an invisible direction mark": ("a\u202eb", False),
}


@pytest.mark.parametrize(("text", "good"), IDS.values(), ids=IDS)
def test_ids_are_printable_and_bounded(text: str, good: bool) -> None:
    try:
        InstanceConfig(tenant_id=text, project_id="p")
    except ValidationError:
        assert not good
    else:
        assert good
