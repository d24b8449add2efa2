# SPDX-License-Identifier: Apache-2.0
"""The chart renders what it should, for many values."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from agentpool_core import cluster
from agentpool_core.crd import KINDS, definition
from agentpool_gateway.settings import load_settings
from agentpool_operator.settings import read_settings as read_operator_settings
from agentpool_operator.settings import tracing_environment
from support.chart import VARIANTS, Object, named, objects, of_kind, pods, roles
from support.pod_security import containers, violations
from tools.manifests import CHART, INSTALL, helm, text

VARIANT = pytest.mark.parametrize("values", VARIANTS.values(), ids=VARIANTS)
GATEWAY = "agentpool-gateway"
OPERATOR = "agentpool-operator"
REDIS = "agentpool-redis"


def gateway_settings(found: tuple[Object, ...]) -> Any:
    return yaml.safe_load(named(found, "ConfigMap", GATEWAY)["data"]["gateway.yaml"])


def environment(found: tuple[Object, ...]) -> Mapping[str, str]:
    pod = named(found, "Deployment", OPERATOR)["spec"]["template"]["spec"]
    return {one["name"]: one.get("value", "") for one in pod["containers"][0]["env"]}


@VARIANT
def test_every_pod_is_restricted(values: tuple[str, ...]) -> None:
    found = dict(pods(objects(*values)))
    assert len(found) >= 3
    assert {name: bad for name, pod in found.items() if (bad := violations(pod["spec"]))} == {}


@VARIANT
def test_no_right_is_a_wildcard(values: tuple[str, ...]) -> None:
    for role in roles(objects(*values)):
        for rule in role["rules"]:
            assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]], role["metadata"][
                "name"
            ]


@VARIANT
def test_the_gateway_reads_and_asks_but_writes_no_object(values: tuple[str, ...]) -> None:
    for role in roles(objects(*values)):
        if role["metadata"]["name"] != GATEWAY:
            continue
        for rule in role["rules"]:
            assert "secrets" not in rule["resources"]
            if rule["apiGroups"] != ["authorization.k8s.io"]:
                assert set(rule["verbs"]) <= {"get", "list", "watch"}


@VARIANT
def test_names_are_unique_and_in_a_namespace(values: tuple[str, ...]) -> None:
    seen = set()
    for one in objects(*values):
        meta = one["metadata"]
        key = (one["kind"], meta.get("namespace"), meta["name"])
        assert key not in seen
        seen.add(key)
        is_global = one["kind"].startswith("Cluster") or one["kind"] == "CustomResourceDefinition"
        assert ("namespace" in meta) is not is_global, key


@VARIANT
def test_every_reference_leads_to_an_object_of_the_release(values: tuple[str, ...]) -> None:
    found = objects(*values)
    accounts = {one["metadata"]["name"] for one in of_kind(found, "ServiceAccount")}
    configs = {one["metadata"]["name"] for one in of_kind(found, "ConfigMap")}
    for _, pod in pods(found):
        assert pod["spec"].get("serviceAccountName", "default") in {*accounts, "default"}
        for volume in pod["spec"].get("volumes", ()):
            assert volume.get("configMap", {}).get("name") in {*configs, None}
    for kind in ("RoleBinding", "ClusterRoleBinding"):
        for binding in of_kind(found, kind):
            role = binding["roleRef"]
            assert named(found, role["kind"], role["name"])
            assert {subject["name"] for subject in binding["subjects"]} <= accounts


@VARIANT
def test_selectors_pick_their_pods(values: tuple[str, ...]) -> None:
    found = objects(*values)
    for name, pod in pods(found):
        for kind in ("Deployment", "StatefulSet"):
            for one in of_kind(found, kind):
                picks = one["spec"]["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
                assert picks is (one["metadata"]["name"] == name)


@VARIANT
def test_gateway_and_operator_have_no_limit_of_cpu(values: tuple[str, ...]) -> None:
    for name in (GATEWAY, OPERATOR):
        pod = named(objects(*values), "Deployment", name)["spec"]["template"]["spec"]
        assert all("cpu" not in one["resources"]["limits"] for one in containers(pod))


def test_common_labels_and_annotations_are_on_everything() -> None:
    for one in objects(*VARIANTS["everything that can be added"]):
        meta = one["metadata"]
        assert (meta["labels"]["team"], meta["annotations"]["note"]) == ("x", "y"), meta["name"]


def test_definitions_are_the_generated_ones_and_stay() -> None:
    found = {one["metadata"]["name"]: one for one in of_kind(objects(), "CustomResourceDefinition")}
    assert {name: one["spec"] for name, one in found.items()} == {
        kind.name: definition(kind)["spec"] for kind in KINDS
    }
    for one in found.values():
        assert one["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


def test_namespaces_of_its_own_need_no_right_on_the_cluster() -> None:
    found = objects(*VARIANTS["namespaces a and b alone"])
    assert of_kind(found, "ClusterRole") + of_kind(found, "ClusterRoleBinding") == []
    where = {
        one["metadata"]["namespace"] for one in of_kind(found, "Role") if one["metadata"]["name"] == GATEWAY
    }
    assert where == {"a", "b"}
    reviews = {one for role in roles(found) for rule in role["rules"] for one in rule["resources"]}
    assert "localsubjectaccessreviews" in reviews
    assert "subjectaccessreviews" not in reviews
    assert gateway_settings(found)["kubernetes"]["namespaces"] == ["a", "b"]
    assert environment(found)["AGENTPOOL_OPERATOR_WATCH_NAMESPACES"] == "a,b"


def test_without_redis_there_is_one_gateway_and_never_two() -> None:
    found = objects("--set", "redis.mode=None", "--set", "gateway.replicas=3")
    spec = named(found, "Deployment", GATEWAY)["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    assert of_kind(found, "StatefulSet") + of_kind(found, "PodDisruptionBudget") == []
    assert environment(found)["AGENT_POOL_CHECKPOINT_STORAGE"] == "memory"
    assert "AGENTPOOL_OPERATOR_REDIS_SECRET" not in environment(found)


def test_with_a_redis_of_the_users_none_is_deployed() -> None:
    found = objects("--set", "redis.mode=External", "--set", "redis.secretName=mine")
    assert of_kind(found, "StatefulSet") == []
    assert environment(found)["AGENTPOOL_OPERATOR_REDIS_SECRET"] == "mine"
    assert "AGENTPOOL_OPERATOR_REDIS_ADDRESS" not in environment(found)


def test_zero_and_false_are_honoured() -> None:
    found = objects(*VARIANTS["everything that can be turned off"])
    assert named(found, "Deployment", OPERATOR)["spec"]["replicas"] == 0
    assert named(found, "Deployment", GATEWAY)["spec"]["replicas"] == 0
    for kind in ("NetworkPolicy", "PodDisruptionBudget", "CustomResourceDefinition"):
        assert of_kind(found, kind) == []
    assert gateway_settings(found)["auth"]["cluster_issuer"] is False
    assert "volumeClaimTemplates" not in named(found, "StatefulSet", REDIS)["spec"]


def test_the_gateway_is_reached_at_the_ports_that_the_values_name() -> None:
    def ports(*values: str) -> list[Mapping[str, Any]]:
        return list(named(objects(*values), "Service", GATEWAY)["spec"]["ports"])

    assert all("nodePort" not in port for port in ports())
    given = ports(*VARIANTS["everything that can be added"])
    assert [port.get("nodePort") for port in given] == [30080, None]


def test_a_digest_wins_over_a_tag() -> None:
    digest = "sha256:" + "a" * 64
    found = objects("--set-string", f"gateway.image.digest={digest},gateway.image.tag=1,agent.image.tag=2")
    pod = named(found, "Deployment", GATEWAY)["spec"]["template"]["spec"]
    assert pod["containers"][0]["image"] == f"localhost/agentpool/gateway@{digest}"
    assert environment(found)["AGENTPOOL_OPERATOR_AGENT_IMAGE"] == "localhost/agentpool/agent:2"


def test_a_change_of_settings_rolls_the_gateway() -> None:
    def digest(*values: str) -> str:
        template = named(objects(*values), "Deployment", GATEWAY)["spec"]["template"]
        return str(template["metadata"]["annotations"]["checksum/settings"])

    assert digest() == digest("--set", "operator.replicas=2")
    assert digest() != digest("--set", "gateway.logLevel=DEBUG")


def test_redis_keeps_what_the_product_relies_on() -> None:
    found = objects()
    spec = named(found, "StatefulSet", REDIS)["spec"]
    assert spec["replicas"] == 1
    assert spec["volumeClaimTemplates"][0]["spec"]["accessModes"] == ["ReadWriteOnce"]
    assert named(found, "Service", REDIS)["spec"]["clusterIP"] == "None"


def test_names_and_ports_are_those_of_the_contract() -> None:
    found = objects()
    gateway = named(found, "Deployment", GATEWAY)["spec"]["template"]["spec"]
    ports = {port["name"]: port["containerPort"] for port in gateway["containers"][0]["ports"]}
    assert ports == {"http": cluster.GATEWAY_REST_PORT, "grpc": cluster.GATEWAY_GRPC_PORT}
    operator = named(found, "Deployment", OPERATOR)["spec"]["template"]["spec"]
    ports = {port["name"]: port["containerPort"] for port in operator["containers"][0]["ports"]}
    assert ports == {"metrics": cluster.OPERATOR_METRICS_PORT, "health": cluster.OPERATOR_HEALTH_PORT}
    secrets = {one["secret"]["secretName"] for one in gateway["volumes"] if "secret" in one}
    assert secrets == {cluster.CALL_TOKEN_SECRET}
    assert environment(found)["AGENTPOOL_OPERATOR_REDIS_SECRET"] == cluster.REDIS_ADMIN_SECRET
    assert gateway_settings(found)["auth"]["audience"] == cluster.AUDIENCE


def test_the_operator_reads_what_the_chart_tells_it() -> None:
    found = objects(*VARIANTS["namespaces a and b alone"])
    given = {**environment(found), "AGENTPOOL_OPERATOR_NAMESPACE": "agentpool-system"}
    settings = read_operator_settings(given)
    assert settings.watch_namespaces == ("a", "b")
    assert settings.agent_image == "localhost/agentpool/agent:0.1.0"
    assert settings.agent_pull_policy == "IfNotPresent"
    assert settings.redis_secret == cluster.REDIS_ADMIN_SECRET
    assert settings.redis_address == "agentpool-redis-clients.agentpool-system.svc:6379"
    ours = [name for name in given if name.startswith("AGENTPOOL_")]
    read = {field.name for field in fields(settings)} | {"pod"}
    assert [name for name in ours if name.removeprefix("AGENTPOOL_OPERATOR_").lower() not in read] == []


def test_agent_pods_pull_their_image_as_the_values_say() -> None:
    given = {**environment(objects("--set", "image.pullPolicy=Always")), "AGENTPOOL_OPERATOR_NAMESPACE": "n"}
    assert read_operator_settings(given).agent_pull_policy == "Always"


def test_the_operator_tells_hosts_to_trace_as_the_gateways_do() -> None:
    found = objects(*VARIANTS["everything that can be added"])
    given = {**environment(found), "AGENTPOOL_OPERATOR_NAMESPACE": "agentpool-system"}
    pod = named(found, "Deployment", GATEWAY)["spec"]["template"]["spec"]
    gateway = {one["name"]: one.get("value") for one in pod["containers"][0]["env"]}
    hosts = tracing_environment(read_operator_settings(given))
    assert hosts == {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector.monitoring:4317",
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": "0.25",
        "AGENTPOOL_TRACE_IDENTITIES": "true",
    }
    assert hosts.items() <= gateway.items()


@VARIANT
def test_the_gateway_reads_what_the_chart_tells_it(values: tuple[str, ...], tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(named(objects(*values), "ConfigMap", GATEWAY)["data"]["gateway.yaml"], encoding="utf-8")
    settings = load_settings(["--settings", str(file)], {})
    assert settings.kubernetes is not None
    assert (settings.http_listen, settings.grpc_listen) == ("0.0.0.0:8000", "0.0.0.0:9000")


def test_a_gateway_that_nobody_could_call_is_refused() -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        objects("--set", "gateway.auth.clusterIssuer=false")
    assert "name issuers in gateway.auth.issuers" in caught.value.stderr


def test_each_program_has_a_user_of_its_own() -> None:
    users = [
        pod["spec"]["securityContext"]["runAsUser"] for name, pod in pods(objects()) if "test" not in name
    ]
    assert len({*users, cluster.HOST_UID, cluster.WORKERS_UID}) == 5


def test_further_objects_are_templates() -> None:
    extra = (
        '[{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"{{ .Release.Name }}-x","namespace":"n"}}]'
    )
    assert named(objects("--set-json", f"extraObjects={extra}"), "ConfigMap", "agentpool-x")


def test_another_release_has_other_names() -> None:
    names = {one["metadata"]["name"] for one in objects(release="blue") if one["kind"] == "Deployment"}
    assert names == {"blue-agentpool-gateway", "blue-agentpool-operator"}


BAD = {
    "a misspelt value": ("gatway.replicas=2", "gatway"),
    "a misspelt value further down": ("gateway.auth.clusterissuer=true", "clusterissuer"),
    "a text for a number": ("gateway.replicas=two", "/gateway/replicas"),
    "a mode that there is not": ("redis.mode=Sentinel", "/redis/mode"),
    "a pool without namespace": ("gateway.defaultPool=support", "/gateway/defaultPool"),
    "a digest that is none": ("agent.image.digest=latest", "/agent/image/digest"),
    "a namespace that is no name": ("watchNamespaces={A_B}", "/watchNamespaces/0"),
    "a port beyond the last": ("gateway.service.httpPort=70000", "/gateway/service/httpPort"),
    "an amount of memory without sense": ("redis.maxMemory=much", "/redis/maxMemory"),
    "a label that is the chart's own": ("commonLabels.app\\.kubernetes\\.io/name=x", "invalid propertyName"),
    "an interval without unit": ("monitoring.monitors.interval=30", "/monitoring/monitors/interval"),
    "an endpoint of traces without scheme": ("tracing.endpoint=collector:4317", "/tracing/endpoint"),
    "a share of more than all": ("tracing.sampleRatio=2", "/tracing/sampleRatio"),
    "an issuer without name": ("gateway.auth.issuers[0].audience=x", "/gateway/auth/issuers/0"),
}


@pytest.mark.parametrize(("value", "place"), BAD.values(), ids=BAD)
def test_bad_values_are_refused_by_name(value: str, place: str) -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        objects("--set", value)
    assert place in caught.value.stderr


def test_helm_finds_nothing_to_complain_about() -> None:
    command = [str(helm()), "lint", "--strict", str(CHART)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_committed_manifests_are_those_of_the_chart() -> None:
    assert INSTALL.read_text(encoding="utf-8") == text(), "run `make manifests`"
