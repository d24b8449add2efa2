# SPDX-License-Identifier: Apache-2.0
"""The gateway with a real API server, with the settings and the rights that the chart gives it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from agentpool_core.cluster import AUDIENCE, HOST_PORT
from agentpool_gateway.settings import load_settings
from support.apiserver import ApiServer
from support.builders import effective_pool, manifest
from support.callers import body
from support.chart import Object, objects, of_kind
from support.fake_host import FakeHost
from support.gateways import CallKeys, GatewayProcess, running_gateway
from support.waiting import eventually
from tools.manifests import HelmMissing, helm

SYSTEM = "agentpool-system"
RELEASE = "gateway-test"
API_AUDIENCE = "https://kubernetes.default.svc.cluster.local"
TEAM = "team-gateway"
POOL = f"/api/v1/namespaces/{TEAM}/pools/support"
POOLS = f"/apis/agentpool.dev/v1alpha1/namespaces/{TEAM}/agentpools"
PODS = f"/api/v1/namespaces/{TEAM}/pods"
RBAC = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{TEAM}"
_numbers = count(1)


@pytest.fixture(autouse=True, scope="session")
def _helm() -> None:
    try:
        helm()
    except HelmMissing as exc:
        pytest.skip(str(exc))


def granted(arguments: Sequence[str]) -> list[Object]:
    """The chart's account of the gateway and what it is allowed."""
    found = objects(*arguments, release=RELEASE)
    kinds = ("ServiceAccount", "Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding")
    component = "app.kubernetes.io/component"
    return [
        one
        for kind in kinds
        for one in of_kind(found, kind)
        if one["metadata"]["labels"][component] == "gateway"
    ]


def settings_text(arguments: Sequence[str]) -> str:
    """The settings that the chart writes for the gateway."""
    maps = of_kind(objects(*arguments, release=RELEASE), "ConfigMap")
    text: str = next(one["data"]["gateway.yaml"] for one in maps if "gateway.yaml" in one["data"])
    return text


def path_of(one: Object) -> str:
    """The collection that an object belongs to."""
    version, namespace = one["apiVersion"], one["metadata"].get("namespace")
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    within = f"/namespaces/{namespace}" if namespace else ""
    return f"{root}{within}/{one['kind'].lower()}s"


class Cluster:
    """A real API server with the gateway's account, a pool, and pods that fake hosts stand in for."""

    def __init__(self, api: ApiServer, keys: CallKeys) -> None:
        self.api = api
        self.keys = keys
        self.hosts: dict[str, FakeHost] = {}
        self.roles: list[str] = []
        self.pool_uid = ""
        self.gateway: GatewayProcess

    def make(self, path: str, one: dict[str, Any]) -> dict[str, Any]:
        """Create an object that may be there already."""
        answer = self.api.create(path, one)
        assert answer.status_code in (201, 409), answer.text
        made: dict[str, Any] = answer.json()
        return made

    def make_pool(self) -> None:
        """A pool, as the operator leaves it."""
        made = self.make(POOLS, manifest() | {"metadata": {"name": "support", "namespace": TEAM}})
        self.pool_uid = made["metadata"]["uid"]
        config = effective_pool(uid=self.pool_uid).model_copy(update={"namespace": TEAM})
        patch = {"status": {"effective": config.model_dump(mode="json")}}
        done = self.api.client.patch(
            f"{POOLS}/support/status", json=patch, headers={"content-type": "application/merge-patch+json"}
        )
        assert done.is_success, done.text
        self.config = config

    async def add_pod(self, name: str) -> FakeHost:
        """A pod without a node, and a host at the address that its status has."""
        number = next(_numbers)
        ip = f"127.78.{number // 250}.{number % 250 + 1}"
        labels = {"app.kubernetes.io/name": "agentpool-agent", "agentpool.dev/pool-uid": self.pool_uid}
        spec = {"containers": [{"name": "host", "image": "x"}], "terminationGracePeriodSeconds": 0}
        made = self.make(
            PODS, {"metadata": {"name": name, "namespace": TEAM, "labels": labels}, "spec": spec}
        )
        host = FakeHost(self.config, self.keys.verifier(), pod=name, pod_uid=made["metadata"]["uid"])
        self.hosts[name] = await host.start(HOST_PORT, ip)
        status = {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]}
        done = self.api.client.patch(
            f"{PODS}/{name}/status",
            json={"status": status},
            headers={"content-type": "application/merge-patch+json"},
        )
        assert done.is_success, done.text
        return host

    def token(self, name: str, audience: str = AUDIENCE, namespace: str = TEAM) -> str:
        """A token of a ServiceAccount, which is made when it is missing."""
        accounts = f"/api/v1/namespaces/{namespace}/serviceaccounts"
        self.make(accounts, {"metadata": {"name": name}})
        asked = {"spec": {"audiences": [audience], "expirationSeconds": 600}}
        answer = self.api.client.post(f"{accounts}/{name}/token", json=asked)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["status"]["token"])

    def allow(self, name: str, *rules: dict[str, Any]) -> None:
        """Give a ServiceAccount rights by a Role."""
        self.roles += [f"{RBAC}/roles/{name}", f"{RBAC}/rolebindings/{name}"]
        self.make(f"{RBAC}/roles", {"metadata": {"name": name}, "rules": list(rules)})
        subject = {"kind": "ServiceAccount", "name": name, "namespace": TEAM}
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}
        self.make(
            f"{RBAC}/rolebindings", {"metadata": {"name": name}, "roleRef": role, "subjects": [subject]}
        )

    def client(self, name: str, audience: str = AUDIENCE) -> httpx.AsyncClient:
        """A client of the gateway with such a token."""
        return self.gateway.client({"authorization": f"Bearer {self.token(name, audience)}"})


def rule(*verbs: str, resource: str = "agentpools", names: Sequence[str] = ("support",)) -> dict[str, Any]:
    """What a Role allows on pools."""
    found = {"apiGroups": ["agentpool.dev"], "resources": [resource], "verbs": list(verbs)}
    return found | ({"resourceNames": list(names)} if names else {})


@contextmanager
def installed(cluster: Cluster, arguments: Sequence[str]) -> Iterator[str]:
    """The gateway's account and rights as the chart has them, and a token of it; removed with the block."""
    made = granted(arguments)
    for namespace in (SYSTEM, TEAM):
        cluster.make("/api/v1/namespaces", {"metadata": {"name": namespace}})
    for one in made:
        cluster.make(path_of(one), dict(one))
    account = next(one["metadata"]["name"] for one in made if one["kind"] == "ServiceAccount")
    try:
        yield cluster.token(account, API_AUDIENCE, SYSTEM)
    finally:
        for one in made:
            cluster.api.client.delete(f"{path_of(one)}/{one['metadata']['name']}")


@asynccontextmanager
async def running(api: ApiServer, directory: Path, *arguments: str) -> AsyncIterator[Cluster]:
    cluster = Cluster(api, CallKeys.make())
    with installed(cluster, arguments) as token:
        cluster.make_pool()
        await cluster.add_pod("support-0")
        config = yaml.safe_load(api.kubeconfig.read_text())
        config["users"][0]["user"] = {"token": token}
        kubeconfig = directory / "kubeconfig"
        await asyncio.to_thread(kubeconfig.write_text, yaml.safe_dump(config))
        settings = yaml.safe_load(settings_text(arguments))
        settings["kubernetes"]["kubeconfig"] = str(kubeconfig)
        for ours in ("http_listen", "grpc_listen", "call_token_key_file"):
            del settings[ours]
        settings |= {"membership_file": None, "default_pool": None}
        try:
            async with running_gateway(directory / "gateway", cluster.keys, [], **settings) as gateway:
                cluster.gateway = gateway
                await gateway.sees(1)
                yield cluster
        finally:
            for host in cluster.hosts.values():
                await host.stop()
            for path in cluster.roles:
                api.client.delete(path)
            for name in cluster.hosts:
                api.client.delete(f"{PODS}/{name}", params={"gracePeriodSeconds": "0"})
            api.client.delete(f"{POOLS}/support")


@pytest.fixture(params=["cluster", "namespaced"])
async def cluster(request: pytest.FixtureRequest, api: ApiServer, tmp_path: Path) -> AsyncIterator[Cluster]:
    """A gateway with rights on the whole cluster, then one with rights in one namespace."""
    arguments = ["--set", f"watchNamespaces={{{TEAM}}}"] if request.param == "namespaced" else []
    async with running(api, tmp_path, *arguments) as made:
        yield made


async def invoke(client: httpx.AsyncClient, **more: Any) -> int:
    return (await client.post(f"{POOL}/invoke", json=body(**more))).status_code


async def test_rights_of_service_accounts_are_those_of_rbac(cluster: Cluster) -> None:
    cluster.allow("app", rule("invoke", "get"))
    app, stranger = cluster.client("app"), cluster.client("stranger")
    assert await invoke(app) == 200
    assert await invoke(stranger) == 403
    assert await invoke(cluster.client("app", "somebody-else")) == 401
    assert await invoke(cluster.gateway.client()) == 401
    assert (await app.get(f"{POOL}/stats")).status_code == 200
    assert (await app.delete(f"{POOL}/instances/inst-x")).status_code == 403
    assert await invoke(app, tier="HOT") == 403
    other = POOL.replace("support", "other")
    assert (await app.get(f"{other}/stats")).status_code == 403, "the Role names one pool"


async def test_a_right_given_later_is_seen_within_seconds(cluster: Cluster) -> None:
    late = cluster.client("late")
    assert await invoke(late) == 403
    cluster.allow("late", rule("invoke"))

    async def may() -> bool:
        return await invoke(late) == 200

    await eventually(may, 15)


async def test_pods_are_followed_by_a_real_watch(cluster: Cluster) -> None:
    cluster.allow("app", rule("invoke", "get"))
    app = cluster.client("app")
    first = cluster.hosts["support-0"]
    second = await cluster.add_pod("support-1")
    second.store = first.store
    await cluster.gateway.sees(2)
    assert await invoke(app) == 200
    owner, other = (first, second) if first.invoked else (second, first)
    await owner.stop()
    cluster.api.client.delete(f"{PODS}/{owner.pod}", params={"gracePeriodSeconds": "0"})
    await eventually(lambda: _answers(app))
    assert owner.incarnation in other.claims[-1].ended


async def _answers(client: httpx.AsyncClient) -> bool:
    return await invoke(client) == 200


OUTAGE_SECONDS = 20.0


async def test_an_api_server_that_is_stopped_stops_no_request(api: ApiServer, tmp_path: Path) -> None:
    async with running(api, tmp_path) as cluster:
        cluster.allow("app", rule("invoke", "get"))
        app, stranger = cluster.client("app"), cluster.client("stranger")
        fresh = cluster.client("app")
        assert await invoke(app) == 200
        loop = asyncio.get_running_loop()
        found: list[int] = []
        with api.outage():
            end = loop.time() + OUTAGE_SECONDS
            while loop.time() < end:
                found.append(await invoke(app, project=f"project-{len(found) % 7}"))
                await asyncio.sleep(0.2)
            assert await invoke(fresh) == 200, "another token of a known caller"
            refused = await stranger.post(f"{POOL}/invoke", json=body())
            problem = refused.json()
            assert (refused.status_code, problem["code"]) == (503, "Unavailable")
            assert ("who may call" in problem["detail"], problem["retryable"]) == (True, True)
            assert refused.headers["retry-after"]
        assert set(found) == {200}
        assert await invoke(stranger) == 403
        await cluster.add_pod("support-after")
        await cluster.gateway.sees(2, seconds=30)


async def test_tenants_are_bound_by_a_role_that_names_them(api: ApiServer, tmp_path: Path) -> None:
    async with running(api, tmp_path, "--set", "gateway.auth.tenantBinding=true") as cluster:
        tenants = rule("invoke", resource="agentpools/tenants", names=["support:acme"])
        cluster.allow("bound", rule("invoke", "get"), tenants)
        bound = cluster.client("bound")
        assert await invoke(bound, tenant="acme") == 200
        assert await invoke(bound, tenant="beta") == 403
        assert (await bound.get(f"{POOL}/instances")).status_code == 403


@pytest.mark.parametrize(
    ("arguments", "namespaces"),
    [
        pytest.param([], (), id="the chart's defaults"),
        pytest.param(["--set", "watchNamespaces={a,b}"], ("a", "b"), id="some namespaces"),
        pytest.param(
            [
                *("--set", "gateway.defaultPool=a/b"),
                *("--set-json", 'gateway.auth.issuers=[{"issuer":"i","jwks_url":"https://i.test/keys"}]'),
            ],
            (),
            id="another issuer and a default pool",
        ),
    ],
)
def test_the_chart_writes_settings_that_the_gateway_reads(
    arguments: list[str], namespaces: tuple[str, ...], tmp_path: Path
) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_text(settings_text(arguments))
    found = load_settings(["--settings", str(path)], {})
    assert found.kubernetes is not None
    assert found.kubernetes.namespaces == namespaces
    assert found.auth.cluster_issuer
