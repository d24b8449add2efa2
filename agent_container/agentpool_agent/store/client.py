# SPDX-License-Identifier: Apache-2.0
"""The one way to Redis: each call is bounded in time, safe to cancel, and never repeated by itself.

A call that is cancelled or too late closes its connection, so that its reply cannot reach another caller.
Nothing is sent twice: a write whose answer was lost is told as such, and the fence decides what it was worth.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError, ResponseError

from agentpool_core.errors import StoreUnavailable

from .scripts import Script

Argument = str | bytes | int | float

MAX_CONNECTIONS = 16
"""Commands of one process that are under way at once; more would only wait inside Redis' one thread."""


class RedisClient:
    """Scripts and plain commands on one Redis.

    Args:
        url: `redis://`, `rediss://` or `unix://`.
        timeout_seconds: bound of each call, the wait for a connection included.

    Raises:
        StoreUnavailable: from every call, when Redis does not answer in time or refuses the command.
    """

    def __init__(self, url: str, *, timeout_seconds: float = 1.0) -> None:
        self._timeout = timeout_seconds
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=MAX_CONNECTIONS,
            timeout=None,  # the deadline of the call covers the wait
            protocol=2,
            socket_timeout=None,
            socket_connect_timeout=timeout_seconds,
            retry=Retry(NoBackoff(), 0),
        )
        self._redis = Redis.from_pool(pool)
        # redis-py leaves this method untyped.
        self._execute: Callable[..., Awaitable[Any]] = self._redis.execute_command

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[Argument]) -> list[Any]:
        """The reply of a script, which is a list that starts with a word."""

        async def attempt() -> Any:
            try:
                return await self._execute("EVALSHA", script.sha, len(keys), *keys, *args)
            except NoScriptError:
                # Redis restarted, or never saw it. EVAL keeps it for the next time.
                return await self._execute("EVAL", script.source, len(keys), *keys, *args)

        return cast("list[Any]", await self._bounded(attempt))

    async def command(self, *args: Argument) -> Any:
        """The reply of one command."""
        return await self._bounded(lambda: self._execute(*args))

    async def pipeline(self, commands: Sequence[Sequence[Argument]]) -> list[Any]:
        """The replies of commands sent at once; others may come in between (a full Redis refuses MULTI, even
        around reads)."""

        async def attempt() -> Any:
            async with self._redis.pipeline(transaction=False) as pipeline:
                queue: Callable[..., Any] = pipeline.execute_command
                for args in commands:
                    queue(*args)
                return await pipeline.execute()

        return cast("list[Any]", await self._bounded(attempt))

    async def close(self) -> None:
        """Drop all connections."""
        await self._redis.aclose(close_connection_pool=True)

    async def _bounded(self, attempt: Callable[[], Awaitable[Any]]) -> Any:
        try:
            async with asyncio.timeout(self._timeout):
                return await attempt()
        except TimeoutError as exc:
            raise StoreUnavailable(
                f"The store did not answer in {self._timeout:g} s.", retry_after_seconds=1.0
            ) from exc
        except ResponseError as exc:
            raise StoreUnavailable(f"The store refused a command: {exc}", retry_after_seconds=1.0) from exc
        except (RedisError, OSError) as exc:
            raise StoreUnavailable(
                f"The store cannot be reached ({type(exc).__name__}).", retry_after_seconds=1.0
            ) from exc
