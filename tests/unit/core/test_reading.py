# SPDX-License-Identifier: Apache-2.0
"""Objects of the API server: what a newer version added is left out, what is wrong is refused."""

from __future__ import annotations

import copy

import pytest

from agentpool_core.api import AgentPool, read_object
from agentpool_core.errors import InvalidRequest
from support.builders import agent_pool, manifest


def test_fields_of_a_newer_version_are_left_out_and_the_object_stays_as_it_was() -> None:
    body = manifest({"tiers": {"warm": {"replicas": 3, "later": {"x": 1}}}, "evenLater": True})
    body["metadata"] |= {"managedFields": [], "resourceVersion": "7"}
    body["status"] = {"whatever": 1}
    before = copy.deepcopy(body)
    assert read_object(AgentPool, body) == agent_pool({"tiers": {"warm": {"replicas": 3}}})
    assert body == before


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"warmup": {"count": -1}}, "spec.warmup.count"),
        ({"warmup": {"count": -1}, "later": 1}, "spec.warmup.count"),
        ({"agent": {"entrypoint": "nonsense"}}, "spec.agent.entrypoint"),
    ],
)
def test_what_is_wrong_is_refused_with_its_field(spec: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidRequest, match=field) as refused:
        read_object(AgentPool, manifest(spec))
    assert refused.value.hint
