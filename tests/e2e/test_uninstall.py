# SPDX-License-Identifier: Apache-2.0
"""The release's own test, and its end. What is taken away here is deployed again at the end."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

import pytest

from support.e2e import RELEASE, SYSTEM, Installed
from support.kubernetes import Kubernetes, until

END_SECONDS = 60
DEPLOY_SECONDS = 240
CRDS = {"agentpools.agentpool.dev", "agentinstances.agentpool.dev"}
CLUSTER_WIDE = ("clusterroles", "clusterrolebindings")


@pytest.fixture(scope="module")
def deployed_again(installed: Installed) -> Iterator[None]:
    """Deploys at the end what the tests took away."""
    yield
    installed.kube.run(sys.executable, "tools/deploy.py", seconds=DEPLOY_SECONDS)


def test_helm_test_makes_one_real_request(installed: Installed) -> None:
    said = installed.kube.run("helm", "test", RELEASE, "-n", SYSTEM, "--timeout=50s")
    assert "Phase:          Succeeded" in said


def test_uninstalling_leaves_nothing_but_the_definitions(
    installed: Installed, namespace: str, deployed_again: None
) -> None:
    kube = installed.kube
    pool = installed.pool(namespace, "orphan", waiting=1)
    pool.ready()
    pool.teach("kept", "Kept words.", "COLD")
    began = time.monotonic()
    # Pools first, as the chart's notes say: their pods drain while the store is there. A namespace with pods
    # that may take long to end is looked at again only after half of that, however soon they end.
    kube.kubectl("delete", "ap", "--all", "-n", namespace)
    until(lambda: not kube.list("pods", namespace), "the pool's pods are gone", END_SECONDS)
    kube.run("helm", "uninstall", RELEASE, "-n", SYSTEM, "--wait", f"--timeout={END_SECONDS}s")
    for name in (SYSTEM, namespace):
        kube.delete("namespaces", "", name)

    def gone() -> bool:
        return all(kube.get("namespaces", "", name) is None for name in (SYSTEM, namespace))

    until(gone, "both namespaces are gone", began + END_SECONDS - time.monotonic())
    assert time.monotonic() - began < END_SECONDS
    assert left(kube) == CRDS


def left(kube: Kubernetes) -> set[str]:
    """Names of what is there in the whole cluster and of ours."""
    found = {
        one["metadata"]["name"]
        for kind in (*CLUSTER_WIDE, "customresourcedefinitions")
        for one in kube.list(kind)
        if "agentpool" in one["metadata"]["name"]
    }
    volumes = kube.list("persistentvolumes")
    return found | {
        one["metadata"]["name"] for one in volumes if one["spec"]["claimRef"]["namespace"] == SYSTEM
    }
