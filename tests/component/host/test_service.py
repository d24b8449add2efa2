# SPDX-License-Identifier: Apache-2.0
"""The host as its callers see it: tokens, watch, list, configuration, health, reflection, metrics."""

from __future__ import annotations

import asyncio
import platform
import socket
import time
import urllib.request
from collections.abc import AsyncIterator
from typing import Any, cast

import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from agentpool_core.errors import (
    AgentPoolError,
    InvalidRequest,
    NotConfigured,
    PermissionDenied,
    RateExceeded,
    Unauthenticated,
)
from agentpool_proto.v1 import host_pb2
from agentpool_rpc.tokens import TokenSigner, Verb, generate_keypair
from support.hosts import (
    ALL_VERBS,
    COUNTER,
    PRIVATE_KEY,
    HostClient,
    HostPod,
    host_pod,
    instance_id,
    pool_config,
)

EVERY_CALL: list[tuple[str, Any]] = [
    ("InvokeUnary", host_pb2.HostInvokeRequest(tenant_id="t", project_id="p", input=b"1")),
    ("Activate", host_pb2.ActivateRequest(tenant_id="t", project_id="p")),
    ("Pause", host_pb2.InstanceRequest(instance_id="x")),
    ("Resume", host_pb2.InstanceRequest(instance_id="x")),
    ("Terminate", host_pb2.InstanceRequest(instance_id="x")),
    ("Retire", host_pb2.RetireRequest()),
    ("Configure", host_pb2.ConfigureRequest()),
    ("List", host_pb2.ListRequest()),
    ("Get", host_pb2.InstanceRequest(instance_id="x")),
]


async def refusals(pod: HostPod, metadata: Any) -> set[grpc.StatusCode]:
    """How the host ends every kind of call that carries this metadata."""
    stub = pod.client.stub
    found = set()
    for method, request in EVERY_CALL:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await getattr(stub, method)(request, metadata=metadata, timeout=5)
        found.add(raised.value.code())
    for method, request in (
        ("Invoke", host_pb2.HostInvokeRequest(tenant_id="t", project_id="p", input=b"1")),
        ("Watch", host_pb2.WatchRequest()),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            async for _ in getattr(stub, method)(request, metadata=metadata, timeout=5):
                raise AssertionError(f"{method} was served")
        found.add(raised.value.code())
    return found


async def test_no_call_is_served_without_a_good_token() -> None:
    def bearer(audience: str, *, key: bytes = PRIVATE_KEY, age: float = 0.0, verbs: Any = ALL_VERBS) -> Any:
        signer = TokenSigner(key, "test", lambda: time.time() - age)
        return (("authorization", signer.authorization(audience, verbs)),)

    async with host_pod(pool_config()) as pod:
        mine = pod.client.incarnation
        unauthenticated = {
            "none": (),
            "not a bearer token": (("authorization", "Basic abc"),),
            "another host's": bearer("other/1"),
            "signed by nobody known": bearer(mine, key=generate_keypair()[0]),
            "expired": bearer(mine, age=200),
        }
        for what, metadata in unauthenticated.items():
            assert await refusals(pod, metadata) == {grpc.StatusCode.UNAUTHENTICATED}, what
        with pytest.raises(Unauthenticated):
            await HostClient(pod.address, "other/1").invoke("t", "p")
        only_get = bearer(mine, verbs=frozenset({Verb.GET}))
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await pod.client.stub.Retire(host_pb2.RetireRequest(), metadata=only_get)
        assert raised.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert PermissionDenied.code in str(raised.value.trailing_metadata())
        assert (await pod.client.invoke("t", "p")).output == "hello"


class Watcher:
    """What one watcher has been told."""

    def __init__(self, pod: HostPod) -> None:
        metadata = pod.client.metadata(audience=pod.uid)
        self._call = pod.client.stub.Watch(host_pb2.WatchRequest(), metadata=metadata)
        self.sequence = 0
        self.host = host_pb2.HostStatus()
        self.states: dict[str, str] = {}
        self.gone: set[str] = set()

    async def until(self, holds: Any, seconds: float = 5.0) -> None:
        """Read on until `holds()`."""
        async with asyncio.timeout(seconds):
            while not holds():
                await self.read()

    async def read(self) -> Any:
        """Take in one event; its sequence has no gap."""
        event = await self._call.read()
        assert event.sequence == self.sequence + 1
        self.sequence = event.sequence
        if event.HasField("snapshot"):
            self.host.CopyFrom(event.snapshot.host)
            views = event.snapshot.instances
        else:
            if event.delta.HasField("host"):
                self.host.CopyFrom(event.delta.host)
            views = event.delta.changed
            self.gone |= set(event.delta.gone)
        for view in views:
            self.states[view.project_id] = view.state
        return event


async def test_a_watch_begins_with_everything_and_goes_on_without_gaps() -> None:
    async with host_pod(pool_config(agent=COUNTER)) as pod:
        await pod.client.invoke("t", "before", "add")
        watcher = Watcher(pod)
        first = await watcher.read()
        await pod.client.invoke("t", "after", "add")
        await watcher.until(lambda: watcher.states.get("after") == "READY")
        await pod.client.operate("Pause", instance_id("t", "before"))
        await watcher.until(lambda: watcher.states["before"] == "PAUSED")
        await pod.client.operate("Terminate", instance_id("t", "after"))
        await watcher.until(lambda: watcher.states["after"] == "TERMINATED")
        late = Watcher(pod)
        await late.read()

    assert [view.project_id for view in first.snapshot.instances] == ["before"]
    host = first.snapshot.host
    assert (host.incarnation, host.pod, host.role, list(host.tiers)) == (
        pod.client.incarnation, pod.name, "Shared", ["WARM"]
    )  # fmt: skip
    assert (host.ready, host.draining, host.resident, host.configured_generation) == (True, False, 1, 1)
    assert "seccomp" in " ".join(host.isolation)
    assert set(host.capabilities) == {*host.isolation, f"arch:{platform.machine()}"}
    assert late.states == {"before": "PAUSED"}


async def test_a_watcher_is_told_of_load_but_not_of_every_request() -> None:
    async with host_pod(pool_config(agent=COUNTER)) as pod:
        await pod.client.invoke("t", "p", "add")
        watcher = Watcher(pod)
        await watcher.read()
        for _ in range(200):
            await pod.client.invoke("t", "p", "add")
        await watcher.until(lambda: watcher.host.counters.operations >= 201)

    assert watcher.sequence <= 5
    counters = watcher.host.counters
    assert (counters.hits, counters.misses) == (200, 1)
    assert (counters.succeeded, counters.failed) == (counters.operations, 0)
    assert 0 < counters.operation_seconds / counters.operations < 0.5


async def test_lists_come_in_pages() -> None:
    async with host_pod(pool_config(agent=COUNTER, spares=0)) as pod:
        for number in range(5):
            await pod.client.invoke("t", str(number), "add")
        found = []
        cursor = ""
        for _ in range(3):
            page = await pod.client.call("List", host_pb2.ListRequest(cursor=cursor, limit=2))
            found.append([view.project_id for view in page.instances])
            cursor = page.cursor

    assert [len(page) for page in found] == [2, 2, 1]
    assert sorted(sum(found, [])) == ["0", "1", "2", "3", "4"]
    assert cursor == ""


async def test_an_instance_is_shown_with_its_quota_times_and_isolation() -> None:
    async with host_pod(pool_config(agent=COUNTER, concurrent=7, per_minute=70)) as pod:
        await pod.client.invoke("t", "p", "add")
        view = await pod.client.operate("Get", instance_id("t", "p"))

    assert (view.tenant_id, view.project_id, view.tier, view.pod) == ("t", "p", "WARM", pod.name)
    assert (view.quota.concurrent_requests, view.quota.requests_per_minute) == (7, 70)
    assert view.total_requests == 1
    assert abs(view.created_at - time.time()) < 60 and view.last_used_at >= view.created_at
    assert view.isolation and view.origin == "observed"


async def test_configuration_arrives_by_call_and_an_older_one_is_ignored() -> None:
    async with host_pod(None) as pod:
        with pytest.raises(NotConfigured):
            await pod.client.invoke("t", "p")
        assert await pod.client.configure(pool_config(generation=2, per_minute=1000)) == 2
        await pod.wait_ready()
        await pod.client.invoke("t", "p")
        assert await pod.client.configure(pool_config(generation=1, per_minute=1)) == 2
        await pod.client.invoke("t", "p")
        assert await pod.client.configure(pool_config(generation=3, per_minute=1)) == 3
        with pytest.raises(RateExceeded):
            await pod.client.invoke("t", "p")


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(pool_config(generation=2, uid="other"), id="another pool"),
        pytest.param(pool_config(generation=2, storage="Redis"), id="another storage"),
        pytest.param(None, id="no JSON"),
    ],
)
async def test_a_configuration_a_host_cannot_take_on_is_refused_and_changes_nothing(config: Any) -> None:
    async with host_pod(pool_config()) as pod:
        text = b"{" if config is None else config.model_dump_json().encode()
        with pytest.raises(InvalidRequest):
            await pod.client.call("Configure", host_pb2.ConfigureRequest(generation=2, config=text))
        assert (await pod.client.invoke("t", "p", 1)).output == 1


async def health(pod: HostPod) -> AsyncIterator[int]:
    """The host's health as it changes."""
    stub: Any = health_pb2_grpc.HealthStub(pod.client.channel)
    async for answer in stub.Watch(health_pb2.HealthCheckRequest()):
        yield answer.status


async def test_health_is_serving_only_while_requests_are_taken() -> None:
    serving = health_pb2.HealthCheckResponse.SERVING
    async with host_pod(None, drain_seconds=5) as pod:
        states = health(pod)
        async with asyncio.timeout(10):
            assert await anext(states) != serving
            await pod.client.configure(pool_config(agent=COUNTER))
            assert await anext(states) == serving
            await pod.client.invoke("t", "p", "get")
            running = asyncio.create_task(pod.client.invoke("t", "p", {"sleep": 0.5}))
            await asyncio.sleep(0.2)
            ending = asyncio.create_task(pod.drain_host())
            assert await anext(states) != serving
            await running
            assert await ending == 0


async def test_reflection_names_the_services() -> None:
    async with host_pod(None) as pod:
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(cast(Any, pod.client.channel))
        call = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
        answer = await call.read()
        names = {service.name for service in answer.list_services_response.service}

    assert {"agentpool.v1.AgentHost", "grpc.health.v1.Health"} <= names


async def test_metrics_count_requests_and_instances() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    async with host_pod(pool_config(agent=COUNTER), metrics_port=port) as pod:
        await pod.client.invoke("t", "p", "add")
        with pytest.raises(AgentPoolError):
            await pod.client.invoke("t", "p", "raise")
        text = await asyncio.to_thread(read, f"http://127.0.0.1:{port}/metrics")

    assert 'agent_pool_host_instances{state="READY",tier="WARM"} 1.0' in text
    assert 'agent_pool_host_requests_total{status="success"} 1.0' in text
    assert 'agent_pool_host_requests_total{status="AgentFailed"} 1.0' in text
    assert 'agent_pool_host_request_seconds_bucket{le="0.001"}' in text
    assert 'agent_pool_host_activation_seconds_count{kind="new"} 1.0' in text
    assert 'agent_pool_host_activation_stage_seconds_count{stage="restore"} 1.0' in text
    assert "agent_pool_host_checkpoint_bytes_count 1.0" in text
    assert "instance_id" not in text


def read(url: str) -> str:
    """The body behind a URL."""
    with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310
        return str(answer.read().decode())


async def test_a_wrong_start_says_what_is_missing_and_a_taken_port_is_an_error() -> None:
    async with host_pod(None) as pod:
        assert pod.host is not None
        program = [__import__("sys").executable, "-m", "agentpool_agent.host"]
        process = await asyncio.create_subprocess_exec(
            *program, "--run-dir", str(pod.folder), stderr=asyncio.subprocess.PIPE, env=environment()
        )
        _, text = await process.communicate()
        assert process.returncode == 2 and b"--public-key-file" in text
        process = await asyncio.create_subprocess_exec(
            *program, "--run-dir", str(pod.folder), "--listen", pod.address,
            "--public-key-file", str(pod.folder / "key.pem"),
            stderr=asyncio.subprocess.PIPE, env=environment(),
        )  # fmt: skip
        await process.communicate()
        assert process.returncode not in (0, None)


def environment() -> dict[str, str]:
    """Enough to start the host."""
    import os

    from support.hosts import SOURCES

    return {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(map(str, SOURCES))}
