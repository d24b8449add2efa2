# SPDX-License-Identifier: Apache-2.0
"""The operator against a real API server, with simulated pods and a real redis-server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from support.apiserver import ApiServer
from support.operators import Scene, open_scene
from support.redis import RedisServer, redis_server


@pytest.fixture(scope="session")
def redis() -> Iterator[RedisServer]:
    """One redis-server for all scenes: pools are told apart by their UIDs."""
    with redis_server(append=True) as server:
        yield server


@pytest.fixture
async def scene(api: ApiServer, redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    """An operator that leads, a node, and nothing else."""
    monkeypatch.setenv("KUBECONFIG", str(api.kubeconfig))
    async with open_scene(api, redis.tcp_url) as scene:
        yield scene
