# SPDX-License-Identifier: Apache-2.0
"""The one way to Redis: each call is bounded in time, safe to cancel, and never repeated by itself.

A call that is cancelled or too late closes its connection, so that its reply cannot reach another caller.
Nothing is sent twice: a script whose answer was lost is told as such (`StoreUnavailable.unheard`), and its
sender decides whether to ask again.
A server that takes no writes, as a replica does, loses its connections: the next ones look for the master.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    BusyLoadingError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from agentpool_core.errors import StoreUnavailable
from agentpool_core.store_address import parse_sentinel

from .scripts import Script
from .sentinel import MasterPool, close_sentinels, master_pool

Argument = str | bytes | int | float
Greeting = Callable[[str], Sequence[Argument]]

CALL_SECONDS = 3.0
"""Bound of a call. A machine whose cores are busy with starting pods is late by more than a second, and a
write that was given up fails its request; a Redis that is gone refuses at once all the same."""

MAX_CONNECTIONS = 16
"""Commands of one process that are under way at once; more would only wait inside Redis' one thread."""

READY_CONNECTIONS = 3
"""Kept open for what a start does at once: it notes the start and reads the state, and a sign of life may be
under way. A new connection costs a name to look up and three round trips: more than all else of a start."""

_FULL = (
    "Give Redis more memory (maxmemory), or let state go that nobody uses (checkpoint.retentionSeconds, "
    "or terminate instances)."
)


class RedisClient:
    """Scripts and plain commands on one Redis.

    Args:
        url: `redis://`, `rediss://`, `unix://`, or of Sentinel (see `agentpool_core.store_address`).
        timeout_seconds: bound of each call, the wait for a connection included.
        greeting: with Sentinel, the first command of each connection, given the master's address.

    Raises:
        StoreUnavailable: from every call, when Redis does not answer in time or refuses the command.
    """

    def __init__(
        self, url: str, *, timeout_seconds: float = CALL_SECONDS, greeting: Greeting | None = None
    ) -> None:
        self._timeout = timeout_seconds
        self._greeting = greeting
        self._ready = False
        self._pool = self._make_pool(url)
        self._redis = Redis.from_pool(self._pool)
        # redis-py leaves this method untyped.
        self._execute: Callable[..., Awaitable[Any]] = self._redis.execute_command

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[Argument]) -> list[Any]:
        """The reply of a script, which is a list that starts with a word."""

        sent = False

        async def attempt() -> Any:
            nonlocal sent
            connection = await self._pool.get_connection()
            try:
                sent = True
                try:
                    return await _exchange(connection, "EVALSHA", script.sha, len(keys), *keys, *args)
                except NoScriptError:
                    # Redis restarted, or never saw it. EVAL keeps it for the next time.
                    return await _exchange(connection, "EVAL", script.source, len(keys), *keys, *args)
            finally:
                await self._pool.release(connection)

        return cast("list[Any]", await self._bounded(attempt, lambda: sent))

    async def open(self) -> None:
        """Have READY_CONNECTIONS open, unless they are; what fails later makes this look again."""
        if self._ready:
            return

        async def attempt() -> None:
            taken = []
            try:
                for _ in range(READY_CONNECTIONS):
                    taken.append(await self._pool.get_connection())  # noqa: PERF401  # some may fail
            finally:
                for connection in taken:
                    await self._pool.release(connection)

        await self._bounded(attempt)
        self._ready = True

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

    async def greet_again(self) -> None:
        """With a greeting: let connections that are idle begin anew with it."""
        if self._greeting is not None and isinstance(self._pool, MasterPool):
            self._ready = False
            await self._pool.disconnect(inuse_connections=False)

    async def close(self) -> None:
        """Drop all connections."""
        await self._redis.aclose(close_connection_pool=True)
        if isinstance(self._pool, MasterPool):
            await close_sentinels(self._pool)

    def _make_pool(self, url: str) -> BlockingConnectionPool:
        address = parse_sentinel(url)
        if address is not None:
            return master_pool(
                address,
                max_connections=MAX_CONNECTIONS,
                timeout_seconds=self._timeout,
                connected=self._connected,
            )
        return BlockingConnectionPool.from_url(
            url,
            max_connections=MAX_CONNECTIONS,
            timeout=None,  # the deadline of the call covers the wait
            protocol=2,
            socket_timeout=None,
            socket_connect_timeout=self._timeout,
            retry=Retry(NoBackoff(), 0),
        )

    async def _connected(self, connection: Any) -> None:
        await connection.on_connect()
        if self._greeting is not None:
            await connection.send_command(*self._greeting(f"{connection.host}:{connection.port}"))
            await connection.read_response()

    async def _bounded(
        self, attempt: Callable[[], Awaitable[Any]], sent: Callable[[], bool] = lambda: True
    ) -> Any:
        try:
            return await self._told(attempt, sent)
        except StoreUnavailable:
            self._ready = False
            raise

    async def _told(self, attempt: Callable[[], Awaitable[Any]], sent: Callable[[], bool]) -> Any:
        """The reply, or what went wrong in the store's own words."""
        try:
            async with asyncio.timeout(self._timeout):
                return await attempt()
        except TimeoutError as exc:
            raise StoreUnavailable(
                f"The store did not answer in {self._timeout:g} s.", retry_after_seconds=1.0, unheard=sent()
            ) from exc
        except OutOfMemoryError as exc:
            raise StoreUnavailable(
                "The store's memory is full; it keeps what it has and takes no new state.",
                remedy=_FULL,
                retry_after_seconds=5.0,
            ) from exc
        except ReadOnlyError as exc:
            await self._pool.disconnect(inuse_connections=False)
            raise StoreUnavailable(
                "The store's server is a replica, which takes no writes.", retry_after_seconds=1.0
            ) from exc
        except ResponseError as exc:
            raise StoreUnavailable(f"The store refused a command: {exc}", retry_after_seconds=1.0) from exc
        except (RedisError, OSError) as exc:
            raise StoreUnavailable(
                f"The store cannot be reached ({type(exc).__name__}).",
                retry_after_seconds=1.0,
                unheard=sent() and not isinstance(exc, BusyLoadingError),
            ) from exc


async def _exchange(connection: Any, *command: Argument) -> Any:
    """The reply of one command on a connection, which ends when the reply did not come."""
    try:
        await connection.send_command(*command)
        return await connection.read_response()
    except ResponseError:
        raise
    except BaseException:
        await connection.disconnect(nowait=True)
        raise
