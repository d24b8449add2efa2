# SPDX-License-Identifier: Apache-2.0
"""`spec.balancing`: what it takes, what it refuses, and what arrives at the gateway."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agentpool_core.api.manifest import ManifestError, load_manifests
from agentpool_core.config import BalancingConfig, EffectivePool, WantedCapability
from support.builders import effective_pool, manifest

WEIGHTED = {"strategy": "WeightedCapabilities", "capabilities": [{"name": "arch:x86_64", "weight": 3}]}


def test_nothing_said_means_least_connections_with_affinity() -> None:
    assert effective_pool().balancing == BalancingConfig()
    assert effective_pool().balancing.model_dump(mode="json") == {
        "strategy": "LeastConnections",
        "affinity": "Preferred",
        "capabilities": [],
    }


def test_it_reaches_the_effective_configuration_and_survives_the_wire() -> None:
    capabilities = [{"name": "gpu"}, {"name": "arch:x86_64", "weight": 3}]
    pool = effective_pool({"balancing": {**WEIGHTED, "affinity": "None", "capabilities": capabilities}})
    assert pool.balancing.capabilities == (
        WantedCapability(name="gpu", weight=1),
        WantedCapability(name="arch:x86_64", weight=3),
    )
    assert pool.balancing.affinity == "None"
    assert EffectivePool.model_validate_json(pool.model_dump_json()) == pool


BAD: dict[str, tuple[dict[str, Any], str, str]] = {
    "a strategy that there is not": ({"strategy": "Fastest"}, "strategy", "RoundRobin"),
    "weighted capabilities without any": (
        {"strategy": "WeightedCapabilities"},
        "capabilities",
        "Name at least one",
    ),
    "capabilities that nobody looks at": (
        {"capabilities": [{"name": "gpu"}]},
        "capabilities",
        "Set spec.balancing.strategy to WeightedCapabilities",
    ),
    "one capability twice": (
        {**WEIGHTED, "capabilities": [{"name": "gpu"}, {"name": "gpu", "weight": 2}]},
        "capabilities",
        "Name each capability once",
    ),
    "a name with a space": (
        {**WEIGHTED, "capabilities": [{"name": "a gpu"}]},
        "capabilities[0].name",
        "letters, digits",
    ),
    "a weight of nothing": (
        {**WEIGHTED, "capabilities": [{"name": "gpu", "weight": 0}]},
        "capabilities[0].weight",
        "1",
    ),
    "more capabilities than a placement looks at": (
        {**WEIGHTED, "capabilities": [{"name": f"c{number}"} for number in range(17)]},
        "capabilities",
        "16",
    ),
}


@pytest.mark.parametrize(("spec", "field", "remedy"), BAD.values(), ids=BAD)
def test_bad_balancing_is_refused_with_field_and_remedy(spec: Any, field: str, remedy: str) -> None:
    with pytest.raises(ManifestError) as refused:
        load_manifests(_text(spec))
    (problem,) = refused.value.problems
    assert problem.field == f"spec.balancing.{field}"
    assert remedy in f"{problem.message} {problem.remedy}"


def _text(balancing: Any) -> str:
    return json.dumps(manifest({"balancing": balancing}))
