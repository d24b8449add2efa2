# SPDX-License-Identifier: Apache-2.0
"""Addresses of gateways, and names of pools."""

from __future__ import annotations

import pytest

from agentpool_client.address import Address, parse_pool, parse_url
from agentpool_proto.v1.gateway_pb2 import PoolRef


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("grpc://gateway:9001", Address("gateway:9001", False)),
        ("gateway:9001", Address("gateway:9001", False)),
        ("grpc://gateway.agentpool-system.svc", Address("gateway.agentpool-system.svc:9000", False)),
        ("grpcs://pools.example.com", Address("pools.example.com:443", True)),
        ("grpc://[::1]:9001/", Address("[::1]:9001", False)),
    ],
)
def test_addresses(url: str, wanted: Address) -> None:
    assert parse_url(url) == wanted


@pytest.mark.parametrize(
    "url", ["http://gateway:8000", "grpc://gateway:9000/path", "", "grpc://me@gateway", "grpc://gateway:nine"]
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="gRPC|grpc://|Port|port"):
        parse_url(url)


@pytest.mark.parametrize(
    ("pool", "wanted"), [("", PoolRef()), ("shop/support", PoolRef(namespace="shop", name="support"))]
)
def test_pools(pool: str, wanted: PoolRef) -> None:
    assert parse_pool(pool) == wanted


@pytest.mark.parametrize("pool", ["support", "/support", "shop/", "a/b/c"])
def test_what_is_no_pool_is_refused(pool: str) -> None:
    with pytest.raises(ValueError, match="NAMESPACE/NAME"):
        parse_pool(pool)
