# SPDX-License-Identifier: Apache-2.0
"""One trace leads from the caller through gateway and host into the worker, for real processes."""

from __future__ import annotations

import asyncio
import json
import sys

import grpc.aio
import httpx
import pytest

from agentpool_proto.v1 import gateway_pb2, gateway_pb2_grpc
from support.collector import Collector, Seen, running_collector
from support.hosts import pool_config
from support.spine import Spine, running_spine
from support.waiting import eventually

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
IDENTITIES = "AGENTPOOL_TRACE_IDENTITIES"
AGENT = "support.agents.traced:Traced"
CALLER = "b7ad6b7169203331"
PARENTS = {
    "gateway.invoke": CALLER,
    "place": "gateway.invoke",
    "attempt": "gateway.invoke",
    "host.invoke": "attempt",
    "activation": "host.invoke",
    "activation.claim": "activation",
    "activation.load": "activation",
    "activation.worker": "activation",
    "activation.setup": "activation",
    "activation.restore": "activation",
    "admission": "host.invoke",
    "worker.handle": "host.invoke",
    "think": "worker.handle",
    "search": "think",
    "commit": "host.invoke",
}
"""Of each span of a first request that changes state, the one around it."""


def parent_of(trace: str, sampled: bool = True) -> dict[str, str]:
    return {"traceparent": f"00-{trace}-{CALLER}-0{int(sampled)}"}


def check_tree(found: dict[str, Seen], parents: dict[str, str]) -> None:
    for name, parent in parents.items():
        wanted = parent if parent == CALLER else found[parent].id
        assert found[name].parent == wanted, name


async def invoke(spine: Spine, body: object, headers: dict[str, str]) -> httpx.Response:
    envelope = {"tenant_id": "secret-tenant", "project_id": "secret-project", "input": body}
    async with httpx.AsyncClient(base_url=spine.gateways[0].url, timeout=30) as client:
        return await client.post("/api/v1/pool/invoke", json=envelope, headers=headers)


async def test_a_request_is_one_trace_from_the_caller_to_the_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running_collector() as collector:
        environment = {ENDPOINT: f"http://{collector.address}"}
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        config = pool_config(agent=AGENT, storage="Redis")
        async with running_spine(config, environment=environment) as spine:
            await first_request(spine, collector)
            await failing_request(spine, collector)
            await over_grpc(spine, collector)
            await not_sampled(spine, collector)
            gateway, host = spine.gateways[0].log, spine.pods[0].log
    activated = [json.loads(line) for line in host.splitlines() if '"instance_activated"' in line]
    assert [line["trace_id"] for line in activated] == ["1" * 32, "3" * 32], "those that were first"
    told = [json.loads(line) for line in host.splitlines() if '"agent_logged"' in line]
    lines = [(line["message"].splitlines()[0], line.get("trace_id")) for line in told]
    assert [trace for message, trace in lines if message == "counted"] == [one * 32 for one in "1345"]
    assert ("agent_raised", "2" * 32) in lines
    assert {trace for message, trace in lines if message == "set up"} == {None}, "of no request"
    for event in ("call_failed", "request_failed", "background_work_failed"):
        assert event not in gateway + host
    assert "secret" not in str(collector.spans), "nothing of a tenant is in a span"


async def first_request(spine: Spine, collector: Collector) -> None:
    assert (await invoke(spine, "hello", parent_of("1" * 32))).json()["output"] == 1
    found = await collector.trace("1" * 32, *PARENTS)
    check_tree(found, PARENTS)
    assert found["gateway.invoke"].service == "agentpool-gateway"
    assert {found[name].service for name in ("host.invoke", "worker.handle", "search")} == {"agentpool-host"}
    root, handle = found["gateway.invoke"], found["worker.handle"]
    for span in found.values():
        # The clock of one machine; a millisecond for the rounding of two processes. A host ends its call when
        # the gateway has passed its answer on.
        assert root.began - 10**6 <= span.began <= span.ended, span.name
        assert span.began <= root.ended + 10**6, span.name
    assert found["think"].ended - found["think"].began >= 9 * 10**6
    assert handle.ended <= found["commit"].began + 10**6
    assert (root.attributes["agentpool.tier"], root.attributes["agentpool.outcome"]) == ("WARM", "success")
    assert root.attributes["agentpool.pool"] == "default/support"
    assert found["attempt"].attributes["agentpool.pod"] == spine.pods[0].name
    assert (found["think"].attributes["depth"], found["think"].attributes["found"]) == (2, 3)


async def failing_request(spine: Spine, collector: Collector) -> None:
    answer = await invoke(spine, "fail", parent_of("2" * 32))
    assert answer.json()["code"] == "AgentFailed"
    found = await collector.trace("2" * 32, "gateway.invoke", "host.invoke", "worker.handle", "think")
    for name in ("gateway.invoke", "attempt", "host.invoke", "worker.handle"):
        assert found[name].failed == "AgentFailed", name
    assert (found["think"].failed, found["search"].failed) == ("ValueError", "")
    assert not {"activation", "commit"} & found.keys()


async def over_grpc(spine: Spine, collector: Collector) -> None:
    async with grpc.aio.insecure_channel(spine.gateways[0].grpc_address) as channel:
        stub = gateway_pb2_grpc.AgentPoolGatewayStub(channel)
        request = gateway_pb2.InvokeRequest(tenant_id="t", project_id="p", input=b'{"many": 100}')
        await stub.Invoke(request, metadata=tuple(parent_of("3" * 32).items()))
        names = ("gateway.invoke", "attempt", "host.invoke", "worker.handle", "think")
        check_tree(found := await collector.trace("3" * 32, *names), {n: PARENTS[n] for n in names})
        assert len([one for one in found if one.startswith("one ")]) == 29, "32 with handle, think and search"
        assert found["worker.handle"].attributes["agentpool.spans_dropped"] == 71


async def not_sampled(spine: Spine, collector: Collector) -> None:
    assert (await invoke(spine, "hello", parent_of("4" * 32, sampled=False))).status_code == 200
    await invoke(spine, "hello", parent_of("5" * 32))
    await collector.trace("5" * 32, "gateway.invoke", "host.invoke")
    assert not [span for span in collector.spans if span.trace == "4" * 32]


async def test_identities_are_told_where_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running_collector() as collector:
        environment = {ENDPOINT: f"http://{collector.address}", IDENTITIES: "true"}
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        config = pool_config(agent=AGENT, storage="Memory")
        async with running_spine(config, environment=environment) as spine:
            await invoke(spine, "hello", parent_of("1" * 32))
            found = await collector.trace("1" * 32, "gateway.invoke", "host.invoke")
    for name in ("gateway.invoke", "host.invoke"):
        told = found[name].attributes
        assert (told["agentpool.tenant"], told["agentpool.project"]) == ("secret-tenant", "secret-project")


async def test_nothing_is_exported_where_traces_are_off() -> None:
    async with running_collector() as collector, running_spine(pool_config(agent=AGENT)) as spine:
        assert (await invoke(spine, "hello", parent_of("1" * 32))).status_code == 200
        log = spine.gateways[0].log + spine.pods[0].log
    assert collector.exports == 0
    assert "trace_id" not in log


PROGRAMS = ("agentpool_gateway.app", "agentpool_agent.host.server", "agentpool_agent.zygote.boot")
LOADED = "import sys, {}; print([name for name in sys.modules if name.startswith({!r})])"


@pytest.mark.parametrize("module", PROGRAMS)
async def test_no_program_loads_an_exporter_before_it_is_asked_for_traces(module: str) -> None:
    # redis-py takes up the metrics of OpenTelemetry's API, in hosts; workers have nothing at all.
    tracing = ("opentelemetry.sdk.trace", "opentelemetry.exporter")
    unwanted = "opentelemetry" if "zygote" in module else tracing
    code = LOADED.format(module, unwanted)
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    found, _ = await process.communicate()
    assert (process.returncode, found.decode().strip()) == (0, "[]")


async def test_a_collector_that_is_away_costs_spans_and_no_request(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {ENDPOINT: "http://127.0.0.1:1"}
    monkeypatch.setenv(ENDPOINT, environment[ENDPOINT])
    async with running_spine(pool_config(agent=AGENT), environment=environment) as spine:
        for _ in range(20):
            assert (await invoke(spine, "hello", {})).status_code == 200
        async with httpx.AsyncClient(base_url=spine.gateways[0].url, timeout=30) as client:

            async def dropped() -> bool:
                text = (await client.get("/metrics")).text
                return any(
                    line.startswith("agent_pool_gateway_spans_dropped_total") and not line.endswith(" 0.0")
                    for line in text.splitlines()
                )

            await eventually(dropped, 30)
        assert await spine.gateways[0].stop() == 0
        assert '"spans_not_exported"' in spine.gateways[0].log
