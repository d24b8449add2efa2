# SPDX-License-Identifier: Apache-2.0
"""A pool is updated under load: a new configuration, a new image. No request fails, no state is lost."""

from __future__ import annotations

from typing import Any

import pytest

from chaos import images
from support.e2e import Installed, Pool, load
from support.kubernetes import until

TEXT = "The code word is juniper."
QUESTION = "code word"
ANSWERS = 50
TIERS = ("WARM", "HOT", "COLD")


@pytest.fixture(scope="module")
def pool(installed: Installed, namespace: str) -> Pool:
    """Two shared pods, three that wait, and an instance of each tier that knows something."""
    image = images.built(installed.kube)
    made = installed.pool(namespace, "updated", warm=2, waiting=3, agent={"image": image})
    made.ready()
    for tier in TIERS:
        made.teach(f"updated-{tier}", TEXT, tier)
    made.ready()
    return made


@pytest.mark.parametrize("what", ["config", "image"])
def test_a_change_of_the_agent_under_load_fails_no_request(pool: Pool, what: str) -> None:
    change: dict[str, Any] = {"config": {"revision": "2"}}
    if what == "image":
        change = {"image": images.built(pool.kube, "b")}
    numbers = iter(range(1_000_000))
    with load(lambda: pool.invoke(f"updated-{TIERS[next(numbers) % 3]}", QUESTION)) as seen:
        pool.change(agent=change)
        pool.ready()
        until(lambda: seen.answered > ANSWERS, f"requests are answered: {seen.failures}", 30)
        if what == "image":
            until(lambda: not images.behind(pool, change["image"]), "pods have the new image", 60)
    assert seen.failures == []
    for tier in TIERS:
        assert pool.asked(f"updated-{tier}", QUESTION) == TEXT
