# SPDX-License-Identifier: Apache-2.0
"""What the one-node cluster can do: pods, images, volumes, DNS, services, tokens, and being adopted."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from support.devcluster import Checkout, eventually, fetch
from support.echo_pod import NODE_PORT, objects
from support.repository import ROOT
from tools.devcluster import topology as t
from tools.devcluster.environment import directories_of, path_of
from tools.devcluster.problem import Exit

IMAGE = "localhost/devcluster-tests/echo:1"
# A second `up` may not cost what a user would notice.
NOTHING_TO_DO_SECONDS = 3


@pytest.fixture
def echo(cluster: Checkout, namespace: str) -> str:
    """The address of the echo service inside the cluster; its pod is Ready."""
    cluster.apply(*objects(namespace, IMAGE))
    cluster.ready(namespace, "echo")
    return cluster.kubectl(
        "-n", namespace, "get", "service", "echo-service", "-o", "jsonpath={.spec.clusterIP}"
    )


def test_the_node_is_ready_and_status_says_so(cluster: Checkout) -> None:
    nodes = json.loads(cluster.kubectl("get", "nodes", "-o", "json"))["items"]
    outcome = cluster.devcluster("status")

    assert [node["metadata"]["name"] for node in nodes] == [t.NODE]
    assert outcome.code == 0
    assert "BROKEN" not in outcome.output


def test_a_restricted_pod_of_our_own_image_resolves_names_and_answers_this_machine(echo: str) -> None:
    name = "kubernetes.default.svc.cluster.local"

    through_the_service = fetch(f"http://{echo}/{name}")
    through_the_node_port = fetch(f"http://{t.NODE_ADDRESS}:{NODE_PORT}/{name}")

    assert through_the_service == through_the_node_port == f"10001 {t.API_SERVICE_ADDRESS}"


def test_a_pod_finds_a_service_by_its_short_name(cluster: Checkout, namespace: str, echo: str) -> None:
    code = "import socket; print(socket.gethostbyname('echo-service'))"
    assert cluster.kubectl("-n", namespace, "exec", "echo", "--", "python3", "-c", code).strip() == echo


def test_a_pod_writes_to_its_volume_and_to_nothing_else(cluster: Checkout, namespace: str, echo: str) -> None:
    script = "touch /data/mine && ! touch /elsewhere 2>/dev/null && echo held"
    assert cluster.kubectl("-n", namespace, "exec", "echo", "--", "sh", "-c", script).strip() == "held"


def test_a_volume_goes_with_its_claim(cluster: Checkout, namespace: str, echo: str) -> None:
    get = ("-n", namespace, "get", "pvc", "echo", "-o", "jsonpath={.spec.volumeName}")
    volume = cluster.places.volumes / cluster.kubectl(*get)
    assert volume.is_dir()

    cluster.kubectl("-n", namespace, "delete", "pod,pvc", "echo", "--wait")

    assert eventually(lambda: not volume.exists())
    assert eventually(lambda: volume.name not in cluster.kubectl("get", "pv", "-o", "name"))


def test_tokens_of_service_accounts_can_be_checked_by_their_issuer_s_published_keys(
    cluster: Checkout,
) -> None:
    discovery = json.loads(cluster.kubectl("get", "--raw", "/.well-known/openid-configuration"))
    keys = json.loads(cluster.kubectl("get", "--raw", "/openid/v1/jwks"))["keys"]

    assert discovery["issuer"] == t.ISSUER
    assert [key["alg"] for key in keys] == ["RS256"]


def test_writes_to_the_api_are_logged_with_their_user_agent_and_reads_are_not(cluster: Checkout) -> None:
    cluster.kubectl("create", "configmap", "counted")
    cluster.kubectl("get", "configmap", "counted")
    cluster.kubectl("delete", "configmap", "counted")

    lines = (cluster.places.logs / "audit.log").read_text().splitlines()
    events = [event for event in map(json.loads, lines) if event["objectRef"].get("name") == "counted"]

    assert [event["verb"] for event in events] == ["create", "delete"]
    assert all(event["userAgent"].startswith("kubectl/") for event in events)


def test_up_changes_nothing_when_the_cluster_runs(cluster: Checkout) -> None:
    before = cluster.pid("kube-apiserver")

    outcome = cluster.up()

    assert outcome.seconds < NOTHING_TO_DO_SECONDS
    assert cluster.pid("kube-apiserver") == before


def test_another_checkout_adopts_the_cluster_with_its_objects(cluster: Checkout, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "tools", tmp_path / "tools")
    shutil.copy(ROOT / "kind-config.yaml", tmp_path)
    other = Checkout(tmp_path)
    before = cluster.pid("etcd")

    outcome = other.up()

    assert f"adopting the cluster of {ROOT}" in outcome.output
    assert other.pid("etcd") == before
    assert t.NODE in other.kubectl("get", "nodes", "-o", "name")


def test_a_checkout_of_other_sources_starts_from_nothing(cluster: Checkout, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "tools", tmp_path / "tools")
    settings = tmp_path / "tools" / "devcluster" / "configuration.py"
    settings.write_text(settings.read_text().replace('"maxPods": 250', '"maxPods": 249'))
    cluster.kubectl("create", "configmap", "of-the-first")

    Checkout(tmp_path).up()

    assert "of-the-first" not in cluster.kubectl("get", "configmaps", "-o", "name")


def test_an_image_that_cannot_be_built_is_refused_with_what_to_do(cluster: Checkout) -> None:
    outcome = cluster.devcluster("image", "localhost/devcluster-tests/none:1", "/nonexistent")

    assert outcome.code == Exit.FAILED
    assert "what to do:" in outcome.output


def test_the_cluster_a_user_points_at_is_used_and_left_alone(cluster: Checkout, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "tools", tmp_path / "tools")
    programs = directories_of(path_of(cluster.root).read_text())
    user = {
        "AGENTPOOL_CONTEXT": t.CLUSTER,
        "KUBECONFIG": str(cluster.places.kubeconfig),
        "PATH": ":".join([*programs, os.environ["PATH"]]),
    }
    other = Checkout(tmp_path, environ=user)

    assert "using the cluster of AGENTPOOL_CONTEXT" in other.up().output
    assert t.NODE in other.kubectl("get", "nodes", "-o", "name")
    assert other.devcluster("down").code == 0
    assert cluster.devcluster("status").code == 0


def test_a_context_that_does_not_exist_is_refused_with_what_to_do(cluster: Checkout, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "tools", tmp_path / "tools")
    programs = directories_of(path_of(cluster.root).read_text())
    path = ":".join([*programs, os.environ["PATH"]])

    outcome = Checkout(tmp_path, environ={"AGENTPOOL_CONTEXT": "nowhere", "PATH": path}).devcluster("up")

    assert outcome.code == Exit.FAILED
    assert "get-contexts" in outcome.output


def test_pods_reach_each_other_on_a_machine_that_forwards_nothing(
    cluster: Checkout, namespace: str, echo: str
) -> None:
    claim, caller, _ = objects(namespace, IMAGE, "caller")
    cluster.apply(claim, caller)
    cluster.ready(namespace, "caller")
    code = f"import urllib.request as u; print(u.urlopen('http://{echo}/localhost', timeout=5).read())"
    subprocess.run(["iptables", "--policy", "FORWARD", "DROP"], check=True, timeout=30)
    try:
        answer = cluster.kubectl("-n", namespace, "exec", "caller", "--", "python3", "-c", code)
    finally:
        subprocess.run(["iptables", "--policy", "FORWARD", "ACCEPT"], check=True, timeout=30)

    assert "127.0.0.1" in answer
