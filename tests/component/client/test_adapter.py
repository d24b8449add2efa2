# SPDX-License-Identifier: Apache-2.0
"""An older program uses the pool through the adapter of its process."""

from __future__ import annotations

import pytest

from agentpool_client.adapter import close_global_adapter, get_global_adapter
from agentpool_core.errors import InstanceNotFound
from support.hosts import COUNTER, pool_config
from support.spine import running_spine
from support.waiting import eventually


async def reject(_: object) -> object:
    raise AssertionError("the pool is on")


async def test_an_older_program_uses_the_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running_spine(pool_config(agent=COUNTER, storage="Redis")) as spine:
        monkeypatch.setenv("AGENTPOOL_CLIENT_URL", f"grpc://{spine.gateways[0].grpc_address}")
        monkeypatch.setenv("AGENTPOOL_CLIENT_POOL", "default/support")
        adapter = await get_global_adapter()
        assert await get_global_adapter() is adapter, "one per process"
        assert await adapter.process("acme", "p", "add", otherwise=reject) == 1
        manager = adapter._pool_manager
        assert manager is not None
        assert (await manager.get_or_create_instance("acme", "p")).state == "READY"
        assert await manager.classify_project("acme", "p") == "WARM"
        assert await manager.classify_project("acme", "nobody") is None

        async def counted() -> bool:
            await get_global_adapter()
            return bool(manager.get_stats()["total_operations_processed"] == 1)

        await eventually(counted, 10)
        assert (await manager.terminate_instance("acme", "p")).state == "TERMINATED"
        with pytest.raises(InstanceNotFound):
            await manager.terminate_instance("acme", "never")
        await close_global_adapter()
        again = await get_global_adapter()
        assert again is not adapter
        await close_global_adapter()
