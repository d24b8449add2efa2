# SPDX-License-Identifier: Apache-2.0
"""The deployed release, and for each file a namespace of its own that is removed in the background."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from support.e2e import SYSTEM, Installed
from support.kubernetes import Kubernetes, NoCluster, connected

LAST = "test_uninstall"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes the release away comes last."""
    items.sort(key=lambda item: item.path.stem == LAST)


@pytest.fixture(scope="session")
def kube() -> Iterator[Kubernetes]:
    """The cluster; without one every test fails with what to do."""
    with ExitStack() as stack:
        try:
            cluster = stack.enter_context(connected())
        except NoCluster as exc:
            cluster, missing = None, str(exc)
        if cluster is None:
            pytest.fail(missing, pytrace=False)
        yield cluster


@pytest.fixture(scope="session")
def installed(kube: Kubernetes) -> Iterator[Installed]:
    """The release, ready."""
    remedy = "Run `make deploy`."
    if kube.get("deployments", SYSTEM, "agentpool-gateway") is None:
        pytest.fail(f"the release is not deployed. {remedy}", pytrace=False)
    url = kube.environ.get("AGENTPOOL_URL")
    if not url:
        pytest.fail("AGENTPOOL_URL is not set: `.devcluster/env` exports it.", pytrace=False)
    for part in (
        "deployment/agentpool-gateway",
        "deployment/agentpool-operator",
        "statefulset/agentpool-redis",
    ):
        kube.kubectl("-n", SYSTEM, "rollout", "status", part, "--timeout=50s")
    release = Installed(kube, url)
    yield release
    release.close()


@pytest.fixture(scope="module")
def namespace(installed: Installed, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace for the tests of one file."""
    purpose = request.path.stem.removeprefix("test_").replace("_", "-")
    name = installed.namespace(purpose)
    yield name
    installed.kube.delete("namespaces", "", name)
