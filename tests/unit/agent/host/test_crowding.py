# SPDX-License-Identifier: Apache-2.0
"""Who is refused where agents have more to compute than there are cores."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence

import pytest

from agentpool_agent.host.crowding import FLOOR, STALE_SECONDS, Crowding
from agentpool_agent.wire.nursery import Effort
from agentpool_core.errors import HostOverloaded


class Scene:
    """A host whose workers share two cores, whatever they are asked for."""

    def __init__(self) -> None:
        self.now = 100.0
        self.busy: dict[int, int] = {}
        self.asked: list[list[int]] = []
        self.crowding = Crowding(lambda: self.now, lambda: self.busy.items(), self._ask)

    def _ask(self, workers: Sequence[int]) -> None:
        self.asked.append(list(workers))

    def take(self, worker: int, tenant: str = "t") -> None:
        self.busy[worker] = self.busy.get(worker, 0) + 1
        self.crowding.take(tenant, self.busy[worker])

    def check(self, worker: int, tenant: str = "t") -> None:
        self.crowding.check(tenant, self.busy.get(worker, 0))

    def measure(self, seconds: float = 0.1) -> None:
        """Two looks, between which every busy worker was ready all the time."""
        part = min(1.0, 2 / max(len(self.busy), 1))
        for at in (self.now, self.now + seconds):
            self.crowding._look()  # the timer's call
            efforts = [Effort(worker, at * part, at * (1 - part)) for worker in self.asked[-1]]
            self.crowding.measured(efforts, at)
        self.now += seconds


@pytest.fixture
async def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1})
    return Scene()


async def test_few_requests_are_not_even_asked_about(scene: Scene) -> None:
    for worker in range(FLOOR - 1):
        scene.take(worker)
    assert not scene.crowding.crowded


async def test_a_further_busy_instance_is_refused_with_a_time_and_a_remedy(scene: Scene) -> None:
    for worker in range(FLOOR + 4):
        scene.take(worker)
    scene.measure()
    assert scene.crowding.limit == FLOOR
    with pytest.raises(HostOverloaded) as caught:
        scene.check(99)
    assert caught.value.retry_after_seconds and caught.value.remedy
    assert scene.crowding.refused == 1


async def test_nobody_is_refused_by_what_was_measured_long_ago(scene: Scene) -> None:
    for worker in range(FLOOR + 4):
        scene.take(worker)
    scene.measure()
    scene.now += STALE_SECONDS + 0.1
    scene.check(99)


async def test_one_instance_alone_has_all_its_permits(scene: Scene) -> None:
    for _ in range(FLOOR + 4):
        scene.take(1)
    scene.measure()
    scene.check(1)


async def test_an_instance_with_many_requests_keeps_no_other_one_from_its_first(scene: Scene) -> None:
    for _ in range(FLOOR):
        scene.take(1, "greedy")
    scene.take(2, "other")
    scene.measure()
    scene.check(3, "third")
    with pytest.raises(HostOverloaded):
        scene.check(1, "greedy")


async def test_a_tenant_with_all_places_leaves_some_to_others(scene: Scene) -> None:
    for worker in range(FLOOR):
        scene.take(worker, "greedy")
    scene.measure()
    with pytest.raises(HostOverloaded):
        scene.check(98, "greedy")
    scene.check(99, "other")


async def test_a_place_comes_free_with_the_end_of_a_request(scene: Scene) -> None:
    for worker in range(FLOOR):
        scene.take(worker)
    scene.measure()
    scene.crowding.give("t", 0)
    scene.check(99)


async def test_looks_end_with_the_requests(scene: Scene) -> None:
    scene.take(1)
    await asyncio.sleep(0.15)
    assert scene.asked == [[1]]
    scene.crowding.give("t", 0)
    scene.busy.clear()
    await asyncio.sleep(0.6)
    assert len(scene.asked) == 1
