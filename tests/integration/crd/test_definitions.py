# SPDX-License-Identifier: Apache-2.0
"""The API server takes good resources, and refuses bad ones with a message that names field and remedy.

What it refuses, the models refuse as well: the same manifest has the same fate on a laptop and in a cluster.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any

import pytest

from agentpool_core.api.problems import BadValue
from agentpool_core.api.v1alpha1 import API_VERSION, AgentInstance, AgentPool
from agentpool_core.crd import KINDS
from agentpool_core.crd.rules import QUANTITIES
from support.apiserver import ApiServer, programs
from support.repository import ROOT

GROUP = "/apis/agentpool.dev/v1alpha1/namespaces/default"
COUNTER = count(1)
Object = dict[str, Any]


def fresh() -> str:
    return f"object-{next(COUNTER)}"


def pool(name: str = "", **spec: Any) -> Object:
    agent = {"entrypoint": "agentpool_agent.agents.echo:Echo"}
    return {
        "apiVersion": API_VERSION,
        "kind": "AgentPool",
        "metadata": {"name": name or fresh()},
        "spec": {"agent": agent, **spec},
    }


def instance(name: str = "", **spec: Any) -> Object:
    identity = {"pool": "support", "tenant": "acme", "project": "travel"}
    return {
        "apiVersion": API_VERSION,
        "kind": "AgentInstance",
        "metadata": {"name": name or fresh()},
        "spec": identity | spec,
    }


def collection(body: Mapping[str, Any]) -> str:
    plural = next(kind.plural for kind in KINDS if kind.model.KIND == body["kind"])
    return f"{GROUP}/{plural}"


def agent(**fields: Any) -> Object:
    return {"entrypoint": "agentpool_agent.agents.echo:Echo", **fields}


def at(path: str, value: Any) -> Object:
    """`{"a": {"b": value}}` for "a.b"."""
    for step in reversed(path.split(".")):
        value = {step: value}
    return dict(value)


GOOD = {
    "a pool that names its agent alone": pool(),
    "a pool with everything set": pool(
        agent=agent(
            image="registry.example.com/team/agent:1",
            imagePullPolicy="Always",
            imagePullSecrets=["pull.secret"],
            config={"any": ["thing", {"at": 1}]},
        ),
        defaultTier="COLD",
        tiers={
            "hot": {"maxInstances": 0, "quota": {"memory": "2Gi", "cpu": 1}, "runtimeClassName": "gvisor"},
            "warm": {"replicas": 0, "instancesPerReplica": 1, "idleSeconds": 0},
            "cold": {"maxInstances": 3, "quota": {"memory": "0.5Gi", "cpu": "250m", "requestsPerMinute": 1}},
        },
        warmup={"enabled": False, "count": 0},
        limits={"maxInstances": 3, "minInstances": 3, "requestTimeoutSeconds": 0.5},
        checkpoint={"storage": "Redis", "durability": "Interval", "intervalSeconds": 1},
        balancing={
            "strategy": "WeightedCapabilities",
            "affinity": "None",
            "capabilities": [{"name": "arch:x86_64", "weight": 3}, {"name": "landlock-files"}],
        },
        isolation={"required": ["Landlock"], "network": "Outbound", "subprocesses": True},
    ),
    "state in memory, in one shared pod": pool(
        checkpoint={"storage": "Memory"}, tiers={"warm": {"replicas": 1}}, defaultTier="WARM"
    ),
    "an instance with ids in any script": instance(tenant="Großkunde 7", project="旅行/2026"),
    "an instance whose ids are as long as can be": instance(tenant="x" * 253, project="é" * 253),
    "an instance of a tier, paused": instance(tier="HOT", state="Paused"),
}


@pytest.mark.parametrize("body", GOOD.values(), ids=GOOD)
def test_good_resources_are_taken(api: ApiServer, body: Object) -> None:
    answer = api.create(collection(body), body)
    assert answer.status_code == 201, answer.text
    assert answer.json()["spec"] == body["spec"], "nothing is added, for unset and set must stay apart"


BAD: dict[str, tuple[Object, str, str]] = {
    "a name with a dot": (pool("a.b"), "metadata.name", "DNS label"),
    "a name that is too long": (pool("a" * 64), "metadata.name", "DNS label"),
    "a pool without agent": ({**pool(), "spec": {}}, "spec.agent", "Required"),
    "an entrypoint without class": (
        pool(agent={"entrypoint": "echo"}),
        "spec.agent.entrypoint",
        "package.module:Class",
    ),
    "an image with a space": (pool(agent=agent(image="a b")), "spec.agent.image", "registry/repository:tag"),
    "a pull secret that is no name": (
        pool(agent=agent(imagePullSecrets=["A_B"])),
        "spec.agent.imagePullSecrets",
        "lower-case letters",
    ),
    "a pull policy that there is not": (
        pool(agent=agent(imagePullPolicy="Sometimes")),
        "spec.agent.imagePullPolicy",
        "IfNotPresent",
    ),
    "a runtime class that is no name": (
        pool(tiers={"hot": {"runtimeClassName": "g visor"}}),
        "spec.tiers.hot.runtimeClassName",
        "lower-case letters",
    ),
    "a tier that there is not": (pool(defaultTier="LUKEWARM"), "spec.defaultTier", "HOT"),
    **{
        f"more {tier} instances than the pool may have": (
            pool(tiers={tier: {"maxInstances": 5}}, limits={"maxInstances": 4}),
            f"spec.tiers.{tier}.maxInstances",
            "raise spec.limits.maxInstances",
        )
        for tier in ("hot", "warm", "cold")
    },
    "a minimum above the maximum": (
        pool(limits={"minInstances": 3, "maxInstances": 2}),
        "spec.limits.minInstances",
        "raise spec.limits.maxInstances",
    ),
    "HOT by default without a store": (
        pool(defaultTier="HOT", checkpoint={"storage": "Memory"}),
        "spec.defaultTier",
        "set spec.checkpoint.storage to Redis",
    ),
    "two shared pods without a store": (
        pool(tiers={"warm": {"replicas": 2}}, checkpoint={"storage": "Memory"}),
        "spec.tiers.warm.replicas",
        "set spec.checkpoint.storage to Redis",
    ),
    "weighted capabilities without any": (
        pool(balancing={"strategy": "WeightedCapabilities"}),
        "spec.balancing.capabilities",
        "name at least one",
    ),
    "capabilities that no strategy looks at": (
        pool(balancing={"capabilities": [{"name": "gpu"}]}),
        "spec.balancing.capabilities",
        "set spec.balancing.strategy",
    ),
    "a capability twice": (
        pool(
            balancing={
                "strategy": "WeightedCapabilities",
                "capabilities": [{"name": "gpu"}, {"name": "gpu", "weight": 2}],
            }
        ),
        "spec.balancing.capabilities",
        "Duplicate value",
    ),
    "no time at all": (
        pool(checkpoint={"intervalSeconds": 0}),
        "spec.checkpoint.intervalSeconds",
        "greater than 0",
    ),
    "fewer than no instances": (
        pool(tiers={"hot": {"maxInstances": -1}}),
        "spec.tiers.hot.maxInstances",
        "greater than or equal to 0",
    ),
    **{
        f"{path} is not an amount": (
            {**pool(), "spec": {"agent": agent(), **at(path[5:], "many")}},
            path,
            "for example",
        )
        for path in QUANTITIES
    },
    "memory of nothing": (
        pool(tiers={"hot": {"quota": {"memory": "0.0Mi"}}}),
        "spec.tiers.hot.quota.memory",
        "above zero",
    ),
    "less CPU than none": (
        pool(tiers={"hot": {"quota": {"cpu": -1}}}),
        "spec.tiers.hot.quota.cpu",
        "above zero",
    ),
    "an instance without tenant": (instance(tenant=""), "spec.tenant", "at least 1"),
    "a tenant that is too long": (instance(tenant="x" * 254), "spec.tenant", "253"),
    "a control character in a project": (
        instance(project="a\u0007b"),
        "spec.project",
        "printable characters",
    ),
    "a line separator in a tenant": (instance(tenant="a\u2028b"), "spec.tenant", "printable characters"),
    "a pool's name in capitals": (instance(pool="Support"), "spec.pool", "lower-case letters"),
    "a state that there is not": (instance(state="Sleeping"), "spec.state", "Paused"),
}


@pytest.mark.parametrize(("body", "field", "remedy"), BAD.values(), ids=BAD)
def test_bad_resources_are_refused_by_field_with_a_remedy(
    api: ApiServer, body: Object, field: str, remedy: str
) -> None:
    answer = api.create(collection(body), body)
    assert answer.status_code == 422, answer.text
    message = answer.json()["message"]
    assert field in message
    assert remedy in message


@pytest.mark.parametrize("body", [bad[0] for bad in BAD.values()], ids=BAD)
def test_the_models_refuse_the_same(body: Object) -> None:
    model = AgentPool if body["kind"] == "AgentPool" else AgentInstance
    with pytest.raises((ValueError, BadValue)):
        model.model_validate(body, by_name=False)


@pytest.mark.parametrize("body", GOOD.values(), ids=GOOD)
def test_the_models_take_the_same(body: Object) -> None:
    model = AgentPool if body["kind"] == "AgentPool" else AgentInstance
    assert model.model_validate(body, by_name=False)


def test_a_misspelt_field_is_refused_where_the_client_asks_for_it(api: ApiServer) -> None:
    body = pool(teirs={})
    strict = api.create(collection(body), body)
    assert strict.status_code == 400
    assert 'unknown field "spec.teirs"' in strict.json()["message"]
    lenient = api.client.post(collection(body), json=body)
    assert lenient.status_code == 201
    assert "teirs" not in lenient.json()["spec"]


@pytest.fixture
def declared(api: ApiServer) -> Iterator[str]:
    """Path of a declared instance."""
    body = instance(state="Running")
    assert api.create(collection(body), body).is_success
    path = f"{collection(body)}/{body['metadata']['name']}"
    yield path
    api.client.delete(path)


def patch(api: ApiServer, path: str, body: Object) -> tuple[int, str]:
    headers = {"content-type": "application/merge-patch+json"}
    answer = api.client.patch(path, json=body, headers=headers)
    return answer.status_code, str(answer.json().get("message", ""))


@pytest.mark.parametrize("field", ["pool", "tenant", "project"])
def test_whose_an_instance_is_never_changes(api: ApiServer, declared: str, field: str) -> None:
    status, message = patch(api, declared, {"spec": {field: "other"}})
    assert status == 422
    assert f"spec.{field} never changes: delete this AgentInstance and create another" in message


def test_tier_and_state_change_but_terminated_is_final(api: ApiServer, declared: str) -> None:
    assert patch(api, declared, {"spec": {"tier": "COLD", "state": "Paused"}})[0] == 200
    assert patch(api, declared, {"spec": {"state": None}})[0] == 200
    assert patch(api, declared, {"spec": {"state": "Terminated"}})[0] == 200
    assert patch(api, declared, {"spec": {"tier": None}})[0] == 200
    for later in ("Running", None):
        status, message = patch(api, declared, {"spec": {"state": later}})
        assert status == 422
        assert "spec.state Terminated is final: delete this AgentInstance" in message


def test_a_report_changes_status_alone_and_keeps_what_it_does_not_know(api: ApiServer, declared: str) -> None:
    report = {
        "status": {"state": "READY", "tier": "WARM", "epoch": 1793000000000000},
        "spec": {"tier": "HOT"},
    }
    assert patch(api, f"{declared}/status", report)[0] == 200
    found = api.client.get(declared).json()
    assert found["status"] == report["status"]
    assert "tier" not in found["spec"]
    assert found["metadata"]["generation"] == 1


def test_a_report_of_a_state_that_there_is_not_is_refused(api: ApiServer, declared: str) -> None:
    status, message = patch(api, f"{declared}/status", {"status": {"state": "SLEEPING"}})
    assert status == 422
    assert "status.state" in message


def test_pools_scale_by_their_shared_pods(api: ApiServer) -> None:
    body = pool(tiers={"warm": {"replicas": 2}})
    path = f"{collection(body)}/{body['metadata']['name']}"
    assert api.create(collection(body), body).is_success
    effective = {"default_tier": "WARM", "later": {"than": ["this", "version"]}}
    status = {"replicas": 1, "readyReplicas": 1, "selector": "a=b", "effective": effective}
    assert patch(api, f"{path}/status", {"status": status})[0] == 200
    scale = api.client.get(f"{path}/scale").json()
    assert (scale["spec"], scale["status"]) == ({"replicas": 2}, {"replicas": 1, "selector": "a=b"})
    assert patch(api, f"{path}/scale", {"spec": {"replicas": 4}})[0] == 200
    found = api.client.get(path).json()
    assert found["spec"]["tiers"]["warm"]["replicas"] == 4
    assert found["status"]["effective"] == effective


def kubectl(api: ApiServer, *words: str) -> str:
    folder = programs()
    assert folder is not None
    command = [str(folder / "kubectl"), "--kubeconfig", str(api.kubeconfig), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def test_kubectl_shows_tiers_and_states_by_short_names_and_category(api: ApiServer, declared: str) -> None:
    patch(api, f"{declared}/status", {"status": {"state": "READY", "tier": "HOT", "pod": "support-hot-1"}})
    lines = kubectl(api, "get", "ai", declared.rpartition("/")[2]).splitlines()
    assert lines[0].split() == ["NAME", "POOL", "TENANT", "PROJECT", "TIER", "STATE", "POD", "AGE"]
    assert lines[1].split()[1:7] == ["support", "acme", "travel", "HOT", "READY", "support-hot-1"]
    assert kubectl(api, "get", "ap").split("\n")[0].split()[1:6] == [
        *("READY", "TIER", "WARM", "WAITING", "INSTANCES"),
    ]
    assert "agentinstance.agentpool.dev/" in kubectl(api, "get", "agents", "--output", "name")


def test_kubectl_selects_instances_by_tenant(api: ApiServer) -> None:
    body = instance(tenant="somebody")
    assert api.create(collection(body), body).is_success
    found = kubectl(api, "get", "ai", "--field-selector", "spec.tenant=somebody", "--output", "name")
    assert found.split() == [f"agentinstance.agentpool.dev/{body['metadata']['name']}"]


def test_kubectl_explains_every_part(api: ApiServer) -> None:
    assert "<no description>" not in kubectl(api, "explain", "ap.spec", "--recursive=false")
    assert "Largest input of a request, in bytes." in kubectl(api, "explain", "ap.spec.limits")


def test_examples_are_taken(api: ApiServer) -> None:
    manifests = sorted(ROOT.glob("examples/*/pool.yaml"))
    assert manifests
    for manifest in manifests:
        words = (
            "apply",
            "--server-side",
            "--validate=strict",
            "--dry-run=server",
            "--filename",
            str(manifest),
        )
        assert "serverside-applied" in kubectl(api, *words)
