# SPDX-License-Identifier: Apache-2.0
"""Every NetworkPolicy picks the pods it is meant for, and lets in whom it is meant to let in."""

from __future__ import annotations

import json
import subprocess

import pytest

from agentpool_core import cluster
from support.chart import VARIANTS, Object, named, objects, of_kind, pods, selects

RELEASE = "agentpool-system"
AGENT = {cluster.LABEL_NAME: cluster.AGENT_NAME, cluster.LABEL_MANAGED_BY: cluster.MANAGED_BY}
ADDED = "everything that can be added"


def labels(found: tuple[Object, ...]) -> dict[str, dict[str, str]]:
    """Labels of every pod there is, agent pods included, by its short name."""
    return {
        "agent": AGENT,
        **{name.removeprefix("agentpool-"): pod["metadata"]["labels"] for name, pod in pods(found)},
    }


def admitted(policy: Object, found: tuple[Object, ...], port: int) -> set[str]:
    """Who may connect to `port` of the pods that a policy picks; every pod when the rule names nobody."""
    inside: set[str] = set()
    for rule in policy["spec"]["ingress"]:
        if port not in {one["port"] for one in rule["ports"]}:
            continue
        peers = rule.get("from", [{"podSelector": {}}])
        inside |= {
            name
            for name, own in labels(found).items()
            if any(selects(peer.get("podSelector", {}), own) for peer in peers)
        }
    return inside


@pytest.mark.parametrize("variant", ["the defaults", "namespaces a and b alone", ADDED])
@pytest.mark.parametrize(
    ("policy", "picked"),
    [("operator", "operator"), ("gateway", "gateway"), ("redis", "redis"), ("agents", "agent")],
)
def test_each_policy_picks_exactly_its_pods(variant: str, policy: str, picked: str) -> None:
    found = objects(*VARIANTS[variant])
    selector = named(found, "NetworkPolicy", f"agentpool-{policy}")["spec"]["podSelector"]
    assert {name for name, own in labels(found).items() if selects(selector, own)} == {picked}


@pytest.mark.parametrize(
    ("policy", "port", "wanted"),
    [
        pytest.param("agents", cluster.HOST_PORT, {"operator", "gateway"}, id="hosts hear their two clients"),
        pytest.param("agents", cluster.HOST_METRICS_PORT, set(), id="nobody reads a host's metrics unasked"),
        pytest.param("redis", 6379, {"operator", "agent"}, id="the gateway never speaks to Redis"),
        pytest.param(
            "operator", cluster.OPERATOR_METRICS_PORT, set(), id="nobody reads the operator's metrics"
        ),
        pytest.param(
            "operator", cluster.OPERATOR_HEALTH_PORT, set(), id="only the kubelet asks for its health"
        ),
    ],
)
def test_who_is_let_in(policy: str, port: int, wanted: set[str]) -> None:
    found = objects()
    assert admitted(named(found, "NetworkPolicy", f"agentpool-{policy}"), found, port) == wanted


@pytest.mark.parametrize("port", [cluster.GATEWAY_REST_PORT, cluster.GATEWAY_GRPC_PORT])
def test_everybody_reaches_the_gateway_which_asks_who_they_are(port: int) -> None:
    found = objects()
    assert admitted(named(found, "NetworkPolicy", "agentpool-gateway"), found, port) == set(labels(found))


def test_agents_are_reached_from_the_namespace_of_the_release_alone() -> None:
    policy = named(objects(), "NetworkPolicy", "agentpool-agents")
    for peer in policy["spec"]["ingress"][0]["from"]:
        assert peer["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": RELEASE}


def test_applications_reach_agents_only_where_the_values_name_them() -> None:
    def peers(*arguments: str) -> list[Object]:
        policy = named(objects(*arguments), "NetworkPolicy", "agentpool-agents")
        found: list[Object] = policy["spec"]["ingress"][0]["from"]
        return found

    application = {"podSelector": {"matchLabels": {"direct": "yes"}}}
    named_but_off = ("--set-json", f"directAccess.from=[{json.dumps(application)}]")
    assert peers(*named_but_off) == peers()
    assert peers("--set", "directAccess.enabled=true", *named_but_off) == [*peers(), application]


def test_leases_that_nobody_could_use_are_refused() -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        objects("--set", "directAccess.enabled=true")
    assert "directAccess.from" in caught.value.stderr


def test_metrics_are_read_by_whom_the_values_name() -> None:
    found = objects(*VARIANTS[ADDED])
    everybody = set(labels(found))
    for policy, port in (("agents", cluster.HOST_METRICS_PORT), ("operator", cluster.OPERATOR_METRICS_PORT)):
        assert admitted(named(found, "NetworkPolicy", f"agentpool-{policy}"), found, port) == everybody


@pytest.mark.parametrize(
    ("variant", "wanted"),
    [
        ("the defaults", {RELEASE}),
        ("namespaces a and b alone", {RELEASE, "a", "b"}),
        (ADDED, {RELEASE, "demo"}),
    ],
)
def test_agents_are_guarded_in_every_namespace_that_is_known(variant: str, wanted: set[str]) -> None:
    policies = of_kind(objects(*VARIANTS[variant]), "NetworkPolicy")
    where = {
        one["metadata"]["namespace"] for one in policies if one["metadata"]["name"] == "agentpool-agents"
    }
    assert where == wanted


def test_redis_opens_no_connection() -> None:
    spec = named(objects(), "NetworkPolicy", "agentpool-redis")["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert spec["egress"] == []
