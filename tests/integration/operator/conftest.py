# SPDX-License-Identifier: Apache-2.0
"""The operator against a real API server, with simulated pods and a real redis-server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from support.apiserver import ApiServer
from support.kstatus import disagreement
from support.operators import Scene, open_scene
from support.recording import recorded
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
    places = [f"/apis/agentpool.dev/v1alpha1/{kind}" for kind in ("agentpools", "agentinstances")]
    async with recorded(api, *places) as states, open_scene(api, redis.tcp_url) as scene:
        yield scene
    wrong = {f"{why}: {body}" for body in states if (why := disagreement(body))}
    assert not wrong, wrong
