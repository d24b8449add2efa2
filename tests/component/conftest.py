# SPDX-License-Identifier: Apache-2.0
"""Fake hosts that are ended with the test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from agentpool_core.config import EffectivePool
from support.builders import effective_pool
from support.fake_host import FakeHost
from support.gateways import CallKeys

HostStarter = Callable[..., Coroutine[Any, Any, FakeHost]]


@pytest.fixture(scope="module")
def keys() -> CallKeys:
    """One key pair for all."""
    return CallKeys.make()


@pytest.fixture(scope="module")
def pool() -> EffectivePool:
    """Pool default/support."""
    return effective_pool({"limits": {"inputBytes": 1000}})


@pytest.fixture
async def start_host(keys: CallKeys, pool: EffectivePool) -> AsyncIterator[HostStarter]:
    """Starts fake hosts."""
    hosts: list[FakeHost] = []

    async def start(pod: str = "pod-a", *, port: int = 0, of: EffectivePool = pool, **more: Any) -> FakeHost:
        host = FakeHost(of, keys.verifier(), pod=pod, **more)
        hosts.append(host)
        return await host.start(port)

    yield start
    for host in hosts:
        await host.stop()
