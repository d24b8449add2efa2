# SPDX-License-Identifier: Apache-2.0
"""What is done to instances that nobody holds takes any host, and no pod that waits for an instance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from agentpool_core.config import EffectivePool
from agentpool_proto.v1 import types_pb2
from support.callers import body
from support.gateways import CallKeys, running_gateway

POOL = "/api/v1/pool"
COLD: dict[str, Any] = {"tenant_id": "tenant", "project_id": "stored", "tier": "COLD", "state": "PAUSED"}


async def operate(client: httpx.AsyncClient, operation: str, instance_id: str) -> httpx.Response:
    path = f"{POOL}/instances/{instance_id}"
    match operation:
        case "terminate":
            return await client.delete(path)
        case "pause":
            return await client.post(path + "/pause")
        case "export":
            return await client.get(path + "/checkpoint")
        case _:
            params = {"tenant_id": "tenant", "project_id": "stored", "tier": "COLD"}
            return await client.put(POOL + "/checkpoints", params=params, content=b"archive")


OPERATIONS = ["terminate", "pause", "export", "import"]


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_a_host_of_another_tier_does_it(
    tmp_path: Path, keys: CallKeys, pool: EffectivePool, start_host: Any, operation: str
) -> None:
    host = await start_host(tiers=("WARM",))
    one = types_pb2.Instance(id=host.key_id("tenant", "stored"), **COLD)
    host.indexed[one.id] = one
    async with running_gateway(tmp_path, keys, [(pool, [host])]) as gateway:
        await gateway.sees(1)
        assert (await operate(gateway.client(), operation, one.id)).is_success


async def test_the_one_waiting_pod_is_still_there_afterwards(
    tmp_path: Path, keys: CallKeys, pool: EffectivePool, start_host: Any
) -> None:
    host = await start_host(role="Generic", tiers=("COLD",))
    one = types_pb2.Instance(id=host.key_id("tenant", "stored"), **COLD)
    host.indexed[one.id] = one
    async with running_gateway(tmp_path, keys, [(pool, [host])]) as gateway:
        await gateway.sees(1)
        client = gateway.client()
        for operation in ("export", "import", "pause"):
            assert (await operate(client, operation, one.id)).is_success
        served = await client.post(POOL + "/invoke", json=body(project="new", tier="COLD"))
        assert served.status_code == 200, served.text
