# SPDX-License-Identifier: Apache-2.0
"""Many requests over one call of a real host: each has its own outcome, its own deadline and its own end."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc.aio
import msgspec
import pytest
from google.rpc.status_pb2 import Status

from agentpool_core.names import InstanceKey
from agentpool_proto.v1.host_pb2 import (
    HostInvokeRequest,
    InvokeManyRequest,
    InvokeManyResponse,
    NumberedRequest,
)
from agentpool_rpc.status import from_rpc_error, from_status
from support.hosts import COUNTER, FAULTY, HostPod, host_pod, pool_config


class Many:
    """A call as a test sees it."""

    def __init__(self, pod: HostPod, authorization: str | None = None) -> None:
        ((_, token),) = pod.client.metadata()
        self.authorization = authorization or token
        self.call: Any = pod.client.stub.InvokeMany(metadata=pod.client.metadata())
        self.accepted: list[int] = []
        self.outcomes: dict[int, object] = {}
        self._last = 0

    async def ask(self, *asked: tuple[str, object], seconds: float = 20.0) -> None:
        """Requests of projects, in one message, numbered from 1."""
        batch = InvokeManyRequest(authorization=self.authorization)
        for project, body in asked:
            self._last += 1
            request = HostInvokeRequest(tenant_id="t", project_id=project, input=msgspec.json.encode(body))
            one = NumberedRequest(number=self._last, request=request, timeout_seconds=seconds)
            batch.requests.append(one)
        await self.call.write(batch)

    async def cancel(self, *numbers: int) -> None:
        """The callers of these left."""
        await self.call.write(InvokeManyRequest(authorization=self.authorization, cancelled=numbers))

    async def until(self, *numbers: int) -> dict[int, object]:
        """The outcomes of these: output, or code of the error."""
        async with asyncio.timeout(20):
            while not set(numbers) <= self.outcomes.keys():
                self._note(await self.call.read())
        return {number: self.outcomes[number] for number in numbers}

    async def until_accepted(self, number: int) -> None:
        """The host has taken it."""
        async with asyncio.timeout(20):
            while number not in self.accepted:
                self._note(await self.call.read())

    def _note(self, batch: InvokeManyResponse) -> None:
        assert isinstance(batch, InvokeManyResponse)
        self.accepted += batch.accepted
        for one in batch.outcomes:
            if one.HasField("answer"):
                self.outcomes[one.number] = msgspec.json.decode(one.answer.done.output)
            else:
                error = from_status(Status.FromString(one.failure))
                assert error is not None
                self.outcomes[one.number] = error.code


async def test_requests_of_several_instances_have_their_answers_in_any_order() -> None:
    async with host_pod(pool_config(agent=COUNTER)) as pod:
        many = Many(pod)
        await many.ask(("p", {"sleep": 0.5}), ("p", "add"), ("q", "add"))
        assert await many.until(2, 3) == {2: 1, 3: 1}
        assert 1 not in many.outcomes
        await many.until(1)
        assert sorted(many.accepted) == [1, 2, 3]


async def test_one_that_fails_is_told_and_leaves_the_others_alone() -> None:
    async with host_pod(pool_config(agent=FAULTY, concurrent=1, limits={"queue_seconds": 0})) as pod:
        many = Many(pod)
        await many.ask(("p", {"wait": 1}))
        await many.until_accepted(1)
        await many.ask(("p", "hello"), ("q", "crash"), ("", "hello"))
        found = await many.until(1, 2, 3, 4)
        assert [found[number] for number in (2, 3, 4)] == [
            "ConcurrencyExceeded",
            "InstanceCrashed",
            "ValidationFailed",
        ]
        assert sorted(many.accepted) == [1, 3], "who is refused was not accepted"


async def test_a_caller_that_leaves_gives_its_permit_back_and_its_change_too() -> None:
    async with host_pod(pool_config(agent=COUNTER, concurrent=1)) as pod:
        many = Many(pod)
        await many.ask(("p", "slow"))
        await many.until_accepted(1)
        await many.cancel(1)
        await many.ask(("p", "get"))
        assert await many.until(2) == {2: 0}
        assert 1 not in many.outcomes


async def test_a_connection_that_breaks_cancels_its_requests() -> None:
    async with host_pod(pool_config(agent=COUNTER, concurrent=1)) as pod:
        many = Many(pod)
        await many.ask(("p", "slow"))
        await many.until_accepted(1)
        many.call.cancel()
        assert (await pod.client.admitted("t", "p", "get")).output == 0


async def test_each_message_needs_a_token_of_a_gateway() -> None:
    async with host_pod(pool_config(agent=COUNTER)) as pod:
        await pod.client.invoke("t", "p", "get")
        leased, _ = pod.client.signer.lease(
            str(pod.incarnation), InstanceKey("default", "support", "t", "p").instance_id
        )
        for token, code in (("Bearer forged", "Unauthenticated"), (leased, "PermissionDenied")):
            many = Many(pod, token)
            await many.ask(("p", "add"))
            assert await many.until(1) == {1: code}
            refused = pod.client.stub.InvokeMany(metadata=(("authorization", token),))
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await refused.read()
            error = from_rpc_error(raised.value)
            assert error is not None
            assert error.code == code
        assert (await pod.client.invoke("t", "p", "get")).output == 0


async def test_a_host_that_ends_ends_the_call_when_its_requests_have_ended() -> None:
    async with host_pod(pool_config(agent=COUNTER)) as pod:
        many = Many(pod)
        await many.ask(("p", {"sleep": 1}))
        await many.until_accepted(1)
        ending = asyncio.create_task(pod.drain_host())
        await many.until(1)
        async with asyncio.timeout(5):
            assert await many.call.read() is grpc.aio.EOF
        assert await ending == 0
