# SPDX-License-Identifier: Apache-2.0
"""Flags through a real gateway: set, told to the other gateways, heeded at the next request, and OFREP."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from agentpool_core.config import EffectivePool
from agentpool_core.errors import StoreUnavailable
from agentpool_proto.v1 import gateway_pb2, gateway_pb2_grpc
from support.builders import effective_pool
from support.callers import AUDIENCE, ISSUER, TokenIssuer, body
from support.fake_host import FakeHost, Ownership
from support.gateways import CallKeys, running_gateway, write_membership
from support.waiting import eventually

POOL = "/api/v1/pool"
FLAG = POOL + "/flags/agent_pool_enabled"


async def served_by(client: Any, project: str = "project", **more: Any) -> str:
    """Which way a request took."""
    answer = await client.post(POOL + "/invoke", json=body(project, **more))
    assert answer.status_code == 200, answer.text
    return str(answer.json()["served_by"])


async def test_a_rollback_holds_for_the_next_request_at_every_gateway(
    tmp_path: Path, keys: CallKeys, pool: EffectivePool, start_host: Any
) -> None:
    host = await start_host()
    async with (
        running_gateway(tmp_path / "a", keys, [(pool, [host])]) as first,
        running_gateway(tmp_path / "b", keys, [(pool, [host])]) as second,
    ):
        await first.sees(1)
        await second.sees(1)
        here, there = first.client(), second.client()
        assert [await served_by(here), await served_by(there)] == ["pool", "pool"]
        answer = await here.patch(FLAG, json={"roll_back": True})
        assert (answer.json()["enabled"], answer.json()["origin"]) == (False, "set")
        assert await served_by(here) == "one-shot"
        assert host.invoked[-1].one_shot

        async def rolled_back() -> bool:
            return await served_by(there) == "one-shot"

        await eventually(rolled_back, 5)
        # From the other one, which knows what the first one did.
        assert (await there.patch(FLAG, json={"enable_for_tenant": "tenant"})).json()["tenants"] == ["tenant"]
        assert await served_by(there) == "pool"
        assert await served_by(there, tenant="another") == "one-shot"
        assert (await there.delete(FLAG)).status_code == 204
        assert await served_by(there, tenant="another") == "pool"


async def test_two_gateways_that_set_flags_at_once_lose_none(
    tmp_path: Path, keys: CallKeys, pool: EffectivePool, start_host: Any
) -> None:
    host = await start_host()
    async with (
        running_gateway(tmp_path / "a", keys, [(pool, [host])]) as first,
        running_gateway(tmp_path / "b", keys, [(pool, [host])]) as second,
    ):
        await first.sees(1)
        await second.sees(1)
        clients = [first.client(), second.client()]
        calls = [
            clients[number % 2].put(f"{POOL}/flags/f{number}", json={"strategy": "ALL"})
            for number in range(8)
        ]
        assert {answer.status_code for answer in await asyncio.gather(*calls)} == {200}

        async def all_known() -> bool:
            found = (await clients[0].get(POOL + "/flags")).json()["flags"]
            return {f"f{number}" for number in range(8)} <= {flag["name"] for flag in found}

        await eventually(all_known, 5)


async def test_a_declared_flag_rules_and_is_changed_in_the_manifest_only(
    tmp_path: Path, keys: CallKeys, start_host: Any
) -> None:
    written = {"name": "agent_pool_enabled", "strategy": "ALLOWLIST", "tenants": ["tenant"]}
    pool = effective_pool({"featureFlags": [written]})
    host = await start_host(of=pool)
    async with running_gateway(tmp_path, keys, [(pool, [host])]) as gateway:
        await gateway.sees(1)
        client = gateway.client()
        assert [await served_by(client), await served_by(client, tenant="x")] == ["pool", "one-shot"]
        for refused in (
            await client.put(FLAG, json={"strategy": "ALL"}),
            await client.patch(FLAG, json={"roll_back": True}),
            await client.delete(FLAG),
        ):
            assert (refused.status_code, refused.json()["code"]) == (409, "FlagDeclared")
            assert "kubectl" in refused.json()["remedy"]
        assert (await client.get(FLAG)).json()["origin"] == "declared"
        assert "SetFlags" not in host.calls


async def test_the_variable_says_what_the_flag_is_where_nobody_set_it(
    tmp_path: Path, keys: CallKeys, start_host: Any
) -> None:
    pool = effective_pool(environ={"AGENT_POOL_ENABLED": "false"})
    host = await start_host(of=pool)
    async with running_gateway(tmp_path, keys, [(pool, [host])]) as gateway:
        await gateway.sees(1)
        client = gateway.client()
        assert await served_by(client) == "one-shot"
        kept = await client.post(POOL + "/instances", json={"tenant_id": "tenant", "project_id": "project"})
        assert (kept.status_code, kept.json()["code"]) == (409, "PoolDisabled")
        await client.patch(FLAG, json={"enable_for_tenant": "tenant"})
        assert [await served_by(client), await served_by(client, tenant="x")] == ["pool", "one-shot"]


async def test_without_the_hot_flag_a_request_gets_another_tier(
    tmp_path: Path, keys: CallKeys, pool: EffectivePool, start_host: Any
) -> None:
    host = await start_host(tiers=("HOT", "WARM"))
    held = host.hold("tenant", "held")
    async with running_gateway(tmp_path, keys, [(pool, [host])]) as gateway:
        await gateway.sees(1)
        client = gateway.client()
        flag = {"strategy": "ALLOWLIST", "tenants": ["vip"]}
        await client.put(POOL + "/flags/agent_pool_hot_tier", json=flag)
        for tenant, tier in (("vip", "HOT"), ("tenant", "WARM")):
            await client.post(POOL + "/invoke", json=body(tenant=tenant, tier="HOT"))
            assert host.invoked[-1].tier == tier
        wanted = {"tenant_id": "tenant", "project_id": "new", "tier": "HOT"}
        assert (await client.post(POOL + "/instances", json=wanted)).json()["tier"] == "WARM"
        moved = await client.put(f"{POOL}/instances/{held.id}/tier", json={"tier": "HOT"})
        assert (moved.status_code, moved.json()["code"]) == (409, "TierDisabled")
        assert "move" not in host.calls


async def test_requests_are_counted_by_the_way_they_took(
    tmp_path: Path, keys: CallKeys, pool: EffectivePool, start_host: Any
) -> None:
    host = await start_host()
    async with (
        running_gateway(tmp_path, keys, [(pool, [host])]) as gateway,
        grpc.aio.insecure_channel(gateway.grpc_address) as channel,
    ):
        await gateway.sees(1)
        client = gateway.client()
        await served_by(client)
        await client.patch(FLAG, json={"percentage": 0})
        await served_by(client)
        stub: Any = gateway_pb2_grpc.AgentPoolGatewayStub(channel)
        request = gateway_pb2.InvokeRequest(tenant_id="tenant", project_id="project", input=b"1")
        assert (await stub.Invoke(request)).served_by == "one-shot"
        heads = {"accept": "text/event-stream"}
        stream = await client.post(POOL + "/invoke", json=body(), headers=heads)
        assert '"served_by":"one-shot"' in stream.text.split("\n\n")[0]
        text = (await client.get(POOL + "/metrics")).text
        labels = 'namespace="default",outcome="success",pool="support",served_by="{}"'
        for way, number in (("pool", 1), ("one-shot", 3)):
            counted = "agent_pool_request_latency_by_way_seconds_count{" + labels.format(way) + "}"
            assert f"{counted} {number}.0" in text


async def test_a_host_that_cannot_keep_flags_is_passed_over_and_its_reason_told(
    tmp_path: Path, keys: CallKeys, pool: EffectivePool, start_host: Any
) -> None:
    store = Ownership()
    hosts: list[FakeHost] = [await start_host("pod-a", store=store), await start_host("pod-b", store=store)]
    async with running_gateway(tmp_path, keys, [(pool, hosts)]) as gateway:
        await gateway.sees(2)
        client = gateway.client()
        hosts[0].refuse = StoreUnavailable("away", retry_after_seconds=1.0)
        assert (await client.patch(FLAG, json={"percentage": 5})).json()["percentage"] == 5
        hosts[1].refuse = hosts[0].refuse
        refused = await client.patch(FLAG, json={"percentage": 9})
        assert (refused.status_code, refused.json()["code"]) == (503, "StoreUnavailable")
        assert (await client.get(FLAG)).json()["percentage"] == 5


async def test_flags_outlive_the_host_that_told_them_and_not_the_pool(
    tmp_path: Path, keys: CallKeys, pool: EffectivePool, start_host: Any
) -> None:
    host = await start_host()
    async with running_gateway(tmp_path, keys, [(pool, [host])]) as gateway:
        await gateway.sees(1)
        client = gateway.client()
        await client.patch(FLAG, json={"percentage": 5})
        await host.stop()
        assert (await client.get(FLAG)).json()["percentage"] == 5
        write_membership(gateway.membership_file, [(pool.model_copy(update={"uid": "another"}), [])])

        async def default_again() -> bool:
            return bool((await client.get(FLAG)).json()["origin"] == "default")

        await eventually(default_again, 10)


# OFREP.

EVALUATE = "/ofrep/v1/evaluate/flags"
BAD_CONTEXTS = [
    pytest.param({}, "TARGETING_KEY_MISSING", id="no context"),
    pytest.param({"context": {"tenant_id": "t"}}, "TARGETING_KEY_MISSING", id="no project"),
    pytest.param({"context": {"targetingKey": "alone"}}, "INVALID_CONTEXT", id="no tenant"),
    pytest.param({"context": {"tenant_id": 7, "project_id": "p"}}, "INVALID_CONTEXT", id="a number"),
    pytest.param({"context": {"tenant_id": "a\nb", "project_id": "p"}}, "INVALID_CONTEXT", id="a line break"),
    pytest.param({"context": []}, "INVALID_CONTEXT", id="a context of another type"),
    pytest.param(b"{", "PARSE_ERROR", id="no JSON"),
]


@pytest.mark.parametrize(("content", "code"), BAD_CONTEXTS)
async def test_ofrep_refuses_in_its_own_form(
    tmp_path: Path, keys: CallKeys, pool: EffectivePool, content: Any, code: str
) -> None:
    sent = {"content": content} if isinstance(content, bytes) else {"json": content}
    async with running_gateway(tmp_path, keys, [(pool, [])]) as gateway:
        client = gateway.client()
        one = await client.post(EVALUATE + "/beta", **sent)
        assert (one.status_code, one.json()["errorCode"], one.json()["key"]) == (400, code, "beta")
        every = await client.post(EVALUATE, **sent)
        assert (every.status_code, every.json()["errorCode"]) == (400, code)
        assert "key" not in every.json() and every.json()["errorDetails"]


async def test_ofrep_evaluates_one_flag_and_all_and_says_when_nothing_changed(
    tmp_path: Path, keys: CallKeys, start_host: Any
) -> None:
    written = [
        {"name": "beta", "strategy": "ALLOWLIST", "tenants": ["acme"]},
        {"name": "new-page", "strategy": "PERCENTAGE", "percentage": 100},
        {"name": "off", "enabled": False, "strategy": "ALL"},
    ]
    pool = effective_pool({"featureFlags": written})
    host = await start_host(of=pool)
    async with running_gateway(tmp_path, keys, [(pool, [host])]) as gateway:
        await gateway.sees(1)
        client = gateway.client()
        acme = {"context": {"targetingKey": "acme/handbook"}}
        one = (await client.post(EVALUATE + "/beta", json=acme)).json()
        assert one == {
            "key": "beta",
            "value": True,
            "reason": "TARGETING_MATCH",
            "variant": "on",
            "metadata": {"strategy": "ALLOWLIST", "origin": "declared"},
        }
        missing = await client.post(EVALUATE + "/none", json=acme)
        assert (missing.status_code, missing.json()["errorCode"]) == (404, "FLAG_NOT_FOUND")
        named = "/api/v1/namespaces/default/pools/support" + EVALUATE
        other = {"context": {"tenant_id": "other", "project_id": "p"}}
        every = await client.post(named, json=other)
        values = {flag["key"]: (flag["value"], flag["reason"]) for flag in every.json()["flags"]}
        assert values == {
            "agent_pool_enabled": (True, "DEFAULT"),
            "agent_pool_hot_tier": (True, "DEFAULT"),
            "beta": (False, "DEFAULT"),
            "new-page": (True, "SPLIT"),
            "off": (False, "DISABLED"),
        }
        heads = {"if-none-match": every.headers["etag"]}
        assert (await client.post(named, json=other, headers=heads)).status_code == 304
        assert (await client.post(named, json=acme, headers=heads)).status_code == 200
        await client.patch(FLAG, json={"percentage": 0})
        assert (await client.post(named, json=other, headers=heads)).status_code == 200


async def test_ofrep_takes_the_right_to_read_and_that_for_the_tenant(
    tmp_path: Path, keys: CallKeys, pool: EffectivePool
) -> None:
    issuer = TokenIssuer()
    auth = {
        "mode": "jwt",
        "issuers": [
            {"issuer": ISSUER, "audience": AUDIENCE, "jwks_file": str(issuer.write(tmp_path / "jwks"))}
        ],
        "grants": [
            {"subject": "acme", "verbs": ["get"], "tenants": ["acme"]},
            {"subject": "caller", "verbs": ["invoke"]},
        ],
    }
    async with running_gateway(tmp_path / "gateway", keys, [(pool, [])], auth=auth) as gateway:
        client = gateway.client()

        async def status(subject: str | None, tenant: str) -> int:
            heads = {"authorization": f"Bearer {issuer.token(subject)}"} if subject else {}
            asked = {"context": {"targetingKey": f"{tenant}/p"}}
            return (
                await client.post(EVALUATE + "/agent_pool_enabled", json=asked, headers=heads)
            ).status_code

        answers = [
            ("acme", "acme", 200),
            ("acme", "other", 403),
            ("caller", "acme", 403),
            (None, "acme", 401),
        ]
        for subject, tenant, expected in answers:
            assert await status(subject, tenant) == expected, (subject, tenant)
