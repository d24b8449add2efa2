# SPDX-License-Identifier: Apache-2.0
"""The audit log of a real gateway: every privileged call over REST and gRPC, and no secret."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio
import httpx
import pytest

from agentpool_core.config import EffectivePool
from agentpool_core.errors import AgentPoolError
from agentpool_gateway.rest.operations import OPERATIONS
from agentpool_proto.v1 import gateway_pb2, gateway_pb2_grpc
from support.callers import AUDIENCE, ISSUER, TokenIssuer, body
from support.fake_host import FakeHost
from support.gateways import CallKeys, GatewayProcess, running_gateway

POOL = "/api/v1/pool"
ALL = ["invoke", "get", "pause", "terminate", "place", "export", "import", "forget", "configure"]
SECRET = "do-not-log-this"
ALLOWED = {
    *("event", "level", "timestamp", "component", "logger", "request_id", "operation", "verb", "outcome"),
    *("issuer", "subject", "namespace", "pool", "tenant", "project", "instance", "tier", "state", "wish"),
    *("erased", "remaining", "declared", "flag", "strategy", "percentage"),
}


@dataclass
class Stage:
    """A gateway with an audit log."""

    gateway: GatewayProcess
    host: FakeHost
    issuer: TokenIssuer
    client: httpx.AsyncClient

    def lines(self) -> list[dict[str, Any]]:
        """The audit log so far."""
        found = [json.loads(line) for line in self.gateway.log.splitlines() if '"audit"' in line]
        assert all(line.keys() <= ALLOWED for line in found)
        return found

    def heads(self) -> dict[str, str]:
        """Headers of a caller who may do everything."""
        return {"authorization": f"Bearer {self.issuer.token('admin')}"}


@asynccontextmanager
async def stage(directory: Path, keys: CallKeys, pool: EffectivePool, host: FakeHost) -> AsyncIterator[Stage]:
    issuer = TokenIssuer()
    auth = {
        "mode": "jwt",
        "issuers": [
            {"issuer": ISSUER, "audience": AUDIENCE, "jwks_file": str(issuer.write(directory / "jwks"))}
        ],
        "grants": [{"subject": "admin", "verbs": ALL}, {"subject": "reader", "verbs": ["get", "invoke"]}],
    }
    async with running_gateway(directory, keys, [(pool, [host])], auth=auth, direct_access=True) as gateway:
        await gateway.sees(1)
        yield Stage(
            gateway, host, issuer, gateway.client({"authorization": f"Bearer {issuer.token('admin')}"})
        )


@pytest.fixture
async def on_stage(
    tmp_path: Path, keys: CallKeys, pool: EffectivePool, start_host: Any
) -> AsyncIterator[Stage]:
    async with stage(tmp_path, keys, pool, await start_host()) as running:
        yield running


async def test_every_privileged_call_of_rest_has_its_line_and_others_have_none(on_stage: Stage) -> None:
    host, client = on_stage.host, on_stage.client
    one = host.hold("tenant", "project")
    path = f"{POOL}/instances/{one.id}"
    await client.get(POOL + "/instances")
    await client.get(path)
    await client.get(POOL + "/stats")
    await client.post(POOL + "/invoke", json=body())
    await client.post(POOL + "/invoke", json=body(tier="WARM"))
    await client.post(POOL + "/instances", json={"tenant_id": "tenant", "project_id": "project"})
    await client.post(POOL + "/leases", json={"tenant_id": "tenant", "project_id": "project"})
    await client.post(path + "/pause")
    await client.post(path + "/resume")
    await client.put(path + "/tier", json={"tier": "WARM"})
    await client.get(path + "/checkpoint")
    await client.put(POOL + "/checkpoints?tenant_id=tenant&project_id=other", content=SECRET)
    await client.delete(path)
    await client.delete(POOL + "/tenants/tenant")
    await client.put(POOL + "/flags/beta", json={"strategy": "PERCENTAGE", "percentage": 7})
    await client.patch(POOL + "/flags/beta", json={"roll_back": True})
    await client.delete(POOL + "/flags/beta")
    await client.get(POOL + "/flags")
    lines = on_stage.lines()
    assert [line["operation"] for line in lines] == [
        *("invoke", "create_instance", "acquire_lease", "pause_instance", "resume_instance"),
        *("move_instance", "export_instance", "import_instance", "terminate_instance", "forget_tenant"),
        *("put_flag", "change_flag", "delete_flag"),
    ]
    audited = {one.id for one in OPERATIONS if one.audited}
    assert {line["operation"] for line in lines} == audited | {"invoke"}
    assert {line["outcome"] for line in lines} == {"Success"}
    about_flags = [(line.get("flag"), line.get("strategy"), line.get("percentage")) for line in lines[-3:]]
    assert about_flags == [("beta", "PERCENTAGE", 7), ("beta", "disabled", 0), ("beta", None, None)]
    assert {(line["subject"], line["issuer"]) for line in lines} == {("admin", ISSUER)}
    assert {line["tenant"] for line in lines[:-3]} == {"tenant"}
    assert {(line["namespace"], line["pool"]) for line in lines} == {("default", "support")}


async def test_grpc_calls_have_the_same_lines(on_stage: Stage) -> None:
    one = on_stage.host.hold("tenant", "project")
    metadata = [("authorization", on_stage.heads()["authorization"]), ("x-request-id", "call-1")]
    named = gateway_pb2.PoolInstanceRequest(instance_id=one.id)
    async with grpc.aio.insecure_channel(on_stage.gateway.grpc_address) as channel:
        stub: Any = gateway_pb2_grpc.AgentPoolGatewayStub(channel)
        request = gateway_pb2.InvokeRequest(tenant_id="tenant", project_id="project", input=b'"x"')
        await stub.Invoke(request, metadata=metadata)
        request.tier = "WARM"
        await stub.Invoke(request, metadata=metadata)
        async for _ in stub.InvokeStream(request, metadata=metadata):
            pass
        create = gateway_pb2.CreateInstanceRequest(tenant_id="tenant", project_id="project")
        await stub.CreateInstance(create, metadata=metadata)
        acquire = gateway_pb2.AcquireRequest(tenant_id="tenant", project_id="project")
        lease = await stub.Acquire(acquire, metadata=metadata)
        await stub.Release(gateway_pb2.ReleaseRequest(lease_id=lease.id), metadata=metadata)
        await stub.GetInstance(named, metadata=metadata)
        await stub.PauseInstance(named, metadata=metadata)
        await stub.ResumeInstance(named, metadata=metadata)
        move = gateway_pb2.MoveInstanceRequest(instance_id=one.id, tier="WARM")
        await stub.MoveInstance(move, metadata=metadata)
        async for _ in stub.ExportInstance(named, metadata=metadata):
            pass
        planted = gateway_pb2.ImportInstanceRequest(tenant_id="tenant", project_id="other", data=b"archive")
        await stub.ImportInstance(iter([planted]), metadata=metadata)
        await stub.TerminateInstance(named, metadata=metadata)
        forgotten = gateway_pb2.ForgetTenantRequest(tenant_id="tenant")
        await stub.ForgetTenant(forgotten, metadata=metadata)
    lines = on_stage.lines()
    assert [line["operation"] for line in lines] == [
        *("invoke", "invoke", "create_instance", "acquire_lease", "pause_instance", "resume_instance"),
        *("move_instance", "export_instance", "import_instance", "terminate_instance", "forget_tenant"),
    ]
    assert {(line["request_id"], line["outcome"], line["tenant"]) for line in lines} == {
        ("call-1", "Success", "tenant")
    }


async def test_refusals_are_told_with_their_code_and_the_caller_as_far_as_known(on_stage: Stage) -> None:
    one = on_stage.host.hold("tenant", "project")
    path = f"{POOL}/instances/{one.id}"
    reader = {"authorization": f"Bearer {on_stage.issuer.token('reader')}"}
    assert (await on_stage.client.delete(path, headers=reader)).status_code == 403
    assert (await on_stage.client.get(path + "/checkpoint", headers=reader)).status_code == 403
    assert (await on_stage.client.delete(POOL + "/tenants/tenant", headers=reader)).status_code == 403
    placed = await on_stage.client.post(POOL + "/invoke", json=body(tier="HOT"), headers=reader)
    assert placed.status_code == 403
    assert (await on_stage.client.delete(path, headers={"authorization": "Bearer x"})).status_code == 401
    assert (await on_stage.client.post(f"{POOL}/instances/inst-none/pause")).status_code == 404
    found = [(line["operation"], line["outcome"], line.get("subject")) for line in on_stage.lines()]
    assert found == [
        ("terminate_instance", "PermissionDenied", "reader"),
        ("export_instance", "PermissionDenied", "reader"),
        ("forget_tenant", "PermissionDenied", "reader"),
        ("invoke", "PermissionDenied", "reader"),
        ("terminate_instance", "Unauthenticated", None),
        ("pause_instance", "InstanceNotFound", "admin"),
    ]


async def test_no_token_key_payload_or_message_gets_into_the_log(on_stage: Stage) -> None:
    host, client = on_stage.host, on_stage.client
    one = host.hold("tenant", "project")
    host.archive = [SECRET.encode()]
    await client.post(
        POOL + "/invoke", json=body(value=SECRET, tier="WARM"), headers={"idempotency-key": SECRET + "-key"}
    )
    await client.get(f"{POOL}/instances/{one.id}/checkpoint")
    await client.put(POOL + "/checkpoints?tenant_id=t&project_id=p", content=SECRET)
    host.refuse = AgentPoolError(SECRET)
    await client.post(f"{POOL}/instances/{one.id}/pause")
    bad = f"Bearer {SECRET}"
    await client.post(f"{POOL}/instances/{one.id}/pause", headers={"authorization": bad})
    assert len(on_stage.lines()) == 5
    log = on_stage.gateway.log
    assert SECRET not in log
    assert client.headers["authorization"].removeprefix("Bearer ") not in log


async def test_an_archive_whose_host_breaks_off_has_no_end(on_stage: Stage) -> None:
    one = on_stage.host.hold("tenant", "project")
    on_stage.host.archive = [b"first", None]
    with pytest.raises(httpx.RemoteProtocolError):
        await on_stage.client.get(f"{POOL}/instances/{one.id}/checkpoint")
    assert [(line["operation"], line["outcome"]) for line in on_stage.lines()] == [
        ("export_instance", "Unavailable")
    ]
    on_stage.host.archive = [None]
    refused = await on_stage.client.get(f"{POOL}/instances/{one.id}/checkpoint")
    assert refused.status_code == 503


def test_the_log_level_does_not_switch_it_off() -> None:
    program = (
        "from agentpool_rpc.logs import configure_logs\n"
        "from agentpool_gateway.admission.audit import AuditLine\n"
        "configure_logs('gateway', 'ERROR')\n"
        "AuditLine('r-1', 'pause_instance', 'pause', True).__exit__(None, None, None)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    line = json.loads(done.stderr)
    assert (line["logger"], line["component"], line["request_id"]) == ("audit", "gateway", "r-1")
