# SPDX-License-Identifier: Apache-2.0
"""A node's drain: pods go through the Eviction API, their instances move, and no request fails."""

from __future__ import annotations

import pytest

from chaos.evictions import drain, evict
from support.e2e import Installed, Pool, load

TEXT = "The code word is heather."
QUESTION = "code word"
TIERS = ("WARM", "HOT", "COLD")


@pytest.fixture(scope="module")
def pool(installed: Installed, namespace: str) -> Pool:
    """Two shared pods, three that wait."""
    made = installed.pool(namespace, "driven", warm=2, waiting=3)
    made.ready()
    return made


def test_the_budget_lets_one_shared_pod_go_at_a_time(pool: Pool) -> None:
    first, second = pool.ready_pods()
    assert evict(pool, first)
    assert not evict(pool, second)
    drain(pool, [first], 60)
    pool.ready()
    drain(pool, [second], 60)
    pool.ready()


def test_every_pod_of_a_pool_is_evicted_and_no_request_fails(pool: Pool) -> None:
    pool.ready()
    for tier in TIERS:
        pool.teach(f"driven-{tier}", TEXT, tier)
    pool.ready()
    projects = iter(range(1_000_000))
    before = [pod["metadata"]["name"] for pod in pool.pods()]
    with load(lambda: pool.invoke(f"driven-{TIERS[next(projects) % 3]}", QUESTION)) as seen:
        drain(pool, before, 60)
        pool.ready()
    assert seen.failures == []
    assert seen.answered > 50
    for tier in TIERS:
        assert pool.asked(f"driven-{tier}", QUESTION) == TEXT
