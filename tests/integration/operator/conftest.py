# SPDX-License-Identifier: Apache-2.0
"""The operator against a real API server, with simulated pods and a real redis-server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from agentpool_core.crd import KINDS
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


@pytest.fixture(scope="session")
def empty_api(api: ApiServer) -> ApiServer:
    """An API server without pools: an operator would take up those that other folders' tests left."""
    for kind in KINDS:
        path = f"/apis/agentpool.dev/v1alpha1/namespaces/default/{kind.plural}"
        assert api.client.delete(path).is_success
        assert api.client.get(path).json()["items"] == []
    return api


@pytest.fixture
async def scene(
    empty_api: ApiServer, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Scene]:
    """An operator that leads, a node, and nothing else."""
    api = empty_api
    monkeypatch.setenv("KUBECONFIG", str(api.kubeconfig))
    places = [f"/apis/agentpool.dev/v1alpha1/{kind.plural}" for kind in KINDS]
    async with recorded(api, *places) as states, open_scene(api, redis.tcp_url) as scene:
        yield scene
    wrong = {f"{why}: {body}" for body in states if (why := disagreement(body))}
    assert not wrong, wrong
