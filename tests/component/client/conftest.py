# SPDX-License-Identifier: Apache-2.0
"""A gateway that gives leases, before a real host."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from agentpool_core.config import EffectivePool
from support.builders import effective_pool
from support.clients import KINDS
from support.fake_host import FakeHost
from support.gateways import CallKeys
from support.hosts import COUNTER, pool_config
from support.spine import Spine, running_spine

LEASES = {"direct_access": True}
HostStarter = Callable[..., Coroutine[Any, Any, FakeHost]]


@pytest.fixture(scope="module")
def keys() -> CallKeys:
    """One key pair for all."""
    return CallKeys.make()


@pytest.fixture(scope="module")
def pool() -> EffectivePool:
    """Pool default/support."""
    return effective_pool({"limits": {"inputBytes": 1000}})


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Which client."""
    return str(request.param)


@pytest.fixture
async def spine() -> AsyncIterator[Spine]:
    """One host, one gateway."""
    async with running_spine(pool_config(agent=COUNTER, storage="Redis"), settings=LEASES) as running:
        yield running


@pytest.fixture
async def start_host(keys: CallKeys, pool: EffectivePool) -> AsyncIterator[HostStarter]:
    """Starts fake hosts."""
    hosts: list[FakeHost] = []

    async def start(pod: str = "pod-a", *, of: EffectivePool = pool, **more: Any) -> FakeHost:
        host = FakeHost(of, keys.verifier(), pod=pod, **more)
        hosts.append(host)
        return await host.start()

    yield start
    for host in hosts:
        await host.stop()
