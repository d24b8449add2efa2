# SPDX-License-Identifier: Apache-2.0
"""A host's live figures: of each instance, and in all."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from dataclasses import replace

import pytest

from agentpool_agent.host.exchange import Exchange
from agentpool_agent.host.views import entry_view, host_view
from agentpool_agent.wire import frames
from agentpool_agent.wire.nursery import Hello
from agentpool_core.errors import AgentPoolError, RateExceeded, Unavailable
from support.residents import KEY, START, HostRig, host_rig


@pytest.fixture
async def rig() -> HostRig:
    """A host with one READY instance."""
    return await host_rig()


def answer(rig: HostRig, exchange: Exchange, after: float) -> None:
    rig.now += after
    rig.resident.frame_received(frames.Commit(1, [frames.Finished(exchange.number, b"1")], {}))
    rig.resident.leave(exchange)


def fail(rig: HostRig, exchange: Exchange, code: str = "AgentFailed") -> None:
    rig.resident.frame_received(frames.Failed(exchange.number, code, "for a test"))
    rig.resident.leave(exchange)


async def test_an_instance_that_was_not_used_yet(rig: HostRig) -> None:
    load = entry_view(rig.host, rig.entry).load
    assert (load.active_commands, load.queue_length, load.average_response_time_ms) == (0, 0, 0.0)
    assert (load.success_rate, load.last_updated) == (1.0, START)


async def test_the_load_of_an_instance_follows_its_requests(rig: HostRig) -> None:
    first, second = rig.request(), rig.request()
    assert entry_view(rig.host, rig.entry).load.active_commands == 2
    answer(rig, first, after=0.1)
    fail(rig, second)
    answer(rig, rig.request(), after=0.2)
    load = entry_view(rig.host, rig.entry).load
    assert load.average_response_time_ms == pytest.approx(0.9 * 100 + 0.1 * 200)
    assert load.active_commands == 0
    assert load.success_rate == pytest.approx(2 / 3)
    assert load.last_updated == rig.entry.last_used == pytest.approx(START + 0.3)


async def test_totals_are_of_operations_and_their_outcomes(rig: HostRig) -> None:
    answer(rig, rig.request(), after=0.5)
    fail(rig, rig.request())
    fail(rig, rig.request(), "InputRejected")
    rig.resident.leave(rig.request())
    counters = host_view(rig.host).counters
    assert (counters.operations, counters.succeeded, counters.failed) == (4, 1, 1)
    assert counters.operation_seconds == pytest.approx(0.5)


@pytest.mark.parametrize("refusal", [RateExceeded("too many"), Unavailable("not now")], ids=["429", "503"])
async def test_a_request_that_is_refused_before_the_agent_has_it_is_no_operation(
    rig: HostRig, refusal: AgentPoolError
) -> None:
    rig.host.table.acquire(rig.entry, rig.now)
    exchange = rig.resident.begin("", rig.now + 10, 1000)
    exchange.fail(refusal)
    rig.resident.leave(exchange)
    counters = host_view(rig.host).counters
    assert (counters.operations, counters.failed, counters.operation_seconds) == (0, 0, 0.0)
    assert rig.entry.load.success_rate == 1.0


async def test_requests_that_wait_are_counted_by_instance_and_forgotten(rig: HostRig) -> None:
    told: list[tuple[str, bool]] = []
    rig.host.table.changed = lambda instance_id, urgent: told.append((instance_id, urgent))
    with ExitStack() as waits:
        for _ in range(3):
            waits.enter_context(rig.host.queued(KEY.instance_id))
        waits.enter_context(rig.host.queued("not there yet"))
        assert entry_view(rig.host, rig.entry).load.queue_length == 3
    assert rig.host.waiting == {}
    assert told == [(KEY.instance_id, False)] * 3, "no urgent report, and none of what is not known"
    with pytest.raises(asyncio.CancelledError), rig.host.queued(KEY.instance_id):
        raise asyncio.CancelledError
    assert rig.host.waiting == {}


async def test_capabilities_are_the_machine_the_guards_and_what_it_was_given() -> None:
    rig = await host_rig()
    (machine,) = host_view(rig.host).capabilities
    assert machine.startswith("arch:") and len(machine) > len("arch:")
    rig.host.settings = replace(rig.host.settings, capabilities=("gpu", "landlock-files"))
    rig.host.nursery.hello = Hello(1, "a:B", 0, ["landlock-files", "limit-memory"], {})
    assert host_view(rig.host).capabilities == sorted({machine, "gpu", "landlock-files", "limit-memory"})
