# SPDX-License-Identifier: Apache-2.0
"""Every refusal of issue 3's list, over REST and over gRPC, with nothing reaching an agent."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
import httpx
import pytest
import pytest_asyncio

from agentpool_core import errors
from agentpool_core.config import EffectivePool
from agentpool_proto.v1 import gateway_pb2, gateway_pb2_grpc
from agentpool_rpc.status import from_rpc_error
from support.callers import TokenIssuer, body
from support.fake_host import FakeHost
from support.gateways import CallKeys, GatewayProcess, running_gateway
from support.waiting import eventually

INVOKE = "/api/v1/pool/invoke"
FLAGS = "/api/v1/pool/flags"
OTHER = "/api/v1/namespaces/{}/pools/{}/invoke"
pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass
class Stage:
    """One gateway with one host for all cases."""

    gateway: GatewayProcess
    host: FakeHost
    issuer: TokenIssuer
    client: httpx.AsyncClient

    def bearer(self, subject: str = "app") -> dict[str, str]:
        return {"authorization": f"Bearer {self.issuer.token(subject)}"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(
    tmp_path_factory: pytest.TempPathFactory, keys: CallKeys, pool: EffectivePool
) -> AsyncIterator[Stage]:
    directory = tmp_path_factory.mktemp("gateway")
    issuer = TokenIssuer()
    host = await FakeHost(pool, keys.verifier()).start()
    off = pool.model_copy(update={"name": "off", "enabled": False})
    auth = {
        "mode": "jwt",
        "issuers": [{"issuer": "https://issuer.test", "jwks_file": str(issuer.write(directory / "jwks"))}],
        "grants": [
            {"subject": "app", "verbs": ["invoke", "get", "pause", "terminate", "place", "configure"]},
            {"subject": "caller", "namespace": "default", "verbs": ["invoke"]},
            {"subject": "one-tenant", "verbs": ["invoke", "get", "pause"], "tenants": ["tenant"]},
        ],
    }
    async with running_gateway(directory, keys, [(pool, [host]), (off, [])], auth=auth) as gateway:
        await gateway.sees(1)
        yield Stage(gateway, host, issuer, gateway.client())
    await host.stop()


@dataclass
class Case:
    """A request and its refusal."""

    name: str
    status: int
    code: str
    content: Any = field(default_factory=body)
    path: str = INVOKE
    method: str = "POST"
    headers: dict[str, str] = field(default_factory=dict)
    subject: str | None = "app"
    says: str = ""


CASES = [
    Case("a body that is not JSON", 400, "MalformedRequest", b"{"),
    Case("an empty body", 400, "MalformedRequest", b""),
    Case("a body that is not UTF-8", 400, "MalformedRequest", b'{"input": "\xff"}'),
    Case("a body that is no object", 422, "ValidationFailed", b"[]"),
    Case("an unknown field", 422, "ValidationFailed", body(temperature=1), says="temperature"),
    Case("no tenant", 422, "ValidationFailed", {"project_id": "p", "input": 1}, says="tenant_id"),
    Case("an empty project", 422, "ValidationFailed", body(project=""), says="project_id"),
    Case("a project that is a number", 422, "ValidationFailed", body(project=7), says="project_id"),  # type: ignore[arg-type]
    Case("a tenant of 254 characters", 422, "ValidationFailed", body(tenant="t" * 254), says="tenant_id"),
    Case("a tenant with a line break", 422, "ValidationFailed", body(tenant="a\nb"), says="tenant_id"),
    Case("no input", 422, "ValidationFailed", {"tenant_id": "t", "project_id": "p"}, says="input"),
    Case("an unknown tier", 422, "ValidationFailed", body(tier="LUKEWARM"), says="tier"),
    Case("an unknown consistency", 422, "ValidationFailed", body(consistency="eventual"), says="consistency"),
    Case("an unknown query parameter", 422, "ValidationFailed", path=INVOKE + "?stream=1", says="stream"),
    Case("a time-out that is no number", 422, "ValidationFailed", headers={"x-request-timeout": "soon"}),
    Case("a negative time-out", 422, "ValidationFailed", headers={"x-request-timeout": "-1"}),
    Case("an empty idempotency key", 422, "ValidationFailed", headers={"idempotency-key": ""}),
    Case("an encoded body", 400, "MalformedRequest", headers={"content-encoding": "gzip"}),
    Case("an input over the pool's limit", 413, "PayloadTooLarge", body(value="x" * 1001)),
    Case("a body far over the limit", 413, "PayloadTooLarge", body(value="x" * 5_000_000)),
    Case("no token", 401, "Unauthenticated", subject=None),
    Case("a token that is none", 401, "Unauthenticated", subject=None, headers={"authorization": "Bearer x"}),
    Case("another scheme", 401, "Unauthenticated", subject=None, headers={"authorization": "Basic eDp5"}),
    Case("no right at all", 403, "PermissionDenied", subject="stranger"),
    Case("no right to choose a tier", 403, "PermissionDenied", body(tier="HOT"), subject="caller"),
    Case("no right for the tenant", 403, "PermissionDenied", body(tenant="other"), subject="one-tenant"),
    Case("an unknown pool", 404, "PoolNotFound", path=OTHER.format("default", "nowhere")),
    Case("no right, no pool", 403, "PermissionDenied", path=OTHER.format("x", "y"), subject="caller"),
    Case(
        "an instance to keep where requests pass the pool by",
        409, "PoolDisabled", {"tenant_id": "t", "project_id": "p"},
        "/api/v1/namespaces/default/pools/off/instances",
    ),
    Case("a flag that there is none of", 404, "FlagNotFound", None, FLAGS + "/beta", "GET"),
    Case("a flag without strategy", 422, "ValidationFailed", {}, FLAGS + "/beta", "PUT", says="strategy"),
    Case("a misspelt field of a flag", 422, "ValidationFailed", {"strategy": "ALL", "percent": 5},
         FLAGS + "/beta", "PUT", says="percent"),
    Case("a percentage above 100", 422, "ValidationFailed", {"percentage": 101}, FLAGS + "/beta", "PATCH"),
    Case("two changes at once", 422, "ValidationFailed", {"percentage": 1, "roll_back": True},
         FLAGS + "/beta", "PATCH", says="2 changes"),
    Case("no change", 422, "ValidationFailed", {}, FLAGS + "/beta", "PATCH", says="0 changes"),
    Case("GRADUAL without schedule", 422, "ValidationFailed", {"strategy": "GRADUAL"}, FLAGS + "/beta", "PUT",
         says="schedule of the flag beta is missing"),
    Case("a bad name of a flag", 422, "ValidationFailed", {"strategy": "ALL"}, FLAGS + "/Be ta", "PUT",
         says="name of the flag"),
    Case("a flag that was not set", 404, "FlagNotFound", None, FLAGS + "/agent_pool_enabled", "DELETE"),
    Case("no right to set flags", 403, "PermissionDenied", {"strategy": "ALL"}, FLAGS + "/beta", "PUT",
         subject="caller"),
    Case("flags name tenants, hidden from a caller of one", 403, "PermissionDenied", None, FLAGS, "GET",
         subject="one-tenant"),
    Case("an unknown path", 404, "PathNotFound", path="/api/v1/pools"),
    Case("a method that the path does not take", 405, "MethodNotAllowed", method="PUT"),
    Case("an unknown state", 422, "ValidationFailed", None, "/api/v1/pool/instances?state=X", "GET"),
    Case("a page of nothing", 422, "ValidationFailed", None, "/api/v1/pool/instances?limit=0", "GET"),
    Case("an unknown instance", 404, "InstanceNotFound", None, "/api/v1/pool/instances/inst-1", "GET"),
    Case(
        "an unknown instance, for a caller of one tenant",
        403, "PermissionDenied", None, "/api/v1/pool/instances/inst-1", "GET", subject="one-tenant",
    ),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_rest_refuses_and_the_host_hears_nothing(stage: Stage, case: Case) -> None:
    heard = len(stage.host.invoked)
    headers = {**(stage.bearer(case.subject) if case.subject else {}), **case.headers}
    content = {"content": case.content} if isinstance(case.content, bytes) else {"json": case.content}
    answer = await stage.client.request(
        case.method, case.path, headers={**headers, "x-request-id": "r-1"}, **content
    )
    problem = answer.json()
    assert (answer.status_code, problem["status"], problem["code"]) == (case.status, case.status, case.code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["instance"] == answer.headers["x-request-id"] == "r-1"
    assert problem["remedy"] and problem["title"] and problem["type"].endswith(case.code)
    assert case.says in problem["detail"]
    assert len(stage.host.invoked) == heard
    if case.status == 401:
        assert answer.headers["www-authenticate"].startswith("Bearer")
    if case.status == 405:
        assert answer.headers["allow"] == "POST"


@pytest.mark.parametrize(
    "error",
    [
        errors.RateExceeded("too many", retry_after_seconds=0.25),
        errors.ConcurrencyExceeded("too many at once", retry_after_seconds=2.1),
        errors.PoolExhausted("full", retry_after_seconds=1.0),
        errors.StoreUnavailable("the store is away", retry_after_seconds=1.0),
        errors.InstancePaused("paused"),
        errors.IdempotencyUnsupported("no keys here"),
        errors.InputRejected("the agent does not like it"),
        errors.AgentCreationTimeout("slow"),
        errors.StateTooLarge("big"),
    ],
    ids=lambda error: error.code,
)
async def test_a_hosts_refusal_reaches_the_caller_as_it_is(
    stage: Stage, error: errors.AgentPoolError
) -> None:
    stage.host.refuse = error
    try:
        answer = await stage.client.post(INVOKE, json=body(), headers=stage.bearer())
        failure = await rpc_failure(stage, request())
    finally:
        stage.host.refuse = None
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (error.http_status, error.code)
    assert problem["retryable"] == error.retryable
    if error.retry_after_seconds is not None:
        assert int(answer.headers["retry-after"]) >= max(error.retry_after_seconds, 1)
        assert problem["retry_after_seconds"] == error.retry_after_seconds
    assert failure.code().name == error.grpc_status
    known = from_rpc_error(failure)
    assert known is not None
    assert (known.code, known.retry_after_seconds) == (error.code, error.retry_after_seconds)


async def test_an_illegal_transition_is_a_conflict(stage: Stage) -> None:
    created = await stage.client.post(
        "/api/v1/pool/instances", json={"tenant_id": "tenant", "project_id": "p"}, headers=stage.bearer()
    )
    assert created.status_code == 201
    stage.host.refuse = errors.IllegalTransition("no", details={"from": "READY", "to": "READY"})
    try:
        path = f"/api/v1/pool/instances/{created.json()['id']}/resume"
        answer = await stage.client.post(path, headers=stage.bearer())
    finally:
        stage.host.refuse = None
    assert (answer.status_code, answer.json()["code"]) == (409, "IllegalTransition")


def request(**fields: Any) -> gateway_pb2.InvokeRequest:
    """An invoke over gRPC."""
    return gateway_pb2.InvokeRequest(
        **{"tenant_id": "tenant", "project_id": "project", "input": b'"hello"', **fields}
    )


async def rpc_failure(
    stage: Stage,
    message: gateway_pb2.InvokeRequest,
    subject: str | None = "app",
    metadata: tuple[tuple[str, str], ...] = (),
) -> grpc.aio.AioRpcError:
    """The error of a call that fails."""
    if subject is not None:
        metadata = (*metadata, *stage.bearer(subject).items())
    async with grpc.aio.insecure_channel(stage.gateway.grpc_address) as channel:
        stub = gateway_pb2_grpc.AgentPoolGatewayStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Invoke(message, metadata=metadata, timeout=10)
    return caught.value


ELSEWHERE = gateway_pb2.PoolRef(namespace="default", name="nowhere")


@pytest.mark.parametrize(
    ("message", "subject", "status", "code"),
    [
        pytest.param(
            request(input=b"{"), "app", "INVALID_ARGUMENT", "MalformedRequest", id="input is not JSON"
        ),
        pytest.param(request(input=b""), "app", "INVALID_ARGUMENT", "MalformedRequest", id="no input"),
        pytest.param(request(tenant_id=""), "app", "INVALID_ARGUMENT", "ValidationFailed", id="no tenant"),
        pytest.param(request(tier="TEPID"), "app", "INVALID_ARGUMENT", "ValidationFailed", id="unknown tier"),
        pytest.param(
            request(consistency="x"), "app", "INVALID_ARGUMENT", "ValidationFailed", id="unknown consistency"
        ),
        pytest.param(
            request(input=b'"' + b"x" * 1001 + b'"'),
            "app",
            "INVALID_ARGUMENT",
            "PayloadTooLarge",
            id="too large",
        ),
        pytest.param(request(), None, "UNAUTHENTICATED", "Unauthenticated", id="no token"),
        pytest.param(request(), "stranger", "PERMISSION_DENIED", "PermissionDenied", id="no right"),
        pytest.param(request(pool=ELSEWHERE), "app", "NOT_FOUND", "PoolNotFound", id="unknown pool"),
    ],
)
async def test_grpc_refuses_with_reason(
    stage: Stage, message: gateway_pb2.InvokeRequest, subject: str | None, status: str, code: str
) -> None:
    failure = await rpc_failure(stage, message, subject)
    known = from_rpc_error(failure)
    assert (failure.code().name, known.code if known else None) == (status, code)


async def test_no_body_and_no_token_is_in_the_log(stage: Stage) -> None:
    secret = "the-secret-of-the-body"
    token = stage.issuer.token("app")
    for content in (body(value=secret), body(value=secret, more=secret), {"tenant_id": secret}):
        await stage.client.post(INVOKE, json=content, headers={"authorization": f"Bearer {token}"})
    log = stage.gateway.log
    assert "gateway_started" in log
    assert secret not in log
    assert token not in log
    assert token.split(".")[2] not in log


async def test_a_body_of_unknown_length_is_cut_off_at_the_limit(stage: Stage) -> None:

    async def endless() -> AsyncIterator[bytes]:
        yield b'{"tenant_id": "t", "project_id": "p", "input": "'
        for _ in range(200):
            yield b"x" * 10_000

    answer = await stage.client.post(INVOKE, content=endless(), headers=stage.bearer())
    assert (answer.status_code, answer.json()["code"]) == (413, "PayloadTooLarge")
    assert (await stage.client.get("/healthz")).status_code == 200


async def test_a_caller_of_one_tenant_sees_and_touches_no_other(stage: Stage) -> None:
    own = stage.host.hold("tenant", "scoped").id
    other = stage.host.hold("other", "scoped").id
    bearer = stage.bearer("one-tenant")
    path = "/api/v1/pool/instances"

    async def both_are_known() -> bool:
        listed = (await stage.client.get(path, headers=stage.bearer())).json()["instances"]
        return {own, other} <= {one["id"] for one in listed}

    await eventually(both_are_known)
    seen = {one["id"] for one in (await stage.client.get(path, headers=bearer)).json()["instances"]}
    assert own in seen and other not in seen
    assert (await stage.client.get(f"{path}/{own}", headers=bearer)).status_code == 200
    assert (await stage.client.get(f"{path}/{other}", headers=bearer)).status_code == 403
    assert (await stage.client.post(f"{path}/{other}/pause", headers=bearer)).status_code == 403
    assert stage.host.instances[other].state == "READY"
