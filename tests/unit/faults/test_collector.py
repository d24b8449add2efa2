# SPDX-License-Identifier: Apache-2.0
"""What the simulated garbage collector takes for an orphan."""

from __future__ import annotations

from typing import Any

import pytest

from faults.collector import KINDS, orphans


def body(name: str, *owners: str) -> dict[str, Any]:
    """An object with its own name as UID."""
    references = [{"uid": owner} for owner in owners]
    return {"metadata": {"name": name, "uid": name, "ownerReferences": references}}


CASES: dict[str, tuple[dict[str, list[dict[str, Any]]], list[str]]] = {
    "an owner that is there": ({"AgentPool": [body("pool")], "Pod": [body("pod", "pool")]}, []),
    "an owner that is gone": ({"Pod": [body("pod", "pool")]}, ["pod"]),
    "one of two owners is there": (
        {"AgentInstance": [body("one")], "Pod": [body("pod", "pool", "one")]},
        [],
    ),
    "a pod of a Deployment": (
        {"Deployment": [body("support-warm")], "Pod": [body("support-warm-0a1b2c")]},
        [],
    ),
    "a pod of a Deployment that is gone": ({"Pod": [body("support-warm-0a1b2c")]}, ["support-warm-0a1b2c"]),
    "a Secret of nobody": ({"Secret": [body("keys")]}, []),
}


@pytest.mark.parametrize("name", CASES)
def test_what_belongs_to_nothing_is_an_orphan(name: str) -> None:
    found, wanted = CASES[name]
    everything = {kind.kind: found.get(kind.kind, []) for kind in KINDS}
    assert [one["metadata"]["name"] for _, one in orphans(everything)] == wanted
