# SPDX-License-Identifier: Apache-2.0
"""One redis-server for all store tests; each test has a pool of its own on it."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator

import pytest
from redis.asyncio import Redis

from agentpool_agent.store import MemoryStore, RedisStore, Store
from support.redis import RedisServer, redis_server

_pool_numbers = itertools.count(1)


class Clock:
    """Microseconds that pass only when a test says so."""

    def __init__(self) -> None:
        self.now = 1_700_000_000_000_000

    def __call__(self) -> int:
        self.now += 1  # two calls never see the same microsecond, as on Redis
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += int(seconds * 1_000_000)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def server() -> Iterator[RedisServer]:
    with redis_server() as running:
        yield running


@pytest.fixture
def own_server() -> Iterator[RedisServer]:
    """For tests that kill or freeze it."""
    with redis_server() as running:
        yield running


@pytest.fixture
def pool_uid() -> str:
    return f"pool-{next(_pool_numbers)}"


@pytest.fixture(params=["memory", "redis"])
async def each_store(
    request: pytest.FixtureRequest, server: RedisServer, pool_uid: str, clock: Clock
) -> AsyncIterator[Store]:
    """Both stores, one after the other."""
    made: Store
    if request.param == "memory":
        made = MemoryStore("ns", "pool", clock=clock)
    else:
        made = RedisStore(server.url, pool_uid, "ns", "pool", clock=clock)
    await made.initialise()
    yield made
    await made.close()


@pytest.fixture
async def raw(own_server: RedisServer) -> AsyncIterator[Redis]:
    client = Redis.from_url(own_server.url, protocol=2)
    yield client
    await client.aclose()


@pytest.fixture
async def store(own_server: RedisServer) -> AsyncIterator[RedisStore]:
    made = RedisStore(own_server.url, "pool-uid", "ns", "pool", timeout_seconds=0.3)
    await made.initialise()
    yield made
    own_server.thaw()
    await made.close()
