# SPDX-License-Identifier: Apache-2.0
"""Three ways to the same agent: straight to its host, through the gateway by gRPC, and by REST."""

from __future__ import annotations

import json
import time
from typing import Any, Protocol, Self

import aiohttp
import grpc.aio

from agentpool_proto.v1.gateway_pb2 import InvokeRequest
from agentpool_proto.v1.gateway_pb2_grpc import AgentPoolGatewayStub
from agentpool_proto.v1.host_pb2 import HostInvokeRequest, WatchRequest
from agentpool_proto.v1.host_pb2_grpc import AgentHostStub
from agentpool_rpc.channels import open_channel
from agentpool_rpc.tokens import TokenSigner, Verb
from benchmarks.stack import Stack

TENANT = "bench"
TIMEOUT_SECONDS = 60.0


class Client(Protocol):
    """Sends one request and waits for its end."""

    async def invoke(self, project: str, body: bytes) -> None:
        """Raises when it is not answered."""

    async def close(self) -> None:
        """Drop connections."""


class Direct:
    """A call to the host itself, with a call token as the gateway makes it."""

    def __init__(self, stack: Stack) -> None:
        self._host = stack.membership["hosts"][0]
        self._signer = TokenSigner(stack.private_key, "bench", time.time)
        self._channel = open_channel(self._host["address"])
        self._stub: Any = AgentHostStub(self._channel)
        self._incarnation = ""

    async def connect(self) -> Self:
        """Learn the host's incarnation, the audience of call tokens."""
        token = self._signer.authorization(self._host["pod_uid"], frozenset({Verb.WATCH}))
        call = self._stub.Watch(WatchRequest(), metadata=(("authorization", token),))
        async for event in call:
            self._incarnation = event.snapshot.host.incarnation
            break
        call.cancel()
        return self

    async def invoke(self, project: str, body: bytes) -> None:
        """See Client."""
        token = self._signer.authorization(self._incarnation, frozenset({Verb.INVOKE}))
        request = HostInvokeRequest(tenant_id=TENANT, project_id=project, input=body)
        call = self._stub.Invoke(request, metadata=(("authorization", token),), timeout=TIMEOUT_SECONDS)
        done = False
        async for event in call:
            done = event.HasField("done")
        if not done:
            raise RuntimeError("the call ended without an answer")

    async def close(self) -> None:
        """See Client."""
        await self._channel.close()


class GatewayGrpc:
    """The gateway's unary Invoke."""

    def __init__(self, stack: Stack) -> None:
        self._channel = grpc.aio.insecure_channel(stack.grpc)
        self._stub: Any = AgentPoolGatewayStub(self._channel)

    async def invoke(self, project: str, body: bytes) -> None:
        """See Client."""
        request = InvokeRequest(tenant_id=TENANT, project_id=project, input=body)
        await self._stub.Invoke(request, timeout=TIMEOUT_SECONDS)

    async def close(self) -> None:
        """See Client."""
        await self._channel.close()


class GatewayRest:
    """The gateway's REST, over kept connections."""

    def __init__(self, stack: Stack) -> None:
        self._url = f"{stack.rest}/api/v1/pool/invoke"
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=64),
            timeout=timeout,
            headers={"content-type": "application/json"},
        )

    async def invoke(self, project: str, body: bytes) -> None:
        """See Client."""
        envelope = b'{"tenant_id":"%s","project_id":%s,"input":%s}' % (
            TENANT.encode(),
            json.dumps(project).encode(),
            body,
        )
        async with self._session.post(self._url, data=envelope) as answer:
            text = await answer.text()
            if answer.status != 200:
                raise RuntimeError(f"{answer.status}: {text}")

    async def close(self) -> None:
        """See Client."""
        await self._session.close()
