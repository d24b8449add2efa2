# SPDX-License-Identifier: Apache-2.0
"""The servers behind one address: one, or with Sentinel the present master and its replicas."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff

from agentpool_core.store_address import SentinelAddress, parse_sentinel


class Servers:
    """Connections of an administrator; nothing is connected yet.

    Args:
        url: `redis://`, `rediss://`, `unix://`, or of Sentinel (see `agentpool_core.store_address`).
        timeout_seconds: bound of each connect and each answer.

    Raises:
        ValueError: the URL is wrong.
    """

    def __init__(self, url: str, timeout_seconds: float) -> None:
        self._options: dict[str, Any] = {
            "protocol": 2,
            "socket_timeout": timeout_seconds,
            "socket_connect_timeout": timeout_seconds,
            "retry": Retry(NoBackoff(), 0),
            "decode_responses": True,
        }
        self._service = ""
        self._sentinel: Sentinel | None = None
        address = parse_sentinel(url)
        if address is None:
            self.master: Redis = Redis.from_url(url, **self._options)
            return
        self._service = address.service
        self._options |= _login(address)
        self._sentinel = _sentinel(address, self._options)
        self.master = self._sentinel.master_for(address.service, **self._options)

    async def replicas(self) -> AsyncIterator[Redis]:
        """A connection to each replica that answers its sentinels, for the time of the loop's turn."""
        if self._sentinel is None:
            return
        for host, port in await self._sentinel.discover_slaves(self._service):
            async with Redis(host=str(host), port=int(port), **self._options) as replica:
                yield replica

    async def close(self) -> None:
        """Drop connections."""
        await self.master.aclose()
        for sentinel in self._sentinel.sentinels if self._sentinel else ():
            await sentinel.aclose()


def _login(address: SentinelAddress) -> dict[str, Any]:
    options = dict(parse_url(address.server_url))
    for name in ("host", "port"):
        options.pop(name, None)
    return {**options, **({"ssl": True} if address.tls else {})}


def _sentinel(address: SentinelAddress, options: dict[str, Any]) -> Sentinel:
    shared = ("protocol", "socket_timeout", "socket_connect_timeout", "retry", "decode_responses", "ssl")
    return Sentinel(
        address.sentinels,
        sentinel_kwargs={
            **{name: options[name] for name in shared if name in options},
            "username": address.sentinel_username or None,
            "password": address.sentinel_password or None,
        },
    )
