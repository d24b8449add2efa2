# SPDX-License-Identifier: Apache-2.0
"""What the API server refuses in `spec.balancing`; the twins of these rules are in the model."""

from __future__ import annotations

from agentpool_core.crd.rule import Rule

BALANCING_RULES: tuple[Rule, ...] = (
    Rule(
        "spec.balancing",
        "!has(self.strategy) || self.strategy != 'WeightedCapabilities'"
        " || (has(self.capabilities) && size(self.capabilities) > 0)",
        "spec.balancing.capabilities is what strategy WeightedCapabilities needs:"
        " name at least one, or choose another strategy",
        ".capabilities",
    ),
    Rule(
        "spec.balancing",
        "!has(self.capabilities) || size(self.capabilities) == 0"
        " || (has(self.strategy) && self.strategy == 'WeightedCapabilities')",
        "spec.balancing.capabilities has no effect without strategy WeightedCapabilities:"
        " set spec.balancing.strategy to it, or remove them",
        ".capabilities",
    ),
)
