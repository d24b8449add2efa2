# SPDX-License-Identifier: Apache-2.0
"""What the API server refuses in `spec.featureFlags`; the twins of these rules are in the model."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from agentpool_core.api.v1alpha1.forms import FLAG_NAME_PATTERN
from agentpool_core.crd.rule import Rule
from agentpool_core.flags import MAX_NAME
from agentpool_core.names import MAX_NAME_CHARS

_FLAG = "spec.featureFlags[]"
FLAG_RULES: tuple[Rule, ...] = (
    Rule(
        f"{_FLAG}.name",
        f"self.matches('{FLAG_NAME_PATTERN}')",
        f"spec.featureFlags[].name is no name of a flag: use 1 to {MAX_NAME} lower-case letters, digits,"
        " '_', '-' and '.', a letter or digit first and last",
    ),
    Rule(
        _FLAG,
        "self.strategy != 'PERCENTAGE' || has(self.percentage)",
        "spec.featureFlags[].percentage is missing: strategy PERCENTAGE needs it, 0 to 100",
        ".percentage",
    ),
    Rule(
        _FLAG,
        "self.strategy != 'GRADUAL' || has(self.schedule)",
        "spec.featureFlags[].schedule is missing: strategy GRADUAL needs it, with startTime, and"
        " durationSeconds or steps",
        ".schedule",
    ),
    Rule(
        f"{_FLAG}.schedule",
        "has(self.durationSeconds) != (has(self.steps) && size(self.steps) > 0)",
        "spec.featureFlags[].schedule has to have either durationSeconds, for a ramp, or steps:"
        " give one of the two",
    ),
    Rule(
        f"{_FLAG}.schedule",
        "!has(self.steps) || size(self.steps) == 0 || !(has(self.fromPercentage) || has(self.toPercentage))",
        "spec.featureFlags[].schedule.steps stand beside fromPercentage or toPercentage, which are for a"
        " ramp: leave these out",
        ".steps",
    ),
    Rule(
        f"{_FLAG}.schedule",
        "(has(self.fromPercentage) ? self.fromPercentage : 0)"
        " <= (has(self.toPercentage) ? self.toPercentage : 100)",
        "spec.featureFlags[].schedule.toPercentage is less than fromPercentage: let the percentage grow;"
        " to take it back, use strategy PERCENTAGE or NONE",
        ".toPercentage",
    ),
    Rule(
        f"{_FLAG}.schedule.steps",
        "self.all(one, self.all(other, one.afterSeconds >= other.afterSeconds"
        " || one.percentage <= other.percentage))",
        "spec.featureFlags[].schedule.steps fall: let the percentage grow; to take it back, use strategy"
        " PERCENTAGE or NONE",
    ),
)

_ID = {"type": "string", "minLength": 1, "maxLength": MAX_NAME_CHARS}
FLAG_BOUNDS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        f"{_FLAG}.tenants": {"items": _ID},
        **{f"{_FLAG}.projects[].{name}": _ID for name in ("tenant", "project")},
    }
)
