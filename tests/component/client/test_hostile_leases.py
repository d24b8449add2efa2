# SPDX-License-Identifier: Apache-2.0
"""What a leased token is good for: requests of its instance at its host for a minute, and nothing else."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
import pytest_asyncio

from agentpool_core.config import EffectivePool
from agentpool_core.errors import AgentPoolError
from agentpool_proto.v1 import gateway_pb2, gateway_pb2_grpc, host_pb2, host_pb2_grpc
from agentpool_rpc.channels import open_channel
from agentpool_rpc.status import from_rpc_error
from agentpool_rpc.tokens import LEEWAY_SECONDS, LIFETIME_SECONDS, TokenSigner
from support.callers import TokenIssuer
from support.fake_host import FakeHost
from support.gateways import CallKeys, GatewayProcess, running_gateway
from support.hosts import COUNTER, PRIVATE_KEY, HostPod, instance_id, pool_config
from support.spine import Spine, running_spine

pytestmark = pytest.mark.asyncio(loop_scope="module")
POOL = "/api/v1/pool"


@dataclass
class Stage:
    """A leased instance, and a second host that has never heard of it."""

    spine: Spine
    lease: dict[str, Any]

    def stub(self, number: int = 0) -> Any:
        """A host, as an application reaches it."""
        return host_pb2_grpc.AgentHostStub(self.channels[number])

    @property
    def channels(self) -> list[grpc.aio.Channel]:
        """One to each host."""
        return [pod.client.channel for pod in self.spine.pods]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage() -> AsyncIterator[Stage]:
    config = pool_config(agent=COUNTER, storage="Redis")
    async with running_spine(config, hosts=2, settings={"direct_access": True}) as spine:
        await spine.pods[0].client.invoke("acme", "mine", "add")
        await spine.pods[0].client.invoke("bistro", "theirs", "add")
        answer = (
            await spine.gateways[0]
            .client()
            .post(POOL + "/leases", json={"tenant_id": "acme", "project_id": "mine", "confirm": True})
        )
        assert answer.status_code == 201, answer.text
        assert answer.headers["cache-control"] == "no-store"
        yield Stage(spine, answer.json())


async def refusal(call: Any) -> AgentPoolError:
    """The error with which a call of a host ends."""
    try:
        if hasattr(call, "read"):
            await call.read()
        else:
            await call
    except grpc.aio.AioRpcError as exc:
        error = from_rpc_error(exc)
        assert error is not None, exc
        return error
    raise AssertionError("the call was not refused")


def bearing(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", token),)


def request(tenant: str = "acme", project: str = "mine", **more: Any) -> host_pb2.HostInvokeRequest:
    return host_pb2.HostInvokeRequest(
        **{"tenant_id": tenant, "project_id": project, "input": b'"get"', **more}
    )


async def test_a_lease_says_where_the_instance_is(stage: Stage) -> None:
    lease, pod = stage.lease, stage.spine.pods[0]
    assert lease["address"] == pod.address
    assert lease["pod"] == pod.name
    assert lease["instance_id"] == instance_id("acme", "mine")
    assert lease["incarnation"] == pod.client.incarnation
    assert LIFETIME_SECONDS - 5 < lease["seconds_left"] <= LIFETIME_SECONDS


async def test_it_is_good_for_requests_of_its_instance(stage: Stage) -> None:
    stream = stage.stub().Invoke(request(), metadata=bearing(stage.lease["token"]), timeout=20)
    events = [event.WhichOneof("event") async for event in stream]
    assert events == ["accepted", "done"]


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param(request("bistro", "theirs"), id="another tenant that lives there"),
        pytest.param(request("acme", "theirs"), id="another project"),
        pytest.param(request("acme", "mine", tier="HOT"), id="a tier of the caller's choice"),
        pytest.param(request("acm", "emine"), id="the same letters, cut elsewhere"),
        pytest.param(request("", ""), id="nobody"),
    ],
)
async def test_it_is_good_for_no_other_instance(stage: Stage, asked: host_pb2.HostInvokeRequest) -> None:
    call = stage.stub().Invoke(asked, metadata=bearing(stage.lease["token"]), timeout=20)
    error = await refusal(call)
    assert (error.http_status, error.code) == (403, "PermissionDenied")


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("Activate", host_pb2.ActivateRequest(tenant_id="acme", project_id="mine")),
        *(
            (method, host_pb2.InstanceRequest(instance_id=instance_id("acme", "mine")))
            for method in ("Pause", "Resume", "Terminate", "Get")
        ),
        ("Move", host_pb2.MoveRequest(instance_id=instance_id("acme", "mine"), tier="COLD")),
        ("Export", host_pb2.InstanceRequest(instance_id=instance_id("acme", "mine"))),
        ("Retire", host_pb2.RetireRequest()),
        ("Configure", host_pb2.ConfigureRequest(generation=99, config=b"{}")),
        ("List", host_pb2.ListRequest()),
        ("Watch", host_pb2.WatchRequest()),
    ],
)
async def test_it_is_good_for_no_other_call(stage: Stage, method: str, message: object) -> None:
    call = getattr(stage.stub(), method)(message, metadata=bearing(stage.lease["token"]), timeout=20)
    assert (await refusal(call)).http_status in (401, 403)


async def test_it_is_good_for_no_import(stage: Stage) -> None:
    target = host_pb2.ImportTarget(tenant_id="acme", project_id="mine", replace=True)
    metadata = bearing(stage.lease["token"])
    call = stage.stub().Import(iter([host_pb2.ImportRequest(target=target)]), metadata=metadata, timeout=20)
    assert (await refusal(call)).http_status == 403


async def test_it_is_good_at_no_other_host(stage: Stage) -> None:
    call = stage.stub(1).Invoke(request(), metadata=bearing(stage.lease["token"]), timeout=20)
    assert (await refusal(call)).code == "Unauthenticated"


async def test_it_is_good_for_a_minute(stage: Stage) -> None:
    # The same token, as it was signed a while ago.
    past = time.time() - LIFETIME_SECONDS - LEEWAY_SECONDS - 1
    signer = TokenSigner(PRIVATE_KEY, "gateway", lambda: past)
    token, _ = signer.lease(stage.lease["incarnation"], stage.lease["instance_id"])
    error = await refusal(stage.stub().Invoke(request(), metadata=bearing(token), timeout=20))
    assert error.code == "Unauthenticated" and "expired" in error.message


@pytest.mark.parametrize(
    ("more", "code"),
    [
        pytest.param({"input": b"{"}, "MalformedRequest", id="an input that is no JSON"),
        pytest.param({"idempotency_key": "a\tb"}, "ValidationFailed", id="a key that is not printable"),
    ],
)
async def test_the_host_checks_what_no_gateway_has_seen(
    stage: Stage, more: dict[str, Any], code: str
) -> None:
    call = stage.stub().Invoke(request(**more), metadata=bearing(stage.lease["token"]), timeout=20)
    assert (await refusal(call)).code == code


async def test_its_id_is_no_token_for_anything(stage: Stage) -> None:
    token = "Bearer " + stage.lease["id"]
    assert (await refusal(stage.stub().Invoke(request(), metadata=bearing(token), timeout=20))).code == (
        "Unauthenticated"
    )


async def test_a_report_is_taken_for_leases_that_were_given(stage: Stage) -> None:
    client = stage.spine.gateways[0].client()
    report = {"lease_id": stage.lease["id"], "requests": 2, "failures": 1, "held_seconds": 1.5}
    taken = await client.post(POOL + "/leases/release", json=report)
    assert (taken.status_code, taken.json()) == (200, {"counted": True})
    for wrong in (
        {"failures": 3},
        {"lease_id": stage.lease["token"].removeprefix("Bearer ")},
        {"lease_id": "x"},
        {"held_seconds": -1},
        {"other": 1},
    ):
        refused = await client.post(POOL + "/leases/release", json={**report, **wrong})
        assert (refused.status_code, refused.json()["code"]) == (422, "ValidationFailed"), wrong


async def test_a_lease_does_not_keep_its_instance(stage: Stage) -> None:
    pod: HostPod = stage.spine.pods[0]
    signer = TokenSigner(PRIVATE_KEY, "gateway", time.time)
    await pod.client.invoke("acme", "leaves", "add")
    token, _ = signer.lease(pod.client.incarnation, instance_id("acme", "leaves"))
    target = host_pb2.InstanceRequest(instance_id=instance_id("acme", "leaves"))
    paused = await pod.client.call("Pause", target)
    assert paused.state == "PAUSED"
    call = stage.stub().Invoke(request("acme", "leaves"), metadata=bearing(token), timeout=20)
    assert (await refusal(call)).code == "InstancePaused"


@dataclass
class Guarded:
    """A gateway that knows its callers."""

    gateway: GatewayProcess
    issuer: TokenIssuer

    def headers(self, subject: str) -> dict[str, str]:
        return {"authorization": f"Bearer {self.issuer.token(subject)}"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def guarded(tmp_path_factory: pytest.TempPathFactory, pool: EffectivePool) -> AsyncIterator[Guarded]:
    directory, issuer, keys = tmp_path_factory.mktemp("gateway"), TokenIssuer(), CallKeys.make()
    host = await FakeHost(pool, keys.verifier()).start()
    auth = {
        "mode": "jwt",
        "issuers": [{"issuer": "https://issuer.test", "jwks_file": str(issuer.write(directory / "jwks"))}],
        "grants": [
            {"subject": "app", "verbs": ["invoke"]},
            {"subject": "reader", "verbs": ["get"]},
            {"subject": "one-tenant", "verbs": ["invoke"], "tenants": ["tenant"]},
        ],
    }
    async with running_gateway(directory, keys, [(pool, [host])], auth=auth, direct_access=True) as gateway:
        await gateway.sees(1)
        yield Guarded(gateway, issuer)
    await host.stop()


@pytest.mark.parametrize(
    ("subject", "more", "wanted"),
    [
        pytest.param("app", {}, 201, id="who may invoke gets one"),
        pytest.param("one-tenant", {}, 201, id="who may for one tenant gets one of it"),
        pytest.param("one-tenant", {"tenant_id": "other"}, 403, id="and none of another tenant"),
        pytest.param("reader", {}, 403, id="who may not invoke gets none"),
        pytest.param("app", {"tier": "HOT"}, 403, id="who may not place chooses no tier"),
        pytest.param("nobody", {}, 403, id="a stranger gets none"),
    ],
)
async def test_who_gets_a_lease(guarded: Guarded, subject: str, more: dict[str, str], wanted: int) -> None:
    body = {"tenant_id": "tenant", "project_id": "p", **more}
    answer = await guarded.gateway.client().post(
        POOL + "/leases", json=body, headers=guarded.headers(subject)
    )
    assert answer.status_code == wanted, answer.text


async def test_each_lease_is_in_the_audit_log_without_its_token(guarded: Guarded) -> None:
    body = {"tenant_id": "tenant", "project_id": "audited"}
    headers = guarded.headers("app")
    lease = (await guarded.gateway.client().post(POOL + "/leases", json=body, headers=headers)).json()
    log = guarded.gateway.log
    lines = [json.loads(line) for line in log.splitlines() if '"acquire_lease"' in line]
    mine = [line for line in lines if line.get("project") == "audited"]
    assert [(line["outcome"], line["instance"]) for line in mine] == [("Success", lease["instance_id"])]
    assert lease["token"].removeprefix("Bearer ") not in log
    assert lease["id"] not in log


async def test_only_who_may_act_for_the_tenant_reports_its_lease(guarded: Guarded) -> None:
    client = guarded.gateway.client()
    body = {"tenant_id": "other", "project_id": "p"}
    lease = (await client.post(POOL + "/leases", json=body, headers=guarded.headers("app"))).json()
    report = {"lease_id": lease["id"], "requests": 1, "failures": 0, "held_seconds": 1}
    refused = await client.post(POOL + "/leases/release", json=report, headers=guarded.headers("one-tenant"))
    assert refused.status_code == 403


async def test_a_gateway_that_gives_no_leases_says_so(tmp_path: Path, pool: EffectivePool) -> None:
    keys = CallKeys.make()
    host = await FakeHost(pool, keys.verifier()).start()
    async with running_gateway(tmp_path, keys, [(pool, [host])]) as gateway:
        await gateway.sees(1)
        body = {"tenant_id": "tenant", "project_id": "p"}
        refused = await gateway.client().post(POOL + "/leases", json=body)
        problem = refused.json()
        assert (refused.status_code, problem["code"]) == (403, "DirectAccessOff")
        assert "directAccess.enabled" in problem["remedy"]
        async with open_channel(gateway.grpc_address) as channel:
            stub: Any = gateway_pb2_grpc.AgentPoolGatewayStub(channel)
            error = await refusal(
                stub.Acquire(gateway_pb2.AcquireRequest(tenant_id="tenant", project_id="p"))
            )
        assert error.code == "DirectAccessOff"
    assert not host.instances, "nothing was activated for it"
    await host.stop()
