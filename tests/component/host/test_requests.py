# SPDX-License-Identifier: Apache-2.0
"""Requests to one host with real workers: answers, streams, single activation, quotas, bad input."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agentpool_core.errors import (
    AgentCreationFailed,
    AgentFailure,
    AgentPoolError,
    ConcurrencyExceeded,
    DeadlineExceeded,
    IdempotencyUnsupported,
    InputRejected,
    InstanceFailed,
    InvalidRequest,
    NoHost,
    PayloadTooLarge,
    RateExceeded,
    StateTooLarge,
)
from support.hosts import COUNTER, FAULTY, host_pod, pool_config


async def test_an_echo_comes_back_and_the_second_answer_needs_no_activation() -> None:
    async with host_pod(pool_config()) as pod:
        first = await pod.client.invoke("t", "p", {"a": [1, "ü"]})
        second = await pod.client.invoke("t", "p", "again")

    assert (first.output, second.output) == ({"a": [1, "ü"]}, "again")
    assert (first.accepted.activated, second.accepted.activated) == (True, False)
    assert first.accepted.incarnation == second.accepted.incarnation == pod.client.incarnation
    assert first.accepted.pod == pod.name
    timing = first.done.timing
    assert 0 < timing.activated_ms <= timing.admitted_ms <= timing.first_event_ms <= timing.done_ms
    assert second.done.timing.activated_ms == 0


async def test_chunks_come_in_order_before_the_answer() -> None:
    async with host_pod(pool_config(agent=COUNTER)) as pod:
        reply = await pod.client.invoke("t", "p", "stream")

    assert (reply.chunks, reply.output) == ([0, 1, 2], 1)


async def test_a_hundred_concurrent_first_requests_activate_once() -> None:
    async with host_pod(pool_config(agent=COUNTER)) as pod:
        replies = await asyncio.gather(*(pod.client.invoke("t", "p", "add") for _ in range(100)))

    assert sorted(reply.output for reply in replies)[-1] == 100
    assert len({reply.accepted.epoch for reply in replies}) == 1
    assert pod.log.count("instance_activated") == 1


async def test_projects_have_instances_of_their_own() -> None:
    async with host_pod(pool_config(agent=COUNTER)) as pod:
        for project in ("a", "a", "b"):
            reply = await pod.client.invoke("t", project, "add")
        other = await pod.client.invoke("a", "t", "add")

    assert (reply.output, other.output) == (1, 1)


async def test_permits_are_exact() -> None:
    async with host_pod(pool_config(agent=COUNTER, concurrent=2, limits={"queue_seconds": 0})) as pod:
        await pod.client.invoke("t", "p", "get")
        results = await asyncio.gather(
            *(pod.client.invoke("t", "p", {"sleep": 0.3}) for _ in range(5)), return_exceptions=True
        )
        refused = [result for result in results if isinstance(result, ConcurrencyExceeded)]
        assert len(refused) == 3
        assert refused[0].retry_after_seconds is not None
        assert (await pod.client.invoke("t", "p", "get")).output == 0


async def test_the_rate_is_limited_and_says_when_to_come_back() -> None:
    async with host_pod(pool_config(per_minute=3)) as pod:
        for _ in range(3):
            await pod.client.invoke("t", "p")
        with pytest.raises(RateExceeded) as refused:
            await pod.client.invoke("t", "p")
        await pod.client.invoke("t", "another project has its own")

    assert refused.value.retry_after_seconds == pytest.approx(20, abs=1)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        pytest.param({"tenant": ""}, InvalidRequest, id="a missing tenant is refused"),
        pytest.param(
            {"project": "x" * 254}, InvalidRequest, id="a project name over 253 characters is refused"
        ),
        pytest.param({"body": "x" * 2000}, PayloadTooLarge, id="an input over the limit is refused"),
        pytest.param({"tier": "LUKEWARM"}, InvalidRequest, id="an unknown tier is refused"),
        pytest.param(
            {"tier": "COLD", "project": "new"},
            NoHost,
            id="a new instance of a tier not taken here is refused",
        ),
        pytest.param({"key": "k"}, IdempotencyUnsupported, id="a key with the memory store is refused"),
        pytest.param({"body": "reject"}, InputRejected, id="an agent may refuse the input"),
        pytest.param({"body": "raise"}, AgentFailure, id="an agent's exception is an agent failure"),
        pytest.param({"body": {"blob": 5000}}, StateTooLarge, id="a state over the limit is not kept"),
        pytest.param({"body": "slow", "timeout": 0.4}, DeadlineExceeded, id="the deadline ends a request"),
    ],
)
async def test_bad_requests_change_nothing(options: dict[str, Any], error: type[AgentPoolError]) -> None:
    limits = {"input_bytes": 1000, "state_bytes": 4000, "request_timeout_seconds": 0.3}
    async with host_pod(pool_config(agent=COUNTER, limits=limits)) as pod:
        await pod.client.invoke("t", "p", "add")
        with pytest.raises(error) as raised:
            await pod.client.invoke(**{"tenant": "t", "project": "p", "body": "add", **options})
        after = await pod.client.invoke("t", "p", "get")

    assert type(raised.value) is error
    assert after.output == 1


async def test_a_setup_that_fails_is_not_tried_again_before_its_back_off() -> None:
    async with host_pod(pool_config(agent=FAULTY, config={"setup": "raise"})) as pod:
        with pytest.raises(AgentCreationFailed, match="no database"):
            await pod.client.invoke("t", "p")
        with pytest.raises(InstanceFailed) as second:
            await pod.client.invoke("t", "p")
        assert second.value.retry_after_seconds is not None
        assert 0 < second.value.retry_after_seconds <= 1
        await asyncio.sleep(second.value.retry_after_seconds + 0.05)
        with pytest.raises(AgentCreationFailed):
            await pod.client.invoke("t", "p")
        with pytest.raises(InstanceFailed) as fourth:
            await pod.client.invoke("t", "p")

    assert fourth.value.retry_after_seconds is not None
    assert 1 < fourth.value.retry_after_seconds <= 3


async def test_a_setup_that_hangs_has_a_deadline() -> None:
    config = pool_config(agent=FAULTY, config={"setup": "hang"}, limits={"creation_timeout_seconds": 0.5})
    async with host_pod(config) as pod:
        with pytest.raises(AgentPoolError) as raised:
            await pod.client.invoke("t", "p")

    assert raised.value.code == "AgentCreationTimeout"


async def test_isolation_that_is_required_and_not_there_refuses_the_instance() -> None:
    async with host_pod(pool_config(required=("force-field",))) as pod:
        with pytest.raises(AgentCreationFailed, match="force-field"):
            await pod.client.invoke("t", "p")


async def test_a_caller_that_goes_away_gives_its_permit_back() -> None:
    async with host_pod(pool_config(agent=COUNTER, concurrent=1)) as pod:
        await pod.client.invoke("t", "p", "get")
        call = pod.client.begin("t", "p", "slow")
        await call.read()
        call.cancel()
        reply = await pod.client.admitted("t", "p", "get")

    assert reply.output == 0, "the cancelled request changed the count before it waited, and was rolled back"


async def test_a_slow_reader_holds_up_nobody_else() -> None:
    async with host_pod(pool_config(agent=FAULTY, concurrent=4)) as pod:
        await pod.client.invoke("t", "p")
        flood = pod.client.begin("t", "flooded", "flood")
        await flood.read()
        await asyncio.sleep(0.5)
        async with asyncio.timeout(2):
            assert (await pod.client.invoke("t", "p", "still here")).output == "still here"
        flood.cancel()


async def test_a_reader_that_never_read_gives_its_permit_back_when_it_goes() -> None:
    async with host_pod(pool_config(agent=FAULTY, concurrent=1)) as pod:
        await pod.client.invoke("t", "p")
        flood = pod.client.begin("t", "p", "flood")
        await flood.read()
        await asyncio.sleep(0.1)
        flood.cancel()
        await pod.client.admitted("t", "p")
