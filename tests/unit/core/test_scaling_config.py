# SPDX-License-Identifier: Apache-2.0
"""Who chooses the number of shared pods, and what is refused about it."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from agentpool_core.api import ManifestError, load_manifests
from agentpool_core.errors import InvalidRequest
from support.builders import effective_pool, manifest

ON = {"AGENT_POOL_ENABLE_AUTO_SCALING": "true"}
WARM_4 = {"tiers": {"warm": {"replicas": 4}}}

CHOICES: dict[str, tuple[dict[str, Any], dict[str, str], bool]] = {
    "nothing said: a fixed number": ({}, {}, False),
    "the manifest switches it on": ({"scaling": {"enabled": True}}, {}, True),
    "the environment switches it on": ({}, ON, True),
    "the manifest wins over the environment": ({"scaling": {"enabled": False}}, ON, False),
    "a number in the manifest wins over the environment": (WARM_4, ON, False),
    "one pod's memory cannot be shared": ({"checkpoint": {"storage": "Memory"}}, ON, False),
    "somebody else scales": ({"scaling": {"enabled": True, "mode": "External"}} | WARM_4, {}, False),
    "somebody else scales, and the environment says otherwise": (
        {"scaling": {"mode": "External"}} | WARM_4,
        ON,
        False,
    ),
}


@pytest.mark.parametrize("name", CHOICES)
def test_who_chooses(name: str) -> None:
    spec, environ, operator = CHOICES[name]
    pool = effective_pool(spec, environ=environ)
    assert pool.scaling.active is operator
    if "tiers" in spec:
        assert pool.warm_replicas == 4


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "fewest above most": (
        {"scaling": {"minReplicas": 5, "maxReplicas": 3}},
        "spec.scaling.minReplicas: found 5, more than scaling.maxReplicas 3",
        "Set it to 3 or less, or raise spec.scaling.maxReplicas.",
    ),
    "down not below up": (
        {"scaling": {"scaleDownThreshold": 0.8, "scaleUpThreshold": 0.8}},
        "spec.scaling.scaleDownThreshold: found 0.8, not below scaling.scaleUpThreshold 0.8",
        "Set it below 0.8, or raise spec.scaling.scaleUpThreshold.",
    ),
    "with state in one pod's memory": (
        {"scaling": {"enabled": True}, "checkpoint": {"storage": "Memory"}},
        "spec.scaling.enabled: found true",
        "Set spec.checkpoint.storage to Redis, or enabled to false.",
    ),
    "two numbers": (
        {"scaling": {"enabled": True}} | WARM_4,
        "spec.tiers.warm.replicas: found 4 while scaling.enabled leaves the number to the operator",
        "set spec.scaling.mode to External.",
    ),
    "no pods": ({"scaling": {"minReplicas": 0}}, "spec.scaling.minReplicas: found 0", "Write 1 or more."),
    "a share above one": ({"scaling": {"scaleUpThreshold": 80}}, "spec.scaling.scaleUpThreshold", ""),
    "no horizon": ({"scaling": {"forecast": {"horizonSeconds": 0}}}, "forecast.horizonSeconds", ""),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_manifest_may_not_say(name: str) -> None:
    spec, message, remedy = REFUSED[name]
    with pytest.raises(ManifestError) as refused:
        load_manifests(yaml.safe_dump(manifest(spec)))
    assert message in refused.value.message
    assert remedy in refused.value.hint


CONTRADICTIONS: dict[str, tuple[dict[str, Any], dict[str, str], str]] = {
    "most below the default fewest": ({"scaling": {"maxReplicas": 1}}, {}, "scaling.minReplicas is 2"),
    "thresholds of the environment": (
        {},
        {"AGENT_POOL_SCALE_UP_THRESHOLD": "0.2"},
        "scaling.scaleDownThreshold is 0.3, not below scaling.scaleUpThreshold, which is 0.2",
    ),
    "a field against the environment": (
        {"scaling": {"scaleUpThreshold": 0.5}},
        {"AGENT_POOL_SCALE_DOWN_THRESHOLD": "0.6"},
        "scaling.scaleDownThreshold is 0.6",
    ),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_what_does_not_fit_together_once_everything_is_merged(name: str) -> None:
    spec, environ, message = CONTRADICTIONS[name]
    with pytest.raises(InvalidRequest) as refused:
        effective_pool(spec, environ=environ)
    assert message in refused.value.message
    assert refused.value.hint.startswith("Set both")
