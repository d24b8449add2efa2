# SPDX-License-Identifier: Apache-2.0
"""A mirror shows the newest of what it was told, in whatever order."""

from __future__ import annotations

from typing import Any

import pytest

from agentpool_operator.kube.kinds import PODS, SECRETS
from faults.mirror import Objects


def body(name: str, version: int, uid: str = "") -> dict[str, Any]:
    """An object of a version."""
    return {"metadata": {"name": name, "uid": uid or f"uid-{name}", "resourceVersion": str(version)}}


def shown(objects: Objects) -> dict[str, str]:
    """Versions by name."""
    return {one["metadata"]["name"]: one["metadata"]["resourceVersion"] for one in objects.list(PODS)}


@pytest.mark.parametrize("versions", [(9, 10), (10, 9), (10, 10)])
def test_of_two_versions_the_newer_one_counts(versions: tuple[int, int]) -> None:
    objects = Objects([PODS])
    for version in versions:
        objects.put(PODS, body("one", version))
    assert shown(objects) == {"one": "10"}


def test_what_was_deleted_does_not_come_back_with_a_late_event() -> None:
    objects = Objects([PODS])
    objects.put(PODS, body("one", 3))
    objects.drop(PODS, "one", "uid-one")
    objects.put(PODS, body("one", 4))
    assert shown(objects) == {}
    objects.put(PODS, body("one", 5, uid="another"))
    objects.drop(PODS, "one", "uid-one")
    assert shown(objects) == {"one": "5"}


def test_a_list_ends_what_it_does_not_show() -> None:
    objects = Objects([PODS])
    objects.put(PODS, body("one", 3))
    objects.put(PODS, body("two", 4))
    objects.replace(PODS, [body("two", 6), body("three", 5)])
    assert shown(objects) == {"two": "6", "three": "5"}
    assert objects.get(PODS, "one") is None


def test_a_kind_that_is_not_mirrored_is_no_trouble() -> None:
    objects = Objects([PODS])
    objects.drop(SECRETS, "one", "uid-one")
    assert objects.list(PODS) == []
