# SPDX-License-Identifier: Apache-2.0
"""Forgetting a tenant: rounds over a list until nothing is left, or time is up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from agentpool_core.errors import AgentPoolError, InstanceNotFound, StoreUnavailable
from agentpool_gateway.dispatch.forgetting import Forgetting
from agentpool_gateway.dispatch.listing import ListQuery, Page
from agentpool_proto.v1.types_pb2 import Instance

PAGE = 3


def instance(number: int, **fields: Any) -> Instance:
    one = Instance(id=f"inst-{number:04}", tenant_id="acme", project_id=str(number), state="PAUSED")
    one.MergeFrom(Instance(**fields))
    return one


class Pool:
    """A list and what a termination of each instance does."""

    def __init__(self, *instances: Instance) -> None:
        self.known = {one.id: one for one in instances}
        self.ended: list[str] = []
        self.refusals: dict[str, list[AgentPoolError]] = {}
        self.rounds = 0
        self.between: Callable[[int], None] = lambda _round: None

    async def page(self, query: ListQuery) -> Page:
        if not query.cursor:
            self.rounds += 1
            self.between(self.rounds)
        found = sorted((one for one in self.known.values() if query.matches(one)), key=lambda one: one.id)
        found = [one for one in found if one.id > query.cursor]
        return Page(
            [Instance.FromString(one.SerializeToString()) for one in found[:PAGE]],
            found[PAGE - 1].id if len(found) > PAGE else "",
        )

    async def terminate(self, instance_id: str) -> Instance:
        if refusals := self.refusals.get(instance_id):
            raise refusals.pop(0)
        one = self.known.get(instance_id)
        if one is None:
            raise InstanceNotFound("gone")
        self.ended.append(instance_id)
        if one.state == "BUSY":
            one.wish = "Terminate"
            return one
        return Instance(id=self.known.pop(instance_id).id, state="TERMINATED")

    async def forget(self, *, once: bool = False) -> tuple[int, int, int, int]:
        pause = 1000.0 if once else 0.001
        result = await Forgetting(self.page, self.terminate, pause).forget("acme", 60.0)
        self.result = result
        return result.erased, result.busy, len(result.declared), len(result.failed)


async def test_every_instance_on_every_page_is_erased_and_others_are_not() -> None:
    pool = Pool(*(instance(number) for number in range(10)), instance(99, tenant_id="other"))
    assert await pool.forget() == (10, 0, 0, 0)
    assert list(pool.known) == ["inst-0099"]


async def test_a_tenant_without_instances_is_forgotten_already() -> None:
    assert await Pool().forget() == (0, 0, 0, 0)


@pytest.mark.parametrize("fields", [{"origin": "declared"}, {"declared_uid": "uid"}])
async def test_declared_instances_are_told_and_left(fields: dict[str, str]) -> None:
    pool = Pool(instance(1), instance(2, **fields))
    assert await pool.forget() == (1, 0, 1, 0)
    assert (pool.result.declared[0].project_id, pool.result.remaining) == ("2", 0)
    assert pool.ended == ["inst-0001"]


async def test_a_busy_one_is_wished_once_and_waited_for() -> None:
    pool = Pool(instance(1, state="BUSY"), instance(2))

    def end_in_the_third_round(number: int) -> None:
        if number == 3:
            del pool.known["inst-0001"]

    pool.between = end_in_the_third_round
    assert await pool.forget() == (2, 0, 0, 0)
    assert pool.ended.count("inst-0001") == 1


async def test_what_is_busy_when_time_is_up_is_told() -> None:
    pool = Pool(instance(1, state="BUSY"))
    assert await pool.forget(once=True) == (0, 1, 0, 0)
    assert pool.result.remaining == 1


async def test_a_failure_is_tried_again_and_forgotten_when_it_passes() -> None:
    pool = Pool(instance(1), instance(2))
    pool.refusals["inst-0001"] = [StoreUnavailable("away")]
    assert await pool.forget() == (2, 0, 0, 0)


async def test_a_failure_that_stays_is_told_with_its_reason() -> None:
    pool = Pool(instance(1), instance(2))
    pool.refusals["inst-0001"] = [StoreUnavailable("away")] * 1000
    assert await pool.forget(once=True) == (1, 0, 0, 1)
    assert pool.result.failed[0].error.code == "StoreUnavailable"


async def test_one_that_vanished_meanwhile_is_no_failure() -> None:
    pool = Pool(instance(1))
    pool.refusals["inst-0001"] = [InstanceNotFound("gone")]
    pool.between = lambda number: pool.known.clear() if number == 2 else None
    assert await pool.forget() == (1, 0, 0, 0)


async def test_one_that_comes_back_during_the_call_is_erased_too() -> None:
    pool = Pool(instance(1))

    def make_again(number: int) -> None:
        if number == 2:
            pool.known["inst-0001"] = instance(1)

    pool.between = make_again
    assert await pool.forget() == (1, 0, 0, 0)
    assert not pool.known
    assert pool.rounds == 3
