# SPDX-License-Identifier: Apache-2.0
"""Calls to a host as a gateway or the operator makes them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import grpc.aio
import msgspec

from agentpool_core.config import EffectivePool
from agentpool_core.errors import ConcurrencyExceeded
from agentpool_core.names import Incarnation
from agentpool_proto.v1 import host_pb2, host_pb2_grpc, types_pb2
from agentpool_rpc.channels import open_channel
from agentpool_rpc.status import from_rpc_error
from agentpool_rpc.tokens import TokenSigner, Verb, generate_keypair
from support.waiting import admitted

ALL_VERBS = frozenset(Verb)
PRIVATE_KEY, PUBLIC_KEY = generate_keypair()
"""One pair for all pods of a test run: gateways and operators have one, too."""


@dataclass
class Reply:
    """Everything one request brought back."""

    accepted: types_pb2.Accepted
    done: types_pb2.Done
    chunks: list[Any] = field(default_factory=list)

    @property
    def output(self) -> Any:
        """The decoded answer."""
        return msgspec.json.decode(self.done.output)


class HostClient:
    """Calls one host as a gateway does; errors come back as AgentPoolError."""

    def __init__(self, address: str, incarnation: str, signer: TokenSigner | None = None) -> None:
        self.incarnation = incarnation
        self.signer = signer or TokenSigner(PRIVATE_KEY, "test-gateway", time.time)
        self.channel = open_channel(address)
        # The generated service stubs have no types.
        self.stub: Any = host_pb2_grpc.AgentHostStub(self.channel)

    def metadata(
        self,
        ended: Iterable[Incarnation] = (),
        audience: str | None = None,
        verbs: frozenset[Verb] = ALL_VERBS,
    ) -> tuple[tuple[str, str], ...]:
        """The metadata of a call."""
        token = self.signer.authorization(audience or self.incarnation, verbs, ended)
        return (("authorization", token),)

    def begin(
        self,
        tenant: str,
        project: str,
        body: object = "hello",
        *,
        key: str = "",
        tier: str = "",
        strong: bool = False,
        one_shot: bool = False,
        ended: Iterable[Incarnation] = (),
        timeout: float | None = 20.0,  # gRPC's own deadline
        unary: bool = False,
    ) -> Any:
        """A request as the raw call, which can be read event by event, with `unary` awaited, or cancelled."""
        request = host_pb2.HostInvokeRequest(
            tenant_id=tenant,
            project_id=project,
            input=msgspec.json.encode(body),
            idempotency_key=key,
            tier=tier,
            strong=strong,
            one_shot=one_shot,
        )
        method = self.stub.InvokeUnary if unary else self.stub.Invoke
        return method(request, metadata=self.metadata(ended), timeout=timeout)

    async def invoke(self, tenant: str, project: str, body: object = "hello", **options: Any) -> Reply:
        """One request to its end."""
        reply = Reply(types_pb2.Accepted(), types_pb2.Done())
        try:
            async for event in self.begin(tenant, project, body, **options):
                kind = event.WhichOneof("event")
                if kind == "accepted":
                    reply.accepted = event.accepted
                elif kind == "chunk":
                    reply.chunks.append(msgspec.json.decode(event.chunk.data))
                else:
                    reply.done = event.done
        except grpc.aio.AioRpcError as exc:
            raise (from_rpc_error(exc) or exc) from exc
        return reply

    async def admitted(
        self, tenant: str, project: str, body: object = "hello", seconds: float = 5.0
    ) -> Reply:
        """One request, as soon as there is a permit for it."""
        return await admitted(lambda: self.invoke(tenant, project, body), ConcurrencyExceeded, seconds)

    async def call(self, method: str, request: Any, *, ended: Iterable[Incarnation] = ()) -> Any:
        """A unary call."""
        try:
            return await getattr(self.stub, method)(request, metadata=self.metadata(ended), timeout=30)
        except grpc.aio.AioRpcError as exc:
            raise (from_rpc_error(exc) or exc) from exc

    async def operate(
        self, method: str, instance: str, *, ended: Iterable[Incarnation] = ()
    ) -> types_pb2.Instance:
        """Pause, Resume, Terminate or Get."""
        found: types_pb2.Instance = await self.call(
            method, host_pb2.InstanceRequest(instance_id=instance), ended=ended
        )
        return found

    async def until(
        self, instance: str, holds: Callable[[types_pb2.Instance], object], seconds: float = 10.0
    ) -> types_pb2.Instance:
        """The instance as soon as something holds of it."""
        async with asyncio.timeout(seconds):
            while True:
                found = await self.operate("Get", instance)
                if holds(found):
                    return found
                await asyncio.sleep(0.05)

    async def configure(self, config: EffectivePool) -> int:
        """Send a configuration; the generation in force."""
        text = config.model_dump_json().encode()
        request = host_pb2.ConfigureRequest(generation=config.generation, config=text)
        return int((await self.call("Configure", request)).generation)

    async def listed(self) -> list[types_pb2.Instance]:
        """Every instance of the pool."""
        found: list[types_pb2.Instance] = []
        cursor = ""
        while True:
            page = await self.call("List", host_pb2.ListRequest(cursor=cursor, limit=100))
            found.extend(page.instances)
            cursor = page.cursor
            if not cursor:
                return found

    async def close(self) -> None:
        """Close the channel."""
        await self.channel.close()
