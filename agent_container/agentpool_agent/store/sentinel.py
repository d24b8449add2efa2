# SPDX-License-Identifier: Apache-2.0
"""Connections to the master that Sentinel names, found anew whenever one of them ends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from redis.asyncio import BlockingConnectionPool
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff

from agentpool_core.store_address import SentinelAddress

ASKED_AT_ONCE = 4
"""A sentinel that is silent costs this share of a call's time, so that the next ones are still asked."""

Connected = Callable[[Any], Awaitable[None]]
"""Called with each new connection before its first command; what it raises ends the connection."""


class MasterPool(SentinelConnectionPool, BlockingConnectionPool):
    """A bounded pool whose connections go to the present master.

    A connection that ends, or that a server refuses a write on because it is no master any more, asks the
    sentinels where the master is.
    """


def master_pool(
    address: SentinelAddress, *, max_connections: int, timeout_seconds: float, connected: Connected
) -> MasterPool:
    """A pool for an address; nothing is connected yet. Raises ValueError for a wrong option."""
    timeouts = {"socket_connect_timeout": timeout_seconds / ASKED_AT_ONCE}
    shared: dict[str, Any] = {"protocol": 2, "retry": Retry(NoBackoff(), 0)}
    if address.tls:
        shared["ssl"] = True
    manager = Sentinel(
        address.sentinels,
        sentinel_kwargs={
            **shared,
            **timeouts,
            "socket_timeout": timeout_seconds / ASKED_AT_ONCE,
            "username": address.sentinel_username or None,
            "password": address.sentinel_password or None,
        },
    )
    options = dict(parse_url(address.server_url))
    for name in ("host", "port"):
        options.pop(name, None)
    make: Callable[..., MasterPool] = MasterPool  # redis-py leaves it untyped
    return make(
        address.service,
        manager,
        **{**shared, **options},
        max_connections=max_connections,
        timeout=None,  # the deadline of the call covers the wait
        socket_timeout=None,
        socket_connect_timeout=timeout_seconds,
        redis_connect_func=connected,
    )


async def close_sentinels(pool: MasterPool) -> None:
    """Drop the connections to the sentinels, which the pool does not."""
    for sentinel in pool.sentinel_manager.sentinels:
        await sentinel.aclose()
