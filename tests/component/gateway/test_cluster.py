# SPDX-License-Identifier: Apache-2.0
"""The gateway beside an API server: pools and hosts by watches, proofs of ends, rights, and outages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest

from agentpool_core.cluster import HOST_PORT
from agentpool_core.config import EffectivePool
from agentpool_core.names import Incarnation
from agentpool_gateway.kube.client import connect
from agentpool_gateway.kube.reflector import Reflector
from agentpool_gateway.membership.mirror import Mirror
from agentpool_gateway.settings import KubernetesSettings
from agentpool_proto.v1 import host_pb2
from support.builders import effective_pool, pod, pool_object
from support.callers import body
from support.fake_host import Context, FakeHost, Ownership, done
from support.gateways import CallKeys, GatewayProcess, running_gateway
from support.kube_api import PODS, POOLS, KubeApi, kube_api
from support.waiting import eventually

POOL = "/api/v1/namespaces/default/pools/support"
_addresses = count(1)


def address() -> str:
    """An address of loopback for one pod: hosts of a cluster all have the same port."""
    number = next(_addresses)
    return f"127.77.{number // 250}.{number % 250 + 1}"


class World:
    """A cluster with a pool, hosts that stand in for its pods, and a gateway."""

    def __init__(self, api: KubeApi, keys: CallKeys) -> None:
        self.api = api
        self.keys = keys
        self.config: EffectivePool = effective_pool()
        self.store = Ownership()
        self.hosts: dict[str, FakeHost] = {}
        self.gateway: GatewayProcess

    async def add(self, name: str) -> FakeHost:
        """A pod with a host."""
        ip = address()
        host = FakeHost(self.config, self.keys.verifier(), pod=name, store=self.store)
        self.hosts[name] = await host.start(HOST_PORT, ip)
        await self.api.put(PODS, pod(name, ip=ip))
        return host

    def client(self, account: str = "app") -> httpx.AsyncClient:
        """A client with the token of a ServiceAccount."""
        token = self.api.account("team-a", account)
        return self.gateway.client({"authorization": f"Bearer {token}"})


@asynccontextmanager
async def world(directory: Path, pods: int = 1, **settings: Any) -> AsyncIterator[World]:
    keys = CallKeys.make()
    async with kube_api() as api:
        made = World(api, keys)
        await api.put(POOLS, pool_object())
        for number in range(pods):
            await made.add(f"support-{number}")
        kubeconfig = await asyncio.to_thread(api.kubeconfig, directory / "kubeconfig")
        values = {
            "membership_file": None,
            "default_pool": "default/support",
            "kubernetes": {"kubeconfig": str(kubeconfig)},
            "auth": {"cluster_issuer": True},
            **settings,
        }
        try:
            async with running_gateway(directory / "gateway", keys, [], **values) as made.gateway:
                await made.gateway.sees(pods)
                yield made
        finally:
            for host in made.hosts.values():
                await host.stop()


async def invoke(client: httpx.AsyncClient, project: str = "project", tenant: str = "tenant") -> int:
    answer = await client.post(f"{POOL}/invoke", json=body(project, tenant))
    return answer.status_code


async def test_pods_that_come_and_go_are_followed(tmp_path: Path) -> None:
    async with world(tmp_path) as made:
        client = made.client()
        assert await invoke(client) == 200
        second = await made.add("support-later")
        await made.gateway.sees(2)
        first = made.hosts["support-0"]
        await first.stop()
        await made.api.delete(PODS, "support-0")
        assert await invoke(client) == 200
        assert second.claims[-1].ended == {first.incarnation}, "the end of the first owner was proven"
        await made.api.delete(POOLS, "support")
        await eventually(lambda: _is(client, 404))


async def _is(client: httpx.AsyncClient, status: int) -> bool:
    return await invoke(client) == status


LOST_READINESS = {
    "hosts": [{"name": "host", "state": {"running": {"startedAt": "2026-11-21T12:00:00Z"}}}],
    "conditions": [{"type": "Ready", "status": "False", "lastTransitionTime": "2026-11-21T12:00:09Z"}],
}
EVIDENCE = [
    pytest.param({"phase": "Failed"}, id="its phase says so"),
    pytest.param(
        {"hosts": [{"name": "host", "state": {"terminated": {"exitCode": 137}}}]}, id="its container says so"
    ),
    pytest.param(LOST_READINESS, id="it is no longer Ready"),
]


@pytest.mark.parametrize("facts", EVIDENCE)
async def test_a_host_is_ended_when_its_channel_and_its_pods_object_say_so(
    tmp_path: Path, facts: dict[str, Any]
) -> None:
    async with world(tmp_path, pods=2) as made:
        client = made.client()
        assert await invoke(client) == 200
        owner = next(host for host in made.hosts.values() if host.invoked)
        other = next(host for host in made.hosts.values() if host is not owner)
        await made.api.put(PODS, pod(owner.pod, ip=owner.address.split(":")[0], **facts))
        await owner.stop()
        assert await invoke(client) == 200
        assert other.claims[-1].ended == {owner.incarnation}


async def test_a_broken_channel_alone_proves_nothing(tmp_path: Path) -> None:
    async with world(tmp_path, pods=2) as made:
        client = made.client()
        assert await invoke(client) == 200
        owner = next(host for host in made.hosts.values() if host.invoked)
        await owner.stop()
        answer = await client.post(f"{POOL}/invoke", json=body(), headers={"x-request-timeout": "1"})
        assert answer.status_code in (503, 504)
        assert all(not claim.ended for host in made.hosts.values() for claim in host.claims)


async def test_an_owner_that_was_gone_before_the_gateway_began_is_looked_up_once(tmp_path: Path) -> None:
    async with world(tmp_path) as made:
        host = made.hosts["support-0"]
        for project in ("a", "b"):
            made.store.owners[host.key_id("tenant", project)] = Incarnation.draw("long-gone", 1, b"rand")
        lists = made.api.lists
        client = made.client()
        assert [await invoke(client, project) for project in ("a", "b")] == [200, 200]
        assert made.api.lists == lists + 1


async def test_an_expired_version_costs_a_list_and_nothing_else(tmp_path: Path) -> None:
    async with world(tmp_path) as made:
        client, lists = made.client(), made.api.lists
        assert await invoke(client) == 200
        await made.api.expire()
        await made.add("support-later")
        await made.gateway.sees(2)
        assert made.api.lists > lists
        assert await invoke(client) == 200
        assert made.gateway.log.count('"event": "host_watched"') == 2, "no channel was opened anew"


async def test_what_was_known_serves_on_while_the_api_is_away(tmp_path: Path) -> None:
    async with world(tmp_path, pods=2) as made:
        client = made.client()
        assert await invoke(client) == 200
        made.api.away = True
        await made.api.expire()
        assert [await invoke(client, f"new-{number}") for number in range(5)] == [200] * 5
        stranger = await made.client("stranger").post(f"{POOL}/invoke", json=body())
        assert (stranger.status_code, stranger.json()["code"]) == (503, "Unavailable")
        made.api.away = False
        await made.add("support-later")
        await made.gateway.sees(3)


async def test_no_token_is_401_and_no_right_is_403_before_404(tmp_path: Path) -> None:
    async with world(tmp_path) as made:

        def allows(user: str, attributes: Any) -> bool:
            return user.endswith(":app") and attributes["verb"] in ("invoke", "get")

        made.api.allows = allows
        client, stranger = made.client(), made.client("stranger")
        missing = "/api/v1/namespaces/default/pools/missing"
        assert await invoke(client) == 200
        assert await invoke(stranger) == 403
        assert await invoke(made.gateway.client()) == 401
        assert (await stranger.get(f"{missing}/stats")).status_code == 403
        assert (await client.get(f"{missing}/stats")).status_code == 404
        assert (await client.get(f"{POOL}/stats")).status_code == 200
        refused = await client.delete(f"{POOL}/instances/inst-1")
        assert (refused.status_code, "terminate" in refused.json()["remedy"]) == (403, True)
        placed = await client.post(f"{POOL}/invoke", json=body(tier="HOT"))
        assert placed.status_code == 403
        wrong = made.api.account("team-a", "app", aud="somebody")
        other = made.gateway.client({"authorization": f"Bearer {wrong}"})
        assert await invoke(other) == 401
        reviews = [path for method, path in made.api.calls if method == "POST"]
        assert len(reviews) == 7, "one review for each right that was in question"


async def test_tenants_are_bound_to_who_may_act_for_them(tmp_path: Path) -> None:
    auth = {"cluster_issuer": True, "tenant_binding": True}
    async with world(tmp_path, auth=auth) as made:

        def allows(user: str, attributes: Any) -> bool:
            if attributes.get("subresource") == "tenants":
                return bool(user.endswith(":root") or attributes.get("name") == "support:acme")
            return True

        made.api.allows = allows
        client = made.client()
        assert await invoke(client, tenant="acme") == 200
        assert await invoke(client, tenant="beta") == 403
        ids = {tenant: made.hosts["support-0"].hold(tenant, "project").id for tenant in ("acme", "beta")}
        await eventually(lambda: _has(made, ids["beta"]))
        assert (await client.get(f"{POOL}/instances/{ids['acme']}")).status_code == 200
        for instance_id in (ids["beta"], "inst-unknown"):
            assert (await client.get(f"{POOL}/instances/{instance_id}")).status_code == 403
        assert (await client.get(f"{POOL}/instances")).status_code == 403
        assert (await client.get(f"{POOL}/instances", params={"tenant_id": "acme"})).status_code == 200
        assert (await made.client("root").get(f"{POOL}/instances")).status_code == 200


async def _has(made: World, instance_id: str) -> bool:
    return (await made.client("root").get(f"{POOL}/instances/{instance_id}")).status_code == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        pytest.param("POST", "/pause", id="pause"),
        pytest.param("POST", "/resume", id="resume"),
        pytest.param("DELETE", "", id="delete"),
    ],
)
async def test_a_declared_instance_is_changed_where_it_is_declared(
    tmp_path: Path, method: str, path: str
) -> None:
    async with world(tmp_path) as made:
        host, client = made.hosts["support-0"], made.client()
        one = host.hold("tenant", "declared")
        one.origin = "declared"
        host.report(host_pb2.WatchDelta(host=host.status, changed=[one]))

        async def is_declared() -> bool:
            answer = await client.get(f"{POOL}/instances/{one.id}")
            return answer.status_code == 200 and answer.json()["origin"] == "declared"

        await eventually(is_declared)
        refused = await client.request(method, f"{POOL}/instances/{one.id}{path}")
        assert (refused.status_code, refused.json()["code"]) == (409, "InstanceDeclared")
        assert "AgentInstance" in refused.json()["remedy"]
        assert not host.calls or "Pause" not in host.calls
        assert await invoke(client, "declared") == 200


async def test_an_answer_under_way_arrives_though_its_pod_was_deleted_by_force(tmp_path: Path) -> None:
    async with world(tmp_path) as made:
        begun, over = asyncio.Event(), asyncio.Event()

        async def wait(host: FakeHost, request: host_pb2.HostInvokeRequest, context: Context) -> Any:
            yield host.accept(request)
            begun.set()
            await over.wait()
            yield done(b'"late"')

        made.hosts["support-0"].script = wait
        client = made.client()
        call = asyncio.create_task(client.post(f"{POOL}/invoke", json=body()))
        await asyncio.wait_for(begun.wait(), 5)
        await made.api.delete(PODS, "support-0")
        await eventually(lambda: _no_hosts(client))
        over.set()
        answer = await call
        assert (answer.status_code, answer.json()["output"]) == (200, "late")


async def test_a_request_whose_pod_is_gone_for_good_ends_with_an_error_not_in_silence(tmp_path: Path) -> None:
    async with world(tmp_path) as made:
        begun = asyncio.Event()

        async def hang(host: FakeHost, request: host_pb2.HostInvokeRequest, context: Context) -> Any:
            yield host.accept(request)
            begun.set()
            await asyncio.sleep(60)

        made.hosts["support-0"].script = hang
        client = made.client()
        call = asyncio.create_task(client.post(f"{POOL}/invoke", json=body()))
        await asyncio.wait_for(begun.wait(), 5)
        await made.api.delete(PODS, "support-0")
        answer = await asyncio.wait_for(call, 15)
        assert (answer.status_code, answer.json()["code"]) == (502, "OutcomeUnknown")


async def test_sigterm_ends_it_in_order_with_watches_open(tmp_path: Path) -> None:
    async with world(tmp_path) as made:
        assert await invoke(made.client()) == 200
        loop = asyncio.get_running_loop()
        began = loop.time()
        assert await made.gateway.stop() == 0
        assert loop.time() - began < 5
        assert '"event": "gateway_stopped"' in made.gateway.log
        assert "Traceback" not in made.gateway.log and "Unclosed" not in made.gateway.log


async def test_what_the_cluster_lacks_is_logged_with_its_remedy(tmp_path: Path) -> None:
    async with kube_api() as api:
        api.missing = POOLS
        kubeconfig = await asyncio.to_thread(api.kubeconfig, tmp_path / "kubeconfig")
        values = {
            "membership_file": None,
            "kubernetes": {"kubeconfig": str(kubeconfig)},
            "auth": {"cluster_issuer": True},
        }

        async def come_back() -> None:
            await eventually(lambda: "CustomResourceDefinitions" in _log(tmp_path))
            api.missing = ""

        back = asyncio.create_task(come_back())
        async with running_gateway(tmp_path / "gateway", CallKeys.make(), [], **values):
            await asyncio.wait_for(back, 10)


def _log(directory: Path) -> str:
    path = directory / "gateway" / "gateway.log"
    return path.read_text() if path.exists() else ""


async def test_a_watch_that_brings_nothing_at_all_is_given_up(tmp_path: Path) -> None:
    async with kube_api() as server:
        server.silent = True
        await server.put(PODS, pod("support-0"))
        kubeconfig = await asyncio.to_thread(server.kubeconfig, tmp_path / "kubeconfig")
        api = await connect(KubernetesSettings(kubeconfig=kubeconfig))
        mirror: Mirror[str] = Mirror(lambda body: str(body["metadata"]["name"]), lambda _: None)
        reflector = Reflector(api, "/api/v1/pods", "", mirror, lambda: None, Random(1), silent_seconds=0.2)
        task = asyncio.create_task(reflector.run())
        await eventually(lambda: list(mirror.views) == ["support-0"])
        await server.put(PODS, pod("support-1"))
        await asyncio.sleep(0.1)
        server.silent = False
        await eventually(lambda: "support-1" in mirror.views)
        assert server.lists == 1, "the version was still good: no list was needed"
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await api.close()


async def _no_hosts(client: httpx.AsyncClient) -> bool:
    return not (await client.get(f"{POOL}/stats")).json()["hosts"]


async def test_it_is_ready_only_once_pools_pods_and_issuer_are_known(tmp_path: Path) -> None:
    keys = CallKeys.make()
    async with kube_api() as api:
        api.away = True
        kubeconfig = await asyncio.to_thread(api.kubeconfig, tmp_path / "kubeconfig")
        values = {
            "membership_file": None,
            "kubernetes": {"kubeconfig": str(kubeconfig)},
            "auth": {"cluster_issuer": True},
        }
        came_back = False

        async def come_back() -> None:
            nonlocal came_back
            await asyncio.sleep(0.5)
            came_back = True
            api.away = False

        back = asyncio.create_task(come_back())
        async with running_gateway(tmp_path / "gateway", keys, [], **values):
            assert came_back, "it was not ready before the API answered"
        await back
