# SPDX-License-Identifier: Apache-2.0
"""What the API server refuses about `spec.scaling`; the twin of `api.v1alpha1.scaling`."""

from __future__ import annotations

from agentpool_core.crd.rule import Rule

_LEFT_TO_USERS = (
    "!has(self.scaling) || !has(self.scaling.enabled) || !self.scaling.enabled"
    " || (has(self.scaling.mode) && self.scaling.mode == 'External')"
)

SCALING_RULES: tuple[Rule, ...] = (
    Rule(
        "spec.scaling",
        "!has(self.minReplicas) || !has(self.maxReplicas) || self.minReplicas <= self.maxReplicas",
        "spec.scaling.minReplicas is more than spec.scaling.maxReplicas:"
        " lower it, or raise spec.scaling.maxReplicas",
        ".minReplicas",
    ),
    Rule(
        "spec.scaling",
        "!has(self.scaleDownThreshold) || !has(self.scaleUpThreshold)"
        " || self.scaleDownThreshold < self.scaleUpThreshold",
        "spec.scaling.scaleDownThreshold is not below spec.scaling.scaleUpThreshold:"
        " lower it, or raise spec.scaling.scaleUpThreshold",
        ".scaleDownThreshold",
    ),
    Rule(
        "spec",
        f"{_LEFT_TO_USERS} || !has(self.checkpoint) || !has(self.checkpoint.storage)"
        " || self.checkpoint.storage != 'Memory'",
        "spec.scaling.enabled needs state that pods share:"
        " set spec.checkpoint.storage to Redis, or enabled to false",
        ".scaling.enabled",
    ),
    Rule(
        "spec",
        f"{_LEFT_TO_USERS} || !has(self.tiers) || !has(self.tiers.warm) || !has(self.tiers.warm.replicas)",
        "spec.tiers.warm.replicas is chosen by the operator while spec.scaling.enabled is true:"
        " remove it and set spec.scaling.minReplicas, or set spec.scaling.mode to External",
        ".tiers.warm.replicas",
    ),
)
