# SPDX-License-Identifier: Apache-2.0
"""Requests whose callers want the answer alone: the same as a stream of events, told in another way."""

from __future__ import annotations

import asyncio
import time

import grpc.aio
import msgspec
import pytest

from agentpool_core.errors import ConcurrencyExceeded, InstanceCrashed
from agentpool_rpc.acceptance import tells_acceptance
from agentpool_rpc.status import from_rpc_error
from support.hosts import COUNTER, FAULTY, HostPod, host_pod, pool_config


async def failed(pod: HostPod, body: object, project: str = "p") -> grpc.aio.AioRpcError:
    """The error of a request."""
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await pod.client.begin("t", project, body, unary=True)
    return raised.value


async def test_the_answer_is_that_of_a_stream_without_its_parts() -> None:
    async with host_pod(pool_config(agent=COUNTER)) as pod:
        streamed = await pod.client.invoke("t", "p", "stream")
        call = pod.client.begin("t", "p", "stream", unary=True)
        response = await call
        assert tells_acceptance(await call.initial_metadata())
    assert msgspec.json.decode(response.done.output) == streamed.output + 1 == 2
    streamed.accepted.activated = False
    assert response.accepted == streamed.accepted
    timing = response.done.timing
    assert 0 < timing.admitted_ms <= timing.first_event_ms <= timing.done_ms


async def test_it_is_told_of_before_the_agent_has_an_answer() -> None:
    async with host_pod(pool_config(agent=COUNTER)) as pod:
        await pod.client.invoke("t", "p", "get")
        began = time.monotonic()
        call = pod.client.begin("t", "p", {"sleep": 30}, unary=True)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            # What is being served when its process is killed was accepted, and that is still known.
            await asyncio.gather(call, kill_soon(pod))
        assert time.monotonic() - began < 20
    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
    assert from_rpc_error(raised.value) is None
    assert tells_acceptance(raised.value.initial_metadata())


async def kill_soon(pod: HostPod) -> None:
    """Once a request runs, SIGKILL the host."""
    await asyncio.sleep(0.3)
    await pod.kill_host()


async def test_who_is_refused_was_not_accepted_and_who_failed_was() -> None:
    async with host_pod(pool_config(agent=FAULTY, concurrent=1, limits={"queue_seconds": 0})) as pod:
        await pod.client.invoke("t", "p")
        running = pod.client.begin("t", "p", {"wait": 30}, unary=True)
        await asyncio.sleep(0.2)
        refused = await failed(pod, "hello")
        running.cancel()
        assert isinstance(from_rpc_error(refused), ConcurrencyExceeded)
        assert not tells_acceptance(refused.initial_metadata())
        crashed = await failed(pod, "crash", "q")
        assert isinstance(from_rpc_error(crashed), InstanceCrashed)
        assert tells_acceptance(crashed.initial_metadata())


async def test_a_caller_that_goes_away_gives_its_permit_back() -> None:
    async with host_pod(pool_config(agent=COUNTER, concurrent=1)) as pod:
        await pod.client.invoke("t", "p", "get")
        call = pod.client.begin("t", "p", "slow", unary=True)
        await asyncio.sleep(0.2)
        call.cancel()
        reply = await pod.client.admitted("t", "p", "get")
    assert reply.output == 0, "the cancelled request changed the count before it waited, and was rolled back"
