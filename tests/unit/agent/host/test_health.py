# SPDX-License-Identifier: Apache-2.0
"""Who is asked for a sign of life, and who is ended for want of one: with a clock that the test moves."""

from __future__ import annotations

import pytest

from agentpool_agent.host.health import Health
from agentpool_agent.wire import frames
from agentpool_core.recovery import Cause
from support.residents import HostRig, host_rig

HANG = 10.0


@pytest.fixture
async def rig() -> HostRig:
    """A host with one READY instance, whose worker says nothing by itself."""
    return await host_rig(health={"interval_seconds": 30.0, "timeout_seconds": 4.0}, hang_seconds=HANG)


def run(rig: HostRig, health: Health, seconds: int, *, answers: bool = False) -> None:
    """Let time pass, look by look."""
    for _ in range(seconds):
        rig.now += 1.0
        health.look(rig.now)
        if answers:
            rig.answer()


async def test_an_idle_worker_is_asked_once_in_an_interval(rig: HostRig) -> None:
    run(rig, Health(rig.host, 1.0), 95, answers=True)
    assert rig.worker.pings == 3
    assert not rig.worker.lost


async def test_an_idle_worker_that_does_not_answer_is_a_hang_after_its_timeout(rig: HostRig) -> None:
    health = Health(rig.host, 1.0)
    run(rig, health, 34)
    assert not rig.worker.lost
    run(rig, health, 1)
    assert rig.lost == [Cause.HANG]


async def test_a_busy_worker_is_asked_at_once_and_has_a_limit_of_its_own(rig: HostRig) -> None:
    health = Health(rig.host, 1.0)
    rig.request()
    run(rig, health, 5, answers=True)
    assert rig.worker.pings == 5
    run(rig, health, 11)
    assert not rig.worker.lost
    run(rig, health, 1)
    assert rig.lost == [Cause.HANG]


async def test_after_a_request_was_given_up_on_its_worker_is_asked_until_it_answers(rig: HostRig) -> None:
    health = Health(rig.host, 1.0)
    exchange = rig.request()
    rig.now += 1.0
    rig.resident.leave(exchange)
    assert rig.entry.active == 0
    run(rig, health, 3, answers=True)
    assert rig.worker.pings == 1, "it answered, and is trusted again"
    rig.resident.leave(rig.request())
    run(rig, health, 12)
    assert rig.lost == [Cause.HANG]


async def test_time_that_the_host_itself_was_held_up_is_held_against_no_worker(rig: HostRig) -> None:
    health = Health(rig.host, 1.0)
    rig.request()
    run(rig, health, 3)
    rig.now += 100.0
    health.look(rig.now)
    assert not rig.worker.lost
    run(rig, health, 5)
    assert not rig.worker.lost
    run(rig, health, 4)
    assert rig.lost == [Cause.HANG]
    assert any(isinstance(frame, frames.Ping) for frame in rig.worker.sent)
