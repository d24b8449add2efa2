# SPDX-License-Identifier: Apache-2.0
"""What the API server refuses beyond the types: rules in CEL, and the bounds that keep their cost low.

Each rule has its twin in the models of `agentpool_core.api`, except those that compare with the object
before. A message names the field and what to do, for it is all that the user of `kubectl apply` sees.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from agentpool_core.crd.balancing_rules import BALANCING_RULES
from agentpool_core.crd.flag_rules import FLAG_BOUNDS, FLAG_RULES
from agentpool_core.crd.rule import Rule
from agentpool_core.crd.scaling_rules import SCALING_RULES
from agentpool_core.crd.structural import Schema
from agentpool_core.names import MAX_NAME_CHARS

TIERS = ("hot", "warm", "cold")
LABEL_PATTERN = "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"
NAME_PATTERN = "^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$"
ENTRYPOINT_PATTERN = "^[A-Za-z_][0-9A-Za-z_]*([.][A-Za-z_][0-9A-Za-z_]*)*:[A-Za-z_][0-9A-Za-z_]*$"
IMAGE_PATTERN = "^([a-zA-Z0-9][a-zA-Z0-9._/:@-]*)?$"
# Printable as Python has it: no control, format, surrogate or private character, no separator but the space.
PRINTABLE_PATTERN = r"^( |[^\pC\pZ])+$"
QUANTITY_PATTERN = r"^[+]?([0-9]+([.][0-9]*)?|[.][0-9]+)([mkMGTP]|[KMGTP]i|[eE][+-]?[0-9]{1,2})?$"

_LABEL_FORM = "1 to 63 lower-case letters, digits and '-', a letter or digit first and last"
_NAME_FORM = "1 to 253 lower-case letters, digits, '-' and '.', a letter or digit first and last"
_NAME = Rule(
    "",
    "size(self.metadata.name) <= 63 && !self.metadata.name.contains('.')",
    f"metadata.name is not a DNS label: use {_LABEL_FORM}",
)

QUANTITIES: tuple[str, ...] = tuple(
    f"spec.tiers.{tier}.{part}.{amount}"
    for tier in TIERS
    for part in ("quota", "resources.requests", "resources.limits")
    for amount in ("cpu", "memory")
)
"""Fields that take a number as well as text, as Kubernetes' own quantities do."""


def _matches(pattern: str) -> str:
    escaped = pattern.replace("\\", "\\\\").replace("'", "\\'")
    return f"self.matches('{escaped}')"


def _quantity(path: str) -> Rule:
    # More than zero: some digit before the unit is not 0.
    form = f"{_matches(QUANTITY_PATTERN)} && {_matches('^[+0.]*[1-9]')}"
    what = "memory: write a quantity above zero, for example 512Mi or 2Gi"
    if path.endswith(".cpu"):
        what = 'CPU: write a quantity above zero, for example "1" or 500m'
    return Rule(path, f"type(self) == int ? self > 0 : ({form})", f"{path} is not an amount of {what}")


def _tier_cap(tier: str) -> Rule:
    return Rule(
        "spec",
        f"!has(self.limits) || !has(self.limits.maxInstances) || !has(self.tiers) || !has(self.tiers.{tier})"
        f" || !has(self.tiers.{tier}.maxInstances)"
        f" || self.tiers.{tier}.maxInstances <= self.limits.maxInstances",
        f"spec.tiers.{tier}.maxInstances is more than spec.limits.maxInstances:"
        " lower it, or raise spec.limits.maxInstances",
        f".tiers.{tier}.maxInstances",
    )


def _constant(name: str) -> Rule:
    return Rule(
        f"spec.{name}",
        "self == oldSelf",
        f"spec.{name} never changes: delete this AgentInstance and create another",
    )


def _identifier(name: str) -> Rule:
    return Rule(
        f"spec.{name}",
        _matches(PRINTABLE_PATTERN),
        f"spec.{name} holds a character that is not printable:"
        f" use 1 to {MAX_NAME_CHARS} printable characters, no control characters",
    )


def _without_redis(cel: str, message: str, field: str) -> Rule:
    kept_elsewhere = (
        "!has(self.checkpoint) || !has(self.checkpoint.storage) || self.checkpoint.storage != 'Memory'"
    )
    return Rule("spec", f"{kept_elsewhere} || {cel}", message, field)


AGENT_POOL_RULES: tuple[Rule, ...] = (
    _NAME,
    Rule(
        "spec.agent.entrypoint",
        _matches(ENTRYPOINT_PATTERN),
        "spec.agent.entrypoint names no class: write package.module:Class,"
        " for example agentpool_agent.agents.librarian:Librarian",
    ),
    Rule(
        "spec.agent.image",
        _matches(IMAGE_PATTERN),
        "spec.agent.image names no container image: write registry/repository:tag or @sha256:digest,"
        " or leave it empty for the default",
    ),
    Rule(
        "spec.agent.imagePullSecrets",
        f"self.all(name, {_matches(NAME_PATTERN).replace('self', 'name')})",
        f"spec.agent.imagePullSecrets holds what is not the name of a Secret: use {_NAME_FORM}",
    ),
    *(
        Rule(
            f"spec.tiers.{tier}.runtimeClassName",
            _matches(NAME_PATTERN),
            f"spec.tiers.{tier}.runtimeClassName is not a name: use {_NAME_FORM}",
        )
        for tier in TIERS
    ),
    *(_tier_cap(tier) for tier in TIERS),
    Rule(
        "spec.limits",
        "!has(self.minInstances) || !has(self.maxInstances) || self.minInstances <= self.maxInstances",
        "spec.limits.minInstances is more than spec.limits.maxInstances:"
        " lower it, or raise spec.limits.maxInstances",
        ".minInstances",
    ),
    Rule(
        "spec.warmup",
        "!has(self.count) || !has(self.maxCount) || self.count <= self.maxCount",
        "spec.warmup.maxCount is less than spec.warmup.count: raise it, or lower spec.warmup.count",
        ".maxCount",
    ),
    Rule(
        "spec.circuitBreaker",
        "!has(self.resetTimeoutSeconds) || !has(self.maxResetTimeoutSeconds)"
        " || self.resetTimeoutSeconds <= self.maxResetTimeoutSeconds",
        "spec.circuitBreaker.maxResetTimeoutSeconds is less than spec.circuitBreaker.resetTimeoutSeconds:"
        " raise it, or lower spec.circuitBreaker.resetTimeoutSeconds",
        ".maxResetTimeoutSeconds",
    ),
    _without_redis(
        "!has(self.defaultTier) || self.defaultTier != 'HOT'",
        "spec.defaultTier HOT needs state that outlives a pod:"
        " set spec.checkpoint.storage to Redis, or choose WARM or COLD",
        ".defaultTier",
    ),
    _without_redis(
        "!has(self.tiers) || !has(self.tiers.warm) || !has(self.tiers.warm.replicas)"
        " || self.tiers.warm.replicas <= 1",
        "spec.tiers.warm.replicas above 1 needs state that pods share:"
        " set spec.checkpoint.storage to Redis, or replicas to 1",
        ".tiers.warm.replicas",
    ),
    _without_redis(
        "!has(self.tiering) || !has(self.tiering.mode) || self.tiering.mode != 'Automatic'",
        "spec.tiering.mode Automatic needs state that pods share:"
        " set spec.checkpoint.storage to Redis, or mode to Manual",
        ".tiering.mode",
    ),
    *BALANCING_RULES,
    *SCALING_RULES,
    *FLAG_RULES,
    *(_quantity(path) for path in QUANTITIES),
)

AGENT_INSTANCE_RULES: tuple[Rule, ...] = (
    _NAME,
    Rule(
        "spec.pool",
        _matches(LABEL_PATTERN),
        f"spec.pool is not a name of a pool: use {_LABEL_FORM}",
    ),
    *(_identifier(name) for name in ("tenant", "project")),
    *(_constant(name) for name in ("pool", "tenant", "project")),
    Rule(
        "spec",
        "!has(oldSelf.state) || oldSelf.state != 'Terminated'"
        " || (has(self.state) && self.state == 'Terminated')",
        "spec.state Terminated is final: delete this AgentInstance and create it anew",
        ".state",
    ),
)

AGENT_POOL_BOUNDS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "spec.agent.entrypoint": {"minLength": 1, "maxLength": 253},
        "spec.agent.image": {"maxLength": 511},
        "spec.agent.imagePullSecrets": {"maxItems": 16, "items": {"type": "string", "maxLength": 253}},
        "spec.isolation.required": {"maxItems": 16},
        **FLAG_BOUNDS,
        **{f"spec.tiers.{tier}.runtimeClassName": {"maxLength": 253} for tier in TIERS},
        **{path: {"maxLength": 64} for path in QUANTITIES},
    }
)
"""Without a longest text the API server counts a rule as too costly and refuses the whole definition."""

AGENT_INSTANCE_BOUNDS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "spec.pool": {"maxLength": 63},
        **{f"spec.{name}": {"minLength": 1, "maxLength": MAX_NAME_CHARS} for name in ("tenant", "project")},
    }
)


def field_at(schema: Schema, path: str) -> Schema:
    """The schema of a field by its dotted path; KeyError names the first step that is not there."""
    for step in filter(None, path.split(".")):
        name, each, _ = step.partition("[]")
        schema = schema["properties"][name]
        schema = schema["items"] if each else schema
    return schema


def add_rules(schema: Schema, rules: tuple[Rule, ...]) -> None:
    """Write the rules into the schema of an object."""
    for rule in rules:
        written = {"rule": rule.cel, "message": rule.message}
        if rule.field:
            written["fieldPath"] = rule.field
        field_at(schema, rule.path).setdefault("x-kubernetes-validations", []).append(written)


def add_bounds(schema: Schema, bounds: Mapping[str, Mapping[str, Any]]) -> None:
    """Write the bounds into the schema of an object."""
    for path, values in bounds.items():
        field_at(schema, path).update(values)


def take_numbers(schema: Schema, paths: tuple[str, ...]) -> None:
    """Let the text fields at `paths` take whole numbers as well: YAML reads `cpu: 1` as one."""
    for path in paths:
        field = field_at(schema, path)
        del field["type"]
        field["x-kubernetes-int-or-string"] = True
