# SPDX-License-Identifier: Apache-2.0
"""Gateways behind TLS, gateways that are not there, and clients that are not open."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agentpool_client import AgentPool, ClientNotOpen, RetryPolicy
from agentpool_client.sync import AgentPool as ThreadPool
from agentpool_core.errors import Unavailable
from agentpool_proto.v1 import gateway_pb2, gateway_pb2_grpc, types_pb2
from support.clients import client

ONCE = RetryPolicy(attempts=1)


def certificate() -> tuple[bytes, bytes]:
    """A key and a certificate of its own for 127.0.0.1, PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gateway")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    return private, made.public_bytes(serialization.Encoding.PEM)


class EchoGateway(gateway_pb2_grpc.AgentPoolGatewayServicer):
    """Answers with the input; notes who asked. It knows no leases, as a gateway of an earlier release."""

    def __init__(self) -> None:
        self.tokens: list[str] = []

    async def InvokeStream(
        self, request: gateway_pb2.InvokeRequest, context: Any
    ) -> AsyncIterator[types_pb2.InvokeEvent]:
        """See gateway.proto."""
        self.tokens.append(dict(context.invocation_metadata()).get("authorization", ""))
        yield types_pb2.InvokeEvent(accepted=types_pb2.Accepted(instance_id="inst-1", tier="WARM", pod="p"))
        yield types_pb2.InvokeEvent(done=types_pb2.Done(output=request.input))


@pytest.mark.parametrize("kind", ["asyncio", "threads"])
async def test_a_gateway_behind_tls_is_known_by_its_certificate(kind: str) -> None:
    private, public = certificate()
    service, server = EchoGateway(), grpc.aio.server()
    gateway_pb2_grpc.add_AgentPoolGatewayServicer_to_server(service, server)
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(private, public)]))
    await server.start()
    try:
        where = {"scheme": "grpcs", "token": "abc"}
        async with client(kind, f"127.0.0.1:{port}", root_certificates=public, **where) as side:
            answers = [await side.invoke("acme", "p", number) for number in range(3)]
        assert [(one.output, one.direct) for one in answers] == [(0, False), (1, False), (2, False)]
        assert service.tokens == ["Bearer abc"] * 3
        _, strange = certificate()
        async with client(
            kind, f"127.0.0.1:{port}", root_certificates=strange, retries=ONCE, **where
        ) as side:
            with pytest.raises(Unavailable):
                await side.invoke("acme", "p", 1)
        assert len(service.tokens) == 3, "no token reached a gateway that could not prove itself"
    finally:
        await server.stop(None)


@pytest.mark.parametrize("kind", ["asyncio", "threads"])
async def test_a_gateway_that_is_not_there_is_tried_as_often_as_the_policy_says(kind: str) -> None:
    quick = RetryPolicy(attempts=3, first_pause_seconds=0.01, last_pause_seconds=0.02)
    async with client(kind, "127.0.0.1:9", retries=quick) as side:
        with pytest.raises(Unavailable):
            await side.invoke("acme", "p", 1)
        with pytest.raises(Unavailable):
            await side.listed()


async def test_a_client_that_is_not_open_says_so() -> None:
    pool = AgentPool("127.0.0.1:9")
    with pytest.raises(ClientNotOpen):
        await pool.invoke("acme", "p", 1)
    async with pool:
        pass
    with pytest.raises(ClientNotOpen):
        await pool.get_stats()
    with pytest.raises(ClientNotOpen):
        ThreadPool("127.0.0.1:9").invoke("acme", "p", 1)
