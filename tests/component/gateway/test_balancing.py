# SPDX-License-Identifier: Apache-2.0
"""Which host of a real gateway gets what, and what its statistics say of them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from agentpool_core import errors
from agentpool_core.config import EffectivePool
from agentpool_proto.v1 import host_pb2, types_pb2
from support.builders import effective_pool
from support.callers import body
from support.fake_host import Context, FakeHost, Ownership, done
from support.gateways import CallKeys, running_gateway
from support.waiting import eventually

Events = AsyncIterator[types_pb2.InvokeEvent]
INVOKE, STATS = "/api/v1/pool/invoke", "/api/v1/pool/stats"


def balanced(**balancing: Any) -> EffectivePool:
    return effective_pool({"balancing": {"affinity": "None", **balancing}})


async def start_hosts(start_host: Any, pool: EffectivePool, **capabilities: list[str]) -> list[FakeHost]:
    """A host for each name, with what it has."""
    store = Ownership()
    hosts = [await start_host(name, of=pool, store=store) for name in capabilities]
    for host in hosts:
        host.status.capabilities.extend(capabilities[host.pod])
    return hosts


async def invoke(client: httpx.AsyncClient, project: str) -> str:
    """The pod that answered."""
    answer = await client.post(INVOKE, json=body(project))
    assert answer.status_code == 200, answer.text
    return str(answer.json()["pod"])


@pytest.mark.parametrize(
    ("balancing", "shares"),
    [
        pytest.param({"strategy": "RoundRobin"}, {"a": 4, "b": 4, "c": 4}, id="one after another"),
        pytest.param({"strategy": "LeastConnections"}, {"a": 4, "b": 4, "c": 4}, id="idle ones take turns"),
        pytest.param(
            {"strategy": "WeightedCapabilities", "capabilities": [{"name": "gpu"}]},
            {"b": 12},
            id="the one that has what is wanted",
        ),
    ],
)
async def test_new_instances_go_where_the_strategy_says_and_then_stay_there(
    tmp_path: Path, keys: CallKeys, start_host: Any, balancing: dict[str, Any], shares: dict[str, int]
) -> None:
    pool = balanced(**balancing)
    hosts = await start_hosts(start_host, pool, a=[], b=["gpu"], c=[])
    async with running_gateway(tmp_path, keys, [(pool, hosts)]) as gateway:
        await gateway.sees(3)
        client = gateway.client()
        first = [await invoke(client, f"p-{number}") for number in range(12)]
        again = [await invoke(client, f"p-{number}") for number in range(12)]
    assert Counter(first) == shares
    assert again == first, "an instance that is held is found, whatever the strategy"


async def test_concurrent_first_requests_of_one_instance_reach_one_host(
    tmp_path: Path, keys: CallKeys, start_host: Any
) -> None:
    pool = balanced(strategy="RoundRobin")
    hosts = await start_hosts(start_host, pool, a=[], b=[])

    async def slow_start(host: FakeHost, request: host_pb2.HostInvokeRequest, context: Context) -> Events:
        await asyncio.sleep(0.2)
        yield host.accept(request)
        yield done(b"1")

    for host in hosts:
        host.script = slow_start
    async with running_gateway(tmp_path, keys, [(pool, hosts)]) as gateway:
        await gateway.sees(2)
        client = gateway.client()
        pods = await asyncio.gather(*(invoke(client, "p") for _ in range(10)))
    assert len(set(pods)) == 1
    assert sorted(len(host.invoked) for host in hosts) == [0, 10]


async def fail_or_wait(host: FakeHost, request: host_pb2.HostInvokeRequest, context: Context) -> Events:
    """Ends as the project says."""
    yield host.accept(request)
    if request.project_id == "fails":
        raise errors.AgentFailure("it broke")
    if request.project_id == "rejects":
        raise errors.InputRejected("no")
    if request.project_id == "waits":
        await asyncio.sleep(1.0)
    yield done(b"1")


async def load_of(client: httpx.AsyncClient, pod: str = "a") -> dict[str, Any]:
    """What the statistics say of a host's load."""
    hosts = (await client.get(STATS)).json()["hosts"]
    return dict(next(host["load"] for host in hosts if host["pod"] == pod))


async def test_statistics_show_the_true_outcomes_of_a_host(
    tmp_path: Path, keys: CallKeys, start_host: Any
) -> None:
    pool = balanced()
    hosts = await start_hosts(start_host, pool, a=[])
    hosts[0].script = fail_or_wait
    async with running_gateway(tmp_path, keys, [(pool, hosts)]) as gateway:
        await gateway.sees(1)
        client = gateway.client()
        assert (await load_of(client))["last_updated"] is None
        for project in ("fine", "fails", "rejects", "fine"):
            await client.post(INVOKE, json=body(project))
        found = await load_of(client)
    assert found["success_rate"] == pytest.approx(2 / 3)
    assert found["average_response_time_ms"] > 0
    assert (found["active_commands"], found["last_updated"] is None) == (0, False)


async def test_statistics_show_what_is_under_way_until_it_ends_or_its_caller_leaves(
    tmp_path: Path, keys: CallKeys, start_host: Any
) -> None:
    pool = balanced()
    hosts = await start_hosts(start_host, pool, a=[])
    hosts[0].script = fail_or_wait
    async with running_gateway(tmp_path, keys, [(pool, hosts)]) as gateway:
        await gateway.sees(1)
        client = gateway.client()

        async def active(number: int) -> bool:
            return bool((await load_of(client))["active_commands"] == number)

        waiting = [asyncio.create_task(client.post(INVOKE, json=body("waits"))) for _ in range(3)]
        await eventually(lambda: active(3), 5)
        waiting.pop().cancel()
        await eventually(lambda: active(2), 5)
        await asyncio.gather(*waiting)
        found = await load_of(client)
    assert (found["active_commands"], found["success_rate"]) == (0, 1.0)


async def test_a_broken_host_leaves_nothing_under_way(
    tmp_path: Path, keys: CallKeys, start_host: Any
) -> None:
    pool = balanced(strategy="RoundRobin")
    first, second = await start_hosts(start_host, pool, a=[], b=[])

    async def breaks(host: FakeHost, request: host_pb2.HostInvokeRequest, context: Context) -> Events:
        await host.stop()
        yield done(b"never seen")

    first.script = second.script = breaks
    async with running_gateway(tmp_path, keys, [(pool, [first, second])]) as gateway:
        await gateway.sees(2)
        client = gateway.client()
        answer = await client.post(INVOKE, json=body("p"), headers={"x-request-timeout": "2"})
        assert answer.status_code >= 500
        hosts = (await client.get(STATS)).json()["hosts"]
    assert [host["load"]["active_commands"] for host in hosts] == [0, 0]
