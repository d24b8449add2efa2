# SPDX-License-Identifier: Apache-2.0
"""A namespace goes with the pools that live in it, and soon: nothing has to be deleted before it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.e2e import SYSTEM, Installed, Pool, declaration
from support.kubernetes import until

END_SECONDS = 60
STORE = "agentpool-redis"


def lived_in(installed: Installed, namespace: str) -> Pool:
    """A pool with residents in each tier, and pods that wait."""
    pool = installed.pool(namespace, "living", waiting=2)
    installed.kube.apply("agentinstances", declaration(namespace, "vip", "living", tier="HOT"))
    pool.ready()
    for project in ("one", "two", "three"):
        pool.teach(project, f"{project} words.")
    pool.teach("cold", "Cold words.", "COLD")

    def resident() -> bool:
        vip = installed.kube.get("agentinstances", namespace, "vip") or {}
        return bool((vip.get("status") or {}).get("state") == "READY")

    until(resident, "vip is READY")
    pool.ready()
    return pool


def ends(installed: Installed, namespace: str) -> None:
    """Delete a namespace, which has to be gone soon."""
    installed.kube.delete("namespaces", "", namespace)
    until(
        lambda: installed.kube.get("namespaces", "", namespace) is None, f"{namespace} is gone", END_SECONDS
    )


@pytest.fixture
def no_store(installed: Installed) -> Iterator[None]:
    """Takes the release's Redis away when it is used, and brings it back."""
    yield
    installed.kube.kubectl("-n", SYSTEM, "scale", f"statefulset/{STORE}", "--replicas=1")
    installed.kube.kubectl("-n", SYSTEM, "rollout", "status", f"statefulset/{STORE}", "--timeout=60s")


def test_a_namespace_with_living_pools_ends_within_a_minute(installed: Installed) -> None:
    namespace = installed.namespace("ends")
    lived_in(installed, namespace)
    ends(installed, namespace)


def test_one_whose_pods_are_still_starting_ends_as_soon(installed: Installed) -> None:
    namespace = installed.namespace("starts")
    pool = installed.pool(namespace, "rising", warm=2, waiting=3)
    until(lambda: len(pool.pods()) >= 5, "the pods are made")
    ends(installed, namespace)


def test_it_does_so_without_the_store(installed: Installed, no_store: None) -> None:
    namespace = installed.namespace("storeless")
    lived_in(installed, namespace)
    installed.kube.kubectl("-n", SYSTEM, "scale", f"statefulset/{STORE}", "--replicas=0")
    until(lambda: not installed.parts("redis"), "the store is gone")
    ends(installed, namespace)
