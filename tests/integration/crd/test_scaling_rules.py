# SPDX-License-Identifier: Apache-2.0
"""The API server takes and refuses `spec.scaling` as the models do."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest

from agentpool_core.api.problems import BadValue
from agentpool_core.api.v1alpha1 import AgentPool
from support.apiserver import ApiServer
from support.builders import manifest

POOLS = "/apis/agentpool.dev/v1alpha1/namespaces/default/agentpools"
COUNTER = count(1)


def pool(**spec: Any) -> dict[str, Any]:
    return manifest(spec, name=f"scaled-{next(COUNTER)}")


GOOD = {
    "a pool that scales by itself": pool(
        scaling={
            "enabled": True,
            "mode": "Automatic",
            "minReplicas": 1,
            "maxReplicas": 1,
            "scaleUpThreshold": 1,
            "scaleDownThreshold": 0.05,
            "cooldownSeconds": 0,
            "stabilizationSeconds": 0,
            "targetLatencyMilliseconds": 250,
            "targetQueueDepth": 0.5,
            "forecast": {"enabled": False, "horizonSeconds": 30},
        },
        tiers={"warm": {"instancesPerReplica": 5}},
    ),
    "a pool that is scaled by others": pool(
        scaling={"enabled": True, "mode": "External"}, tiers={"warm": {"replicas": 3}}
    ),
    "a pool that may be scaled some time, without a store": pool(
        scaling={"enabled": False, "minReplicas": 2}, checkpoint={"storage": "Memory"}
    ),
}
BAD = {
    "fewest pods above most": (
        pool(scaling={"minReplicas": 3, "maxReplicas": 2}),
        "spec.scaling.minReplicas",
        "raise spec.scaling.maxReplicas",
    ),
    "a lower threshold above the upper one": (
        pool(scaling={"scaleDownThreshold": 0.8, "scaleUpThreshold": 0.8}),
        "spec.scaling.scaleDownThreshold",
        "raise spec.scaling.scaleUpThreshold",
    ),
    "scaling without a store": (
        pool(scaling={"enabled": True}, checkpoint={"storage": "Memory"}),
        "spec.scaling.enabled",
        "set spec.checkpoint.storage to Redis",
    ),
    "two who choose the number of pods": (
        pool(scaling={"enabled": True, "mode": "Automatic"}, tiers={"warm": {"replicas": 3}}),
        "spec.tiers.warm.replicas",
        "set spec.scaling.mode to External",
    ),
    "a share in percent": (
        pool(scaling={"scaleUpThreshold": 80}),
        "spec.scaling.scaleUpThreshold",
        "less than or equal to 1",
    ),
}


@pytest.mark.parametrize("body", GOOD.values(), ids=GOOD)
def test_good_ones_are_taken(api: ApiServer, body: dict[str, Any]) -> None:
    answer = api.create(POOLS, body)
    assert answer.status_code == 201, answer.text
    assert AgentPool.model_validate(body, by_name=False)


@pytest.mark.parametrize(("body", "field", "remedy"), BAD.values(), ids=BAD)
def test_bad_ones_are_refused_by_field_with_a_remedy(
    api: ApiServer, body: dict[str, Any], field: str, remedy: str
) -> None:
    answer = api.create(POOLS, body)
    assert answer.status_code == 422, answer.text
    message = answer.json()["message"]
    assert field in message
    assert remedy in message
    with pytest.raises((ValueError, BadValue)):
        AgentPool.model_validate(body, by_name=False)
