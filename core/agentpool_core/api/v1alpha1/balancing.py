# SPDX-License-Identifier: Apache-2.0
"""`spec.balancing`: which shared host gets an instance that nobody holds."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from agentpool_core.api.problems import BadValue
from agentpool_core.api.v1alpha1.choices import Affinity, BalancingStrategy
from agentpool_core.api.v1alpha1.forms import CAPABILITY_PATTERN, MAX_CAPABILITY_CHARS, capability_name
from agentpool_core.api.v1alpha1.meta import Part

MAX_WANTED = 16
"""Capabilities that a pool can want: each costs every placement a look-up."""
MAX_WEIGHT = 1000


class CapabilitySpec(Part):
    """Something that a host may have, and how much it counts."""

    name: Annotated[str, AfterValidator(capability_name)] = Field(
        description="Name as a host reports it, for example arch:x86_64 or landlock-files.",
        json_schema_extra={"maxLength": MAX_CAPABILITY_CHARS, "pattern": f"^{CAPABILITY_PATTERN}$"},
    )
    weight: Annotated[int, Field(strict=True, ge=1, le=MAX_WEIGHT)] | None = Field(
        default=None, description="How much it counts beside the others; unset: 1."
    )


class BalancingSpec(Part):
    """Which shared host gets an instance that nobody holds. Where one holds it, requests go there."""

    strategy: BalancingStrategy | None = Field(
        default=None, description="How a host is chosen among those that have room."
    )
    affinity: Affinity | None = Field(
        default=None,
        description="Preferred: the host that the instance's id names, unless it is full or loaded more than"
        " the others; then the strategy. None: always the strategy.",
    )
    capabilities: tuple[CapabilitySpec, ...] | None = Field(
        default=None,
        description="What strategy WeightedCapabilities looks for in a host.",
        json_schema_extra={
            "maxItems": MAX_WANTED,
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
        },
    )

    @model_validator(mode="after")
    def _capabilities_have_an_effect(self) -> BalancingSpec:
        weighted = self.strategy is BalancingStrategy.WEIGHTED_CAPABILITIES
        if weighted and not self.capabilities:
            raise BadValue(
                "found none, which strategy WeightedCapabilities needs",
                remedy="Name at least one capability, or choose another strategy.",
                path=("capabilities",),
            )
        if self.capabilities and not weighted:
            raise BadValue(
                "found capabilities that no strategy looks at",
                remedy="Set spec.balancing.strategy to WeightedCapabilities, or remove them.",
                path=("capabilities",),
            )
        return self

    @model_validator(mode="after")
    def _few_and_each_named_once(self) -> BalancingSpec:
        names = [one.name for one in self.capabilities or ()]
        if len(names) > MAX_WANTED:
            raise BadValue(
                f"found {len(names)} capabilities",
                remedy=f"Name {MAX_WANTED} at most.",
                path=("capabilities",),
            )
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise BadValue(
                f"found {twice[0]!r} more than once",
                remedy="Name each capability once, with one weight.",
                path=("capabilities",),
            )
        return self
