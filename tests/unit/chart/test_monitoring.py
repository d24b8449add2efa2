# SPDX-License-Identifier: Apache-2.0
"""Alerts and dashboard ask for metrics that there are, with labels that they have."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import Any

import pytest
import yaml

from agentpool_core.recovery import Strategy
from agentpool_gateway.counts import Activation, Outcome, Phase
from agentpool_gateway.metrics import Readiness
from agentpool_operator.report.conditions import kstatus
from support.promql import Query, read
from support.repository import ROOT
from tools.metrics_page import PROCESS, exported

CHART = ROOT / "charts/agentpool"
DASHBOARD = json.loads((CHART / "dashboards/agentpool.json").read_text(encoding="utf-8"))
ALERTS = [
    rule
    for group in yaml.safe_load((CHART / "files/alerts.yaml").read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
]
SERIES = {name: one for found in exported().values() for one in found for name in one.series}
TARGET = {"job", "instance", "pod", "container", "namespace", "le"}
"""Labels that a scrape adds, and those of a histogram's buckets."""
CONDITIONS = {one.type for one in kstatus(None, "", "")} | {
    *("WarmupComplete", "StoreReady", "StoreDataLost", "InstancesFailing")
}
VALUES: Mapping[str, AbstractSet[str]] = {
    "outcome": set(Outcome),
    "phase": set(Phase),
    "kind": {*Activation, "leases"},
    "readiness": set(Readiness),
    "strategy": set(Strategy),
    "condition": CONDITIONS,
}


def panels() -> Iterator[dict[str, Any]]:
    for one in DASHBOARD["panels"]:
        yield one
        yield from one.get("panels", ())


def queries() -> Iterator[tuple[str, str]]:
    for rule in ALERTS:
        yield rule["alert"], rule["expr"].replace("LATENCY_SECONDS", "1").replace("OVERHEAD_SECONDS", "1")
    for panel in panels():
        for target in panel.get("targets", ()):
            yield f"{panel['title']} {target['refId']}", target["expr"]
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["name"], variable["definition"].removeprefix("label_values(").rpartition(",")[0]


QUERIES = list(queries())


@pytest.mark.parametrize(("where", "query"), QUERIES, ids=[where for where, _ in QUERIES])
def test_a_query_names_metrics_that_are_exported(where: str, query: str) -> None:
    found = read(query)
    assert found.metrics, query
    assert found.metrics - SERIES.keys() == set()
    labels = {label for name in found.metrics for label in SERIES[name].labels}
    assert found.labels - labels - TARGET == set()
    for label, values in found.equal.items():
        if label in VALUES:
            assert values <= VALUES[label], label


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("up", Query({"up"}, set(), {})),
        ('sum by (a, b) (rate(x_total{c="d"}[5m])) > 0.1', Query({"x_total"}, {"a", "b", "c"}, {"c": {"d"}})),
        ('x{a!="b",c=~"d|e"} offset 5m or absent(y)', Query({"x", "y"}, {"a", "c"}, {"c": {"d", "e"}})),
        ("a / on (b) group_left (c) d", Query({"a", "d"}, {"b", "c"}, {})),
        ("histogram_quantile(0.99, sum by (le) (rate(h_bucket[$__rate_interval])))",
         Query({"h_bucket"}, {"le"}, {})),
        ('x{namespace=~"$namespace"}', Query({"x"}, {"namespace"}, {})),
    ],
)  # fmt: skip
def test_queries_are_read_rightly(query: str, wanted: Query) -> None:
    assert read(query) == wanted


def test_panels_have_ids_of_their_own_and_a_place() -> None:
    ids = Counter(one["id"] for one in panels())
    assert [number for number, times in ids.items() if times > 1] == []
    taken: set[tuple[int, int]] = set()
    for one in panels():
        place = one["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, one["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells


def test_every_target_asks_the_chosen_data_source() -> None:
    for panel in panels():
        for target in panel.get("targets", ()):
            assert target["datasource"]["uid"] == panel["datasource"]["uid"] == "${datasource}"


def test_every_panel_with_a_query_says_what_it_shows() -> None:
    assert all(one["title"] and (one["type"] == "row" or one["targets"]) for one in panels())


@pytest.mark.parametrize("rule", ALERTS, ids=[rule["alert"] for rule in ALERTS])
def test_an_alert_says_what_is_wrong_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["alert"].startswith("AgentPool")
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert rule["annotations"]["summary"].endswith(".")
    assert len(rule["annotations"]["description"].split()) > 15


@pytest.mark.parametrize("rule", ALERTS, ids=[rule["alert"] for rule in ALERTS])
def test_a_remedy_names_files_settings_and_metrics_that_there_are(rule: dict[str, Any]) -> None:
    text = rule["annotations"]["description"]
    for page in re.findall(r"docs/[\w/-]+\.md", text):
        assert (ROOT / page).is_file(), page
    for name in re.findall(r"(?:agent_pool|process)_\w+", text):
        assert name in SERIES, name


def test_every_metric_but_the_processes_own_is_seen_somewhere_or_is_a_detail() -> None:
    used = {SERIES[name].name for _, query in QUERIES for name in read(query).metrics}
    details = {
        *("agent_pool_memory_bytes", "agent_pool_cpu_percent", "agent_pool_pools"),
        *("agent_pool_operator_api_request_seconds", "agent_pool_circuit_breaker_state"),
        *("agent_pool_leases_total", "agent_pool_leased_requests_total", "agent_pool_lease_held_seconds"),
    }
    rest = {one.name for one in SERIES.values() if not one.name.startswith((PROCESS, "agent_pool_host_"))}
    assert rest - used - details == set()
