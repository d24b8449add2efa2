# SPDX-License-Identifier: Apache-2.0
"""Where a gateway is, and which pool is meant."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from agentpool_proto.v1.gateway_pb2 import PoolRef

DEFAULT_PORT = 9000


@dataclass(frozen=True, slots=True)
class Address:
    """Address of a gateway's gRPC port; `secure` for TLS."""

    target: str
    secure: bool


def parse_url(url: str) -> Address:
    """Read `grpc://HOST:PORT`, `grpcs://HOST:PORT` (TLS) or `HOST:PORT`; ValueError for anything else."""
    text = url if "://" in url else f"grpc://{url}"
    parts = urlsplit(text)
    if parts.scheme not in ("grpc", "grpcs"):
        raise ValueError(
            f"{url!r} is not the address of a gateway's gRPC port: give grpc://HOST:{DEFAULT_PORT}, "
            "or grpcs:// for TLS"
        )
    if not parts.hostname or parts.path not in ("", "/") or parts.query or parts.username:
        raise ValueError(f"{url!r} is not grpc://HOST:PORT")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    secure = parts.scheme == "grpcs"
    return Address(f"{host}:{parts.port or (443 if secure else DEFAULT_PORT)}", secure)


def parse_pool(pool: str) -> PoolRef:
    """Read `NAMESPACE/NAME`; empty: the gateway's default pool. ValueError for anything else."""
    if not pool:
        return PoolRef()
    namespace, slash, name = pool.partition("/")
    if not (namespace and slash and name) or "/" in name:
        raise ValueError(f"{pool!r} is not NAMESPACE/NAME")
    return PoolRef(namespace=namespace, name=name)
