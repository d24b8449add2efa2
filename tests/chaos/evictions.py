# SPDX-License-Identifier: Apache-2.0
"""Pods driven out as a node's drain does it: through the Eviction API, which minds disruption budgets."""

from __future__ import annotations

import time
from collections.abc import Collection

from support.e2e import Pool
from support.kubernetes import path

RETRY_SECONDS = 1.0
DRAIN_SECONDS = 180.0


def evict(pool: Pool, name: str) -> bool:
    """Ask for one pod; False when a budget forbids it for now."""
    meta = {"name": name, "namespace": pool.namespace}
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": meta}
    answer = pool.kube.api.post(path("pods", pool.namespace, name) + "/eviction", json=body)
    assert answer.is_success or answer.status_code in (404, 429), answer.text
    return answer.status_code != 429


def drain(pool: Pool, names: Collection[str], seconds: float = DRAIN_SECONDS) -> int:
    """Evict pods, all at once and again where a budget forbids it, until they are gone; how often one did."""
    asked, refused = set(names), 0
    deadline = time.monotonic() + seconds
    while left := {pod["metadata"]["name"] for pod in pool.pods()} & set(names):
        assert time.monotonic() < deadline, f"not gone after {seconds:g} s: {sorted(left)}\n{pool.explain}"
        accepted = {name for name in sorted(asked & left) if evict(pool, name)}
        asked -= accepted
        refused += len(asked & left)
        time.sleep(RETRY_SECONDS)
    return refused
