# SPDX-License-Identifier: Apache-2.0
"""Leader election: one at a time, whatever the clocks of other machines say."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from agentpool_operator.kube.client import REQUEST_SECONDS
from agentpool_operator.kube.kinds import Conflict, Kind, NotLeader, Object, Retry
from agentpool_operator.kube.leader import HOLD_SECONDS, LEASE_SECONDS, RETRY_SECONDS, Elector


class Server:
    """One Lease with optimistic locking."""

    def __init__(self) -> None:
        self.lease: Object | None = None
        self.version = 0
        self.away = False
        self.before_write: list[Any] = []

    async def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        if self.away:
            raise Retry(0, "NoAnswer", "away")
        return copy.deepcopy(self.lease)

    async def create(self, kind: Kind, namespace: str, body: Object) -> Object:
        if self.lease is not None:
            raise Conflict(409, "AlreadyExists", "taken")
        return self._write(body)

    async def replace(self, kind: Kind, namespace: str, body: Object) -> Object:
        if self.away:
            raise Retry(0, "NoAnswer", "away")
        for step in self.before_write:
            step()
        assert self.lease is not None
        if body["metadata"]["resourceVersion"] != self.lease["metadata"]["resourceVersion"]:
            raise Conflict(409, "Conflict", "changed")
        return self._write(body)

    def _write(self, body: Object) -> Object:
        self.version += 1
        self.lease = copy.deepcopy(body)
        self.lease["metadata"]["resourceVersion"] = str(self.version)
        return self.lease


class Time:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


def candidate(server: Server, time: Time, name: str, wall: float = 0.0) -> Elector:
    return Elector(server, "agents", "operator", name, clock=time, wall=lambda: wall, sleep=time.sleep)


async def test_the_first_candidate_leads_at_once() -> None:
    server, time = Server(), Time()
    one = candidate(server, time, "one")
    with pytest.raises(NotLeader):
        one.check()
    await one.acquire()
    one.check()
    assert server.lease is not None
    assert server.lease["spec"]["holderIdentity"] == "one"


async def test_another_waits_a_whole_lease_even_with_a_clock_that_is_years_ahead() -> None:
    server, time = Server(), Time()
    await candidate(server, time, "one").acquire()
    began = time.now
    two = candidate(server, time, "two", wall=4e9)
    await two.acquire()
    assert time.now - began > LEASE_SECONDS
    assert time.now - began <= LEASE_SECONDS + 2 * RETRY_SECONDS
    assert server.lease is not None
    assert server.lease["spec"]["leaseTransitions"] == 1


async def test_a_leader_that_renews_is_never_replaced() -> None:
    server, time = Server(), Time()
    one, two = candidate(server, time, "one"), candidate(server, time, "two")
    await one.acquire()
    for _ in range(50):
        time.now += RETRY_SECONDS
        assert await one._try()
        assert not await two._try()


async def test_a_lease_that_was_given_up_is_taken_at_once() -> None:
    server, time = Server(), Time()
    one, two = candidate(server, time, "one"), candidate(server, time, "two")
    await one.acquire()
    await one.release()
    began = time.now
    await two.acquire()
    assert time.now == began
    with pytest.raises(NotLeader):
        one.check()


async def test_a_leader_that_slept_writes_nothing_when_it_wakes() -> None:
    server, time = Server(), Time()
    one = candidate(server, time, "one")
    await one.acquire()
    time.now += HOLD_SECONDS
    with pytest.raises(NotLeader):
        one.check()


def test_writing_ends_before_another_can_begin() -> None:
    assert HOLD_SECONDS + REQUEST_SECONDS < LEASE_SECONDS


async def test_a_leader_without_a_server_gives_up_in_time() -> None:
    server, time = Server(), Time()
    one = candidate(server, time, "one")
    await one.acquire()
    began = time.now
    server.away = True
    await one.hold()
    assert HOLD_SECONDS <= time.now - began <= HOLD_SECONDS + RETRY_SECONDS


async def test_a_short_outage_does_not_cost_the_lease() -> None:
    server, time = Server(), Time()
    one = candidate(server, time, "one")
    await one.acquire()
    server.away = True
    time.now += RETRY_SECONDS
    assert not await one._try()
    assert one.leading
    server.away = False
    assert await one._try()


async def test_of_two_that_try_at_once_one_leads() -> None:
    server, time = Server(), Time()
    await candidate(server, time, "gone").acquire()
    two, three = candidate(server, time, "two"), candidate(server, time, "three")
    assert not await two._try()
    assert not await three._try()
    time.now += LEASE_SECONDS + 1

    def intrude() -> None:
        server.before_write.clear()
        assert server.lease is not None
        server.lease["spec"]["holderIdentity"] = "three"
        server._write(server.lease)

    server.before_write.append(intrude)
    assert not await two._try()
    assert not two.leading


async def test_a_stranger_s_lease_is_not_released() -> None:
    server, time = Server(), Time()
    one = candidate(server, time, "one")
    await one.acquire()
    time.now += LEASE_SECONDS * 2
    assert server.lease is not None
    server.lease["spec"]["holderIdentity"] = "two"
    await one.release()
    assert server.lease["spec"]["holderIdentity"] == "two"
