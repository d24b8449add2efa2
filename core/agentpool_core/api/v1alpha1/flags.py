# SPDX-License-Identifier: Apache-2.0
"""`spec.featureFlags` of an AgentPool."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, Field, model_validator
from pydantic.alias_generators import to_camel

from agentpool_core.api.problems import BadValue
from agentpool_core.api.v1alpha1.forms import FlagName, Identifier, Percentage
from agentpool_core.api.v1alpha1.meta import Part
from agentpool_core.flags import MAX_FLAGS, MAX_LISTED, MAX_NAME, MAX_STEPS, Plan, Strategy, fault


class FlagProjectSpec(Part):
    """One project of one tenant."""

    tenant: Identifier = Field(description="The tenant's id.")
    project: Identifier = Field(description="The project's id.")


class FlagStepSpec(Part):
    """A step of a schedule."""

    after_seconds: Annotated[int, Field(strict=True, ge=0)] = Field(
        description="Seconds after startTime from which on it holds."
    )
    percentage: Percentage = Field(description="Percentage from then on.")


class FlagScheduleSpec(Part):
    """How the percentage of a GRADUAL flag grows: evenly over durationSeconds, or by steps."""

    start_time: AwareDatetime = Field(description="When it begins, RFC 3339.")
    from_percentage: Percentage | None = Field(
        default=None, description="Where a ramp begins, and where it is before that; unset: 0."
    )
    to_percentage: Percentage | None = Field(default=None, description="Where a ramp ends; unset: 100.")
    duration_seconds: Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)] | None = Field(
        default=None, description="How long a ramp takes."
    )
    steps: tuple[FlagStepSpec, ...] | None = Field(
        default=None,
        max_length=MAX_STEPS,
        description="Instead of a ramp: steps; 0 % before the first one.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["afterSeconds"]},
    )

    @property
    def plan(self) -> Plan:
        """What is written, in the form in which it is checked."""
        steps = tuple((step.after_seconds, step.percentage) for step in self.steps or ())
        return Plan(self.from_percentage, self.to_percentage, self.duration_seconds, steps)


class FeatureFlagSpec(Part):
    """A feature flag."""

    name: FlagName = Field(
        max_length=MAX_NAME,
        description="Its name. agent_pool_enabled: off, each request is served by a one-shot instance."
        " agent_pool_hot_tier: off, only an AgentInstance makes an instance HOT."
        " Any other is for agents and applications, which ask the gateway.",
    )
    enabled: Annotated[bool, Field(strict=True)] | None = Field(
        default=None, description="False: off for everybody, whatever the strategy is; unset: true."
    )
    strategy: Strategy = Field(
        description="ALL or NONE; PERCENTAGE of all projects; ALLOWLIST or DENYLIST of tenants and projects;"
        " GRADUAL: a percentage that grows by a schedule."
    )
    percentage: Percentage | None = Field(
        default=None, description="Share of projects under PERCENTAGE, 0 to 100."
    )
    tenants: tuple[Identifier, ...] | None = Field(
        default=None,
        max_length=MAX_LISTED,
        description="Tenants that are on under ALLOWLIST, PERCENTAGE, GRADUAL; off under DENYLIST.",
    )
    projects: tuple[FlagProjectSpec, ...] | None = Field(
        default=None, max_length=MAX_LISTED, description="Single projects, listed as tenants are."
    )
    schedule: FlagScheduleSpec | None = Field(
        default=None, description="How the percentage grows under GRADUAL."
    )

    @model_validator(mode="after")
    def _has_what_its_strategy_needs(self) -> FeatureFlagSpec:
        found = fault(self.strategy, self.percentage, self.schedule.plan if self.schedule else None)
        if found is not None:
            raise BadValue(
                _camel(found.message),
                remedy=_camel(found.remedy),
                path=tuple(to_camel(step) for step in found.field.split(".")),
            )
        return self


def _camel(text: str) -> str:
    return re.sub(r"\b[a-z]+(?:_[a-z]+)+\b", lambda found: to_camel(found[0]), text)


def _names_differ(flags: tuple[FeatureFlagSpec, ...]) -> tuple[FeatureFlagSpec, ...]:
    names = [flag.name for flag in flags]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise BadValue(f"found the flag {twice} twice", remedy="Leave one of the two.")
    return flags


FeatureFlags = Annotated[
    tuple[FeatureFlagSpec, ...],
    Field(
        max_length=MAX_FLAGS,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    ),
    AfterValidator(_names_differ),
]
"""Flags of a pool, each once."""
