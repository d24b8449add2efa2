# SPDX-License-Identifier: Apache-2.0
"""Monitors, alerts and dashboard as the chart renders them."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from agentpool_core import cluster
from support.chart import VARIANTS, Object, named, objects, of_kind, pods, selects

KINDS = ("ServiceMonitor", "PodMonitor", "PrometheusRule")
ALL = VARIANTS["everything that can be added"]
AGENT = {cluster.LABEL_NAME: cluster.AGENT_NAME, cluster.LABEL_MANAGED_BY: cluster.MANAGED_BY}


def monitors(found: tuple[Object, ...]) -> list[Object]:
    return [one for kind in KINDS for one in of_kind(found, kind)]


def test_nothing_of_it_is_there_unasked() -> None:
    found = objects()
    assert monitors(found) == []
    assert [one["metadata"]["name"] for one in of_kind(found, "ConfigMap") if "dashboard" in str(one)] == []


def test_each_monitor_picks_its_pods_and_a_port_that_they_have() -> None:
    found = objects(*ALL)
    running = dict(pods(found))
    service = named(found, "Service", "agentpool-gateway")
    gateway = named(found, "ServiceMonitor", "agentpool-gateway")["spec"]
    assert selects(gateway["selector"], service["metadata"]["labels"])
    assert gateway["endpoints"][0]["port"] in {port["name"] for port in service["spec"]["ports"]}
    operator = named(found, "PodMonitor", "agentpool-operator")["spec"]
    picked = [n for n, pod in running.items() if selects(operator["selector"], pod["metadata"]["labels"])]
    assert picked == ["agentpool-operator"]
    ports = running["agentpool-operator"]["spec"]["containers"][0]["ports"]
    assert operator["podMetricsEndpoints"][0]["port"] in {port["name"] for port in ports}
    assert selects(named(found, "PodMonitor", "agentpool-agents")["spec"]["selector"], AGENT)


def test_the_pools_own_namespace_wins_over_the_gateways() -> None:
    endpoint = named(objects(*ALL), "ServiceMonitor", "agentpool-gateway")["spec"]["endpoints"][0]
    assert endpoint["honorLabels"] is True


@pytest.mark.parametrize(
    ("values", "wanted"),
    [(ALL, {"any": True}), ((*ALL, "--set", "watchNamespaces={a,b}"), {"matchNames": ["a", "b"]})],
    ids=["in every namespace", "in those that are watched"],
)
def test_agent_pods_are_found_where_pools_may_be(values: tuple[str, ...], wanted: Object) -> None:
    spec = named(objects(*values), "PodMonitor", "agentpool-agents")["spec"]
    assert spec["namespaceSelector"] == wanted


def test_the_scrapers_namespace_is_let_in_everywhere() -> None:
    found = objects(*ALL, "--set-json", 'networkPolicy.gatewayFrom=[{"podSelector":{}}]')
    peer = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    for policy, port in (
        ("operator", cluster.OPERATOR_METRICS_PORT),
        ("agents", cluster.HOST_METRICS_PORT),
        ("gateway", cluster.GATEWAY_REST_PORT),
    ):
        rules = named(found, "NetworkPolicy", f"agentpool-{policy}")["spec"]["ingress"]
        inside = [rule["ports"][0]["port"] for rule in rules if peer in rule.get("from", ())]
        assert inside == [port], policy


def test_monitors_that_no_scraper_could_use_are_refused() -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        objects("--set", "monitoring.monitors.enabled=true")
    assert "monitoring.monitors.scraperNamespace" in caught.value.stderr


def test_the_dashboard_is_the_committed_one_and_labelled_for_grafana() -> None:
    found = named(objects(*ALL), "ConfigMap", "agentpool-dashboard")
    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
    committed = Path("charts/agentpool/dashboards/agentpool.json").read_text(encoding="utf-8")
    assert json.loads(found["data"]["agentpool.json"]) == json.loads(committed)


def test_thresholds_are_those_of_the_values() -> None:
    found = objects(*ALL, "--set-json", "monitoring.rules.latencySeconds=2.5")
    rules = {
        rule["alert"]: rule["expr"]
        for group in named(found, "PrometheusRule", "agentpool")["spec"]["groups"]
        for rule in group["rules"]
    }
    assert rules["AgentPoolLatencyHigh"].endswith("> 2.5")
    assert rules["AgentPoolGatewaySlow"].endswith("> 0.1")


def test_prometheus_takes_the_rules(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("there is no promtool: install the package prometheus, or take the one of a release")
    file = tmp_path / "rules.yaml"
    spec = named(objects(*ALL), "PrometheusRule", "agentpool")["spec"]
    file.write_text(yaml.safe_dump(spec), encoding="utf-8")
    done = subprocess.run([promtool, "check", "rules", str(file)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCESS" in done.stdout
