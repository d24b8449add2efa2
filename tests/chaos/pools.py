# SPDX-License-Identifier: Apache-2.0
"""The pool of a run: three tiers on a small node, in a namespace that goes with the run."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from agentpool_core.cluster import ROLE_GENERIC
from chaos import images
from support.e2e import SYSTEM, Installed, Pool
from support.kubernetes import Kubernetes, NoCluster, connected, until

WARM_PODS = 2
WAITING = 3
READY_SECONDS = 180
UNLIMITED = {"memory": "64Mi", "cpu": "100m", "concurrentRequests": 50, "requestsPerMinute": 100_000}
TIERS: dict[str, Any] = {
    "hot": {"quota": UNLIMITED, "resources": {"requests": {"cpu": "20m"}}},
    "warm": {
        "replicas": WARM_PODS,
        "instancesPerReplica": 30,
        "quota": UNLIMITED,
        "resources": {"requests": {"cpu": "50m"}},
    },
    "cold": {"idleSeconds": 15, "quota": UNLIMITED, "resources": {"requests": {"cpu": "20m"}}},
}


@contextmanager
def release() -> Iterator[Installed]:
    """The deployed release. Exits with what to do when there is none."""
    try:
        with connected() as kube:
            url = kube.environ.get("AGENTPOOL_URL", "")
            if not url or kube.get("deployments", SYSTEM, "agentpool-gateway") is None:
                sys.exit("error: the release is not deployed; run `make cluster-up deploy`")
            installed = Installed(kube, url)
            yield installed
            installed.close()
    except NoCluster as exc:
        sys.exit(f"error: {exc}")


@contextmanager
def pool_of(installed: Installed, purpose: str, **more: Any) -> Iterator[Pool]:
    """A pool of ledgers, ready; its namespace is removed afterwards."""
    namespace = installed.namespace(f"chaos-{purpose}")
    try:
        pool = installed.pool(namespace, "ledger", **(_settings(installed.kube) | more))
        pool.ready(READY_SECONDS)
        yield pool
    finally:
        installed.kube.delete("namespaces", "", namespace)


def _settings(kube: Kubernetes) -> dict[str, Any]:
    return {
        "agent": {"image": images.built(kube)},
        "entrypoint": images.ENTRYPOINT,
        "tiers": TIERS,
        "warmup": {"enabled": True, "count": WAITING},
        "limits": {"maxInstances": 1000},
        # What is killed on purpose again and again is not to be left alone as poisoned.
        "recovery": {"maxFailuresPerHour": 1000},
    }


def start_all(pool: Pool, projects: dict[str, str]) -> None:
    """Let each project have its instance, a pod of its own one after another."""
    for project, tier in projects.items():
        until(partial(_started, pool, project, tier), f"{project} is there", 60)
        if tier != "WARM":
            until(lambda: len(pool.ready_pods(ROLE_GENERIC)) >= WAITING, "pods wait", 60)
    pool.ready(READY_SECONDS)


def _started(pool: Pool, project: str, tier: str) -> bool:
    return pool.invoke(project, "count", tier).status_code == 200
