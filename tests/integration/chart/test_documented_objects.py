# SPDX-License-Identifier: Apache-2.0
"""The objects that the documentation shows are taken by a real API server as they stand there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from support.apiserver import ApiServer
from support.repository import ROOT
from support.snippets import snippets

COLLECTIONS = {
    "ConfigMap": "configmaps",
    "NetworkPolicy": "networkpolicies",
    "Pod": "pods",
    "Role": "roles",
    "RoleBinding": "rolebindings",
    "AgentPool": "agentpools",
    "AgentInstance": "agentinstances",
}
"""Kinds of Kubernetes and of ours; those of other projects are not known to a bare server."""


def documented() -> Iterator[Any]:
    for page in sorted(ROOT.glob("docs/**/*.md")):
        for snippet in snippets(page.relative_to(ROOT), page.read_text(encoding="utf-8")):
            if snippet.kind in ("objects", "manifest"):
                for number, found in enumerate(yaml.safe_load_all(snippet.code)):
                    if found and found["kind"] in COLLECTIONS:
                        yield pytest.param(found, id=f"{snippet.name}#{number}")


@pytest.mark.parametrize("body", list(documented()))
def test_it_is_taken(api: ApiServer, body: dict[str, Any]) -> None:
    namespace = body["metadata"].get("namespace", "default")
    made = api.create("/api/v1/namespaces", {"metadata": {"name": namespace}})
    assert made.status_code in (201, 409)
    version = body["apiVersion"]
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    answer = api.client.post(
        f"{root}/namespaces/{namespace}/{COLLECTIONS[body['kind']]}",
        json=body,
        params={"dryRun": "All", "fieldValidation": "Strict"},
    )
    assert answer.status_code == 201, answer.text
