# SPDX-License-Identifier: Apache-2.0
"""The rest of the interface: instances, stats, health, metrics, documents, membership."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from agentpool_core.config import EffectivePool
from agentpool_gateway.rest.operations import DEFAULT_POOL, NAMED_POOL, OPERATIONS
from agentpool_proto.v1 import gateway_pb2, gateway_pb2_grpc, host_pb2, types_pb2
from agentpool_rpc.leases import LeaseClaims, LeaseIds
from support.builders import effective_pool
from support.callers import body
from support.gateways import CallKeys, running_gateway, write_membership
from support.waiting import eventually

SERVING = health_pb2.HealthCheckResponse.SERVING
POOL = "/api/v1/pool"
CONTENT = {
    "invoke": body(),
    "create_instance": {"tenant_id": "t", "project_id": "p"},
    "move_instance": {"tier": "WARM"},
    "acquire_lease": {"tenant_id": "t", "project_id": "p"},
    "put_flag": {"strategy": "ALL"},
    "change_flag": {"percentage": 100},
    "evaluate_flag": {"context": {"targetingKey": "t/p"}},
    "evaluate_flags": {"context": {"tenant_id": "t", "project_id": "p"}},
}
"""Bodies of the operations that take one."""


def stored(number: int, tenant: str = "tenant") -> types_pb2.Instance:
    """An instance that only the index knows."""
    return types_pb2.Instance(
        id=f"inst-{number:04}", tenant_id=tenant, project_id=f"p-{number}", tier="WARM", state="PAUSED"
    )


async def test_an_instances_life_over_rest(
    tmp_path: Path, keys: CallKeys, pool: EffectivePool, start_host: Any
) -> None:
    host = await start_host()
    async with running_gateway(tmp_path, keys, [(pool, [host])]) as gateway:
        await gateway.sees(1)
        client = gateway.client()
        created = await client.post(POOL + "/instances", json={"tenant_id": "t", "project_id": "p"})
        one = f"{POOL}/instances/{created.json()['id']}"
        assert (created.status_code, created.json()["state"]) == (201, "READY")
        assert (await client.get(one)).json()["pod"] == "pod-a"
        assert (await client.post(one + "/pause")).json()["state"] == "PAUSED"
        assert (await client.post(one + "/resume")).json()["state"] == "READY"
        ended = await client.delete(one)
        assert (ended.status_code, ended.json()["state"]) == (200, "TERMINATED")
        assert (await client.get(one)).status_code == 404


async def test_an_instances_life_over_grpc(
    tmp_path: Path, keys: CallKeys, pool: EffectivePool, start_host: Any
) -> None:
    host = await start_host()
    async with (
        running_gateway(tmp_path, keys, [(pool, [host])]) as gateway,
        grpc.aio.insecure_channel(gateway.grpc_address) as channel,
    ):
        await gateway.sees(1)
        stub = gateway_pb2_grpc.AgentPoolGatewayStub(channel)
        created = await stub.CreateInstance(gateway_pb2.CreateInstanceRequest(tenant_id="t", project_id="p"))
        one = gateway_pb2.PoolInstanceRequest(instance_id=created.id)
        assert (await stub.GetInstance(one)).pod == "pod-a"
        assert (await stub.PauseInstance(one)).state == "PAUSED"
        assert (await stub.ResumeInstance(one)).state == "READY"
        listed = await stub.ListInstances(gateway_pb2.ListInstancesRequest())
        assert [each.id for each in listed.instances] == [created.id]
        assert b'"total":1' in (await stub.GetStats(gateway_pb2.StatsRequest())).json
        assert (await stub.TerminateInstance(one)).state == "TERMINATED"
        health: Any = health_pb2_grpc.HealthStub(channel)

        async def serving() -> bool:
            return bool((await health.Check(health_pb2.HealthCheckRequest())).status == SERVING)

        await eventually(serving)
        asked = reflection_pb2.ServerReflectionRequest(list_services="")
        reflection: Any = reflection_pb2_grpc.ServerReflectionStub(channel)  # type: ignore[arg-type]
        stream = reflection.ServerReflectionInfo(iter([asked]))
        names = {one.name for one in (await stream.read()).list_services_response.service}
        assert "agentpool.v1.AgentPoolGateway" in names


async def test_lists_join_hosts_and_index_in_pages(
    tmp_path: Path, keys: CallKeys, pool: EffectivePool, start_host: Any
) -> None:
    host = await start_host()
    host.indexed = {one.id: one for one in (stored(n, "a" if n % 2 else "b") for n in range(25))}
    live = types_pb2.Instance(
        id="inst-0003", tenant_id="a", project_id="p-3", tier="WARM", state="READY", epoch=1
    )
    host.instances[live.id] = live
    async with running_gateway(tmp_path, keys, [(pool, [host])]) as gateway:
        await gateway.sees(1)
        client = gateway.client()
        seen: list[str] = []
        cursor = ""
        for _ in range(10):
            page = (await client.get(f"{POOL}/instances", params={"limit": 10, "cursor": cursor})).json()
            seen += [one["id"] for one in page["instances"]]
            cursor = page["cursor"]
            if not cursor:
                break
        assert seen == sorted(host.indexed)
        ready = (await client.get(f"{POOL}/instances", params={"state": "READY"})).json()["instances"]
        assert [one["id"] for one in ready] == ["inst-0003"]
        params: dict[str, Any] = {"tenant_id": "a", "limit": 5}
        page = (await client.get(f"{POOL}/instances", params=params)).json()
        assert [one["id"] for one in page["instances"]] == [f"inst-{n:04}" for n in (1, 3, 5, 7, 9)]
        page = (await client.get(f"{POOL}/instances", params={**params, "cursor": page["cursor"]})).json()
        assert page["instances"][0]["id"] == "inst-0011"
        assert (await client.get(f"{POOL}/instances/inst-0004")).json()["state"] == "PAUSED"


async def test_with_memory_the_gateway_waits_for_snapshots_and_lists_what_hosts_hold(
    tmp_path: Path, keys: CallKeys, start_host: Any
) -> None:
    pool = effective_pool({"checkpoint": {"storage": "Memory"}})
    hosts = [await start_host("pod-a", of=pool), await start_host("pod-b", of=pool)]
    for number, host in enumerate(hosts):
        host.hold("tenant", f"p-{number}", state="PAUSED")
    async with running_gateway(tmp_path, keys, [(pool, hosts)]) as gateway:
        client = gateway.client()
        # Ready was reached in the fixture: every snapshot is there without further waiting.
        page = (await client.get(f"{POOL}/instances", params={"limit": 1})).json()
        rest = (await client.get(f"{POOL}/instances", params={"cursor": page["cursor"]})).json()
        stats = (await client.get(f"{POOL}/stats")).json()
    assert len(page["instances"]) == len(rest["instances"]) == 1
    assert rest["cursor"] == ""
    assert (stats["paused"], stats["total"]) == (2, 2)


async def test_stats_and_health_follow_the_hosts(
    tmp_path: Path, keys: CallKeys, pool: EffectivePool, start_host: Any
) -> None:
    host = await start_host()
    async with running_gateway(tmp_path, keys, [(pool, [host])]) as gateway:
        await gateway.sees(1)
        client = gateway.client()
        assert (await client.get(POOL + "/stats")).json()["pool_hit_rate"] == 1.0
        await client.post(POOL + "/invoke", json=body())
        host.status.counters.CopyFrom(
            host_pb2.HostCounters(created=2, hits=3, misses=1, operations=4, operation_seconds=0.2)
        )
        host.report_status()

        async def counted() -> bool:
            return bool((await client.get(POOL + "/stats")).json()["total_agents_created"] == 2)

        await eventually(counted)
        stats = (await client.get(POOL + "/stats")).json()
        assert (stats["pool_hit_rate"], stats["average_operation_time_ms"]) == (0.75, 50.0)
        assert (stats["available"], stats["per_tier"]["WARM"], len(stats["hosts"])) == (1, 1, 1)
        assert (await client.get(POOL + "/health")).json()["status"] == "Healthy"
        await host.stop()

        async def unavailable() -> bool:
            return (await client.get(POOL + "/health")).status_code == 503

        await eventually(unavailable)


async def test_metrics_are_of_one_pool_or_of_all_and_the_process(
    tmp_path: Path, keys: CallKeys, pool: EffectivePool, start_host: Any
) -> None:
    host = await start_host()
    async with running_gateway(tmp_path, keys, [(pool, [host])], instance_series=True) as gateway:
        await gateway.sees(1)
        client = gateway.client()
        await client.post(POOL + "/invoke", json=body())
        await client.get(POOL + "/unknown")
        text = (await client.get(POOL + "/metrics")).text
        whole = (await client.get("/metrics")).text
    namespace, name = 'namespace="default"', 'pool="support"'
    for metric in (
        f'agent_pool_requests_total{{{namespace},{name},status="success"}} 1.0',
        f'agent_pool_instances_total{{{namespace},{name},state="READY",tier="WARM"}} 1.0',
        f'agent_pool_request_latency_seconds_count{{{namespace},outcome="success",{name}}} 1.0',
        f'agent_pool_request_phase_seconds_count{{{namespace},phase="first_byte",{name}}} 1.0',
        f'agent_pool_activations_total{{kind="hit",{namespace},{name}}} 1.0',
        f'agent_pool_hosts{{{namespace},{name},readiness="ready"}} 1.0',
        f"agent_pool_requests_in_flight{{{namespace},{name}}} 0.0",
        "agent_pool_memory_bytes{",
    ):
        assert metric in text
        assert metric in whole
    for metric in (
        'agent_pool_gateway_refusals_total{code="Other",interface="rest"} 1.0',
        "agent_pool_watch_lag_seconds_count",
        "process_resident_memory_bytes",
    ):
        assert f"\n{metric}" not in text
        assert metric in whole


async def test_every_operation_of_the_table_answers_on_both_paths(
    tmp_path: Path, keys: CallKeys, pool: EffectivePool, start_host: Any
) -> None:
    host = await start_host()
    async with running_gateway(tmp_path, keys, [(pool, [host])], direct_access=True) as gateway:
        await gateway.sees(1)
        client = gateway.client()
        named = NAMED_POOL.format(namespace="default", pool="support")
        lease = LeaseIds(keys.private, time.time).issue(
            LeaseClaims("default", "support", "t", "p", time.time())
        )
        report = {"lease_id": lease, "requests": 1, "failures": 0, "held_seconds": 0.1}
        for prefix in (DEFAULT_POOL, named):
            for one in OPERATIONS:
                held = host.hold("tenant", "project")
                path = prefix + one.path.format(
                    instance_id=held.id, tenant_id="tenant", flag="agent_pool_enabled"
                )
                content = report if one.id == "release_lease" else CONTENT.get(one.id)
                params = {"tenant_id": "t", "project_id": "p"} if one.id == "import_instance" else {}
                answer = await client.request(one.method, path, json=content, params=params)
                assert answer.status_code == one.status, (path, answer.text)
        document = (await client.get("/openapi.json")).json()
        assert NAMED_POOL + "/invoke" in document["paths"]
        page = await client.get("/docs")
        assert page.headers["content-type"].startswith("text/html")
        for path in document["paths"]:
            assert path in page.text


async def test_hosts_and_pools_come_and_go_with_the_membership_file(
    tmp_path: Path, keys: CallKeys, pool: EffectivePool, start_host: Any
) -> None:
    first, second = await start_host("pod-a"), await start_host("pod-b")
    other = effective_pool(name="other")
    async with running_gateway(tmp_path, keys, [(pool, [first])]) as gateway:
        await gateway.sees(1)
        client = gateway.client()
        write_membership(gateway.membership_file, [(pool, [second]), (other, [])])
        await gateway.sees(2)
        assert (await client.post(POOL + "/invoke", json=body())).json()["pod"] == "pod-b"
        assert (await client.get("/api/v1/namespaces/default/pools/other/stats")).status_code == 200
        gateway.membership_file.write_text("pools: [{config: 1}]")
        await eventually(lambda: "membership_unusable" in gateway.log)
        assert (await client.post(POOL + "/invoke", json=body())).status_code == 200


async def test_a_restarted_host_process_keeps_totals_from_falling(
    tmp_path: Path, keys: CallKeys, pool: EffectivePool, start_host: Any
) -> None:
    host = await start_host()
    host.status.counters.operations = 5
    async with running_gateway(tmp_path, keys, [(pool, [host])]) as gateway:
        await gateway.sees(1)
        await host.stop()
        again = await start_host(port=host.port)
        again.status.counters.operations = 2
        await gateway.sees(2)
        stats = (await gateway.client().get(POOL + "/stats")).json()
    assert stats["total_operations_processed"] in (5, 7)
