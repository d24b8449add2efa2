# SPDX-License-Identifier: Apache-2.0
"""Ways to the same agent: straight to its host, through the gateway by gRPC and by REST, and through a bare
proxy."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

import aiohttp
import grpc.aio
import msgspec

from agentpool_proto.v1.gateway_pb2 import (
    AcquireRequest,
    CreateInstanceRequest,
    InvokeRequest,
    InvokeResponse,
    PoolRef,
    ReleaseRequest,
)
from agentpool_proto.v1.gateway_pb2_grpc import AgentPoolGatewayStub
from agentpool_proto.v1.host_pb2 import HostInvokeRequest, HostInvokeResponse, WatchRequest
from agentpool_proto.v1.host_pb2_grpc import AgentHostStub
from agentpool_rpc.channels import open_channel
from agentpool_rpc.tokens import TokenSigner, Verb
from benchmarks.milestones import Answer, Milestones

TENANT = "bench"
PROXY_METHOD = "/agentpool.bench.BareProxy/Invoke"
TIMEOUT_SECONDS = 60.0


class Client(Protocol):
    """Sends one request and waits for its end."""

    async def invoke(self, project: str, body: bytes) -> Milestones | None:
        """The answer's milestones, if it tells them. Raises when it is not answered."""

    async def close(self) -> None:
        """Drop connections."""


@dataclass(frozen=True, slots=True)
class Host:
    """Where a host is, as a gateway knows it."""

    pod_uid: str
    address: str
    private_key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Gateway:
    """Where a gateway is.

    Attributes:
        path: of the pool's REST interface.
        namespace, pool: for gRPC; empty: the gateway's default pool.
        token: bearer token; empty where none is asked for.
        tier: asked for in every request; empty: the pool's default.
    """

    rest: str
    grpc: str
    path: str = "/api/v1/pool"
    namespace: str = ""
    pool: str = ""
    token: str = field(default="", repr=False)
    tier: str = ""

    @property
    def headers(self) -> dict[str, str]:
        """What says who calls."""
        return {"authorization": f"Bearer {self.token}"} if self.token else {}


class Direct:
    """A call to the host itself, with a call token as the gateway makes it."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._signer = TokenSigner(host.private_key, "bench", time.time)
        self._channel = open_channel(host.address)
        self._stub: Any = AgentHostStub(self._channel)
        self._incarnation = ""

    async def connect(self) -> Self:
        """Learn the host's incarnation, the audience of call tokens."""
        token = self._signer.authorization(self._host.pod_uid, frozenset({Verb.WATCH}))
        call = self._stub.Watch(WatchRequest(), metadata=(("authorization", token),))
        async for event in call:
            self._incarnation = event.snapshot.host.incarnation
            break
        call.cancel()
        return self

    async def invoke(self, project: str, body: bytes) -> Milestones | None:
        """See Client."""
        token = self._signer.authorization(self._incarnation, frozenset({Verb.INVOKE}))
        request = HostInvokeRequest(tenant_id=TENANT, project_id=project, input=body)
        call = self._stub.Invoke(request, metadata=(("authorization", token),), timeout=TIMEOUT_SECONDS)
        done = False
        async for event in call:
            done = event.HasField("done")
        if not done:
            raise RuntimeError("the call ended without an answer")
        return None

    async def close(self) -> None:
        """See Client."""
        await self._channel.close()


class Bare(Direct):
    """The same call through a proxy that does nothing else; `proxy`: its address."""

    def __init__(self, host: Host, proxy: str) -> None:
        super().__init__(host)
        self._through = grpc.aio.insecure_channel(proxy)
        self._ask: Any = self._through.unary_unary(
            PROXY_METHOD,
            request_serializer=HostInvokeRequest.SerializeToString,
            response_deserializer=HostInvokeResponse.FromString,
        )

    async def invoke(self, project: str, body: bytes) -> Milestones | None:
        """See Client."""
        token = self._signer.authorization(self._incarnation, frozenset({Verb.INVOKE}))
        request = HostInvokeRequest(tenant_id=TENANT, project_id=project, input=body)
        answer = await self._ask(request, metadata=(("authorization", token),), timeout=TIMEOUT_SECONDS)
        if not answer.HasField("done"):
            raise RuntimeError("the proxy gave no answer")
        return None

    async def close(self) -> None:
        """See Client."""
        await self._through.close()
        await super().close()


class GatewayGrpc:
    """The gateway's unary Invoke."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._metadata = tuple(gateway.headers.items())
        self._channel = grpc.aio.insecure_channel(gateway.grpc)
        self._stub: Any = AgentPoolGatewayStub(self._channel)

    async def invoke(self, project: str, body: bytes) -> Milestones | None:
        """See Client."""
        return Milestones.of((await self._invoke(project, body)).timing)

    async def _invoke(self, project: str, body: bytes) -> InvokeResponse:
        request = InvokeRequest(
            pool=PoolRef(namespace=self._gateway.namespace, name=self._gateway.pool),
            tenant_id=TENANT,
            project_id=project,
            tier=self._gateway.tier,
            input=body,
        )
        answer: InvokeResponse = await self._stub.Invoke(
            request, metadata=self._metadata, timeout=TIMEOUT_SECONDS
        )
        return answer

    async def invoke_without_pool(self, project: str, body: bytes) -> Milestones | None:
        """As `invoke`; RuntimeError when the answer came from an instance of the pool."""
        answer = await self._invoke(project, body)
        if answer.served_by != "one-shot":
            raise RuntimeError(f"a one-shot instance was to serve it, not: {answer.served_by}")
        return Milestones.of(answer.timing)

    async def create(self, project: str) -> None:
        """Make an instance resident without a request."""
        request = CreateInstanceRequest(
            pool=PoolRef(namespace=self._gateway.namespace, name=self._gateway.pool),
            tenant_id=TENANT,
            project_id=project,
            tier=self._gateway.tier,
        )
        await self._stub.CreateInstance(request, metadata=self._metadata, timeout=TIMEOUT_SECONDS)

    async def acquire_and_release(self, project: str) -> None:
        """Take a lease of an instance, and give it back unused."""
        pool = PoolRef(namespace=self._gateway.namespace, name=self._gateway.pool)
        wanted = AcquireRequest(pool=pool, tenant_id=TENANT, project_id=project, tier=self._gateway.tier)
        lease = await self._stub.Acquire(wanted, metadata=self._metadata, timeout=TIMEOUT_SECONDS)
        report = ReleaseRequest(pool=pool, lease_id=lease.id)
        await self._stub.Release(report, metadata=self._metadata, timeout=TIMEOUT_SECONDS)

    async def close(self) -> None:
        """See Client."""
        await self._channel.close()


class GatewayRest:
    """The gateway's REST, over kept connections."""

    def __init__(self, gateway: Gateway) -> None:
        self._url = f"{gateway.rest}{gateway.path}/invoke"
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=64),
            timeout=timeout,
            headers={"content-type": "application/json", **gateway.headers},
        )

    async def invoke(self, project: str, body: bytes) -> Milestones | None:
        """See Client."""
        envelope = b'{"tenant_id":"%s","project_id":%s,"input":%s}' % (
            TENANT.encode(),
            json.dumps(project).encode(),
            body,
        )
        async with self._session.post(self._url, data=envelope) as answer:
            text = await answer.read()
            if answer.status != 200:
                raise RuntimeError(f"{answer.status}: {text.decode()}")
            return Milestones.of(msgspec.json.decode(text, type=Answer).timing)

    async def close(self) -> None:
        """See Client."""
        await self._session.close()
