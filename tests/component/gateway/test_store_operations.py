# SPDX-License-Identifier: Apache-2.0
"""What is done to instances that nobody holds takes any host, and no pod that waits for an instance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc.aio
import httpx
import pytest

from agentpool_core.config import EffectivePool
from agentpool_core.errors import AgentPoolError
from agentpool_proto.v1 import gateway_pb2, gateway_pb2_grpc, types_pb2
from agentpool_rpc.status import from_rpc_error
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


Import = gateway_pb2.ImportInstanceRequest


async def test_state_goes_out_and_in_and_ends_over_grpc(
    tmp_path: Path, keys: CallKeys, pool: EffectivePool, start_host: Any
) -> None:
    host = await start_host()
    host.archive = [b"ar", b"chi", b"ve"]
    one = types_pb2.Instance(id=host.key_id("tenant", "stored"), **COLD)
    host.indexed[one.id] = one
    async with (
        running_gateway(tmp_path, keys, [(pool, [host])]) as gateway,
        grpc.aio.insecure_channel(gateway.grpc_address) as channel,
    ):
        await gateway.sees(1)
        stub: Any = gateway_pb2_grpc.AgentPoolGatewayStub(channel)
        named = gateway_pb2.PoolInstanceRequest(instance_id=one.id)
        archive = b"".join([part.data async for part in stub.ExportInstance(named)])
        assert archive == b"archive"
        parts = [Import(tenant_id="tenant", project_id="copy", replace=True, data=archive[:3])]
        parts += [Import(data=archive[3:])]
        planted = await stub.ImportInstance(iter(parts))
        assert (planted.state, planted.id) == ("PAUSED", host.key_id("tenant", "copy"))
        ((target, body_),) = host.imported
        assert (target.project_id, target.replace, body_) == ("copy", True, archive)
        forgotten = await stub.ForgetTenant(gateway_pb2.ForgetTenantRequest(tenant_id="tenant"))
        assert (forgotten.complete, forgotten.erased, forgotten.remaining) == (True, 1, 0)
        assert one.state == "TERMINATED"


WRONG: dict[str, tuple[list[Any], str]] = {
    "no message at all": ([], "MalformedRequest"),
    "no tenant": ([Import(project_id="p", data=b"a")], "ValidationFailed"),
    "a tier that there is not": ([Import(tenant_id="t", project_id="p", tier="HUGE")], "ValidationFailed"),
    "more than the pool takes": (
        [Import(tenant_id="t", project_id="p"), *([Import(data=bytes(2**20))] * 20)],
        "PayloadTooLarge",
    ),
}


@pytest.mark.parametrize("name", WRONG)
async def test_an_import_that_cannot_be_is_refused_and_reaches_no_host(
    tmp_path: Path, keys: CallKeys, pool: EffectivePool, start_host: Any, name: str
) -> None:
    messages, code = WRONG[name]
    limits = pool.limits.model_copy(update={"state_bytes": 2**16})
    pool = pool.model_copy(update={"limits": limits})
    host = await start_host()
    async with (
        running_gateway(tmp_path, keys, [(pool, [host])]) as gateway,
        grpc.aio.insecure_channel(gateway.grpc_address) as channel,
    ):
        await gateway.sees(1)
        stub: Any = gateway_pb2_grpc.AgentPoolGatewayStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.ImportInstance(iter(messages))
        error = from_rpc_error(refused.value)
        assert isinstance(error, AgentPoolError)
        assert (error.code, host.imported) == (code, [])


async def test_an_archive_that_breaks_off_ends_with_an_error_over_grpc(
    tmp_path: Path, keys: CallKeys, pool: EffectivePool, start_host: Any
) -> None:
    host = await start_host()
    host.archive = [b"ar", None]
    one = types_pb2.Instance(id=host.key_id("tenant", "stored"), **COLD)
    host.indexed[one.id] = one
    async with (
        running_gateway(tmp_path, keys, [(pool, [host])]) as gateway,
        grpc.aio.insecure_channel(gateway.grpc_address) as channel,
    ):
        await gateway.sees(1)
        stub: Any = gateway_pb2_grpc.AgentPoolGatewayStub(channel)
        got = []
        with pytest.raises(grpc.aio.AioRpcError):
            async for part in stub.ExportInstance(gateway_pb2.PoolInstanceRequest(instance_id=one.id)):
                got.append(part.data)  # noqa: PERF401  # what came before the error counts
        assert got == [b"ar"]
