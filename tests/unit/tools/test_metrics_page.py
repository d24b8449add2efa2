# SPDX-License-Identifier: Apache-2.0
"""Names and labels of the metrics, as the registries have them."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from tools.metrics_page import OPT_IN, PAGE, PROCESS, exported, page

ALL = [(component, one) for component, found in exported().items() for one in found]
BOUNDED = {
    *("namespace", "pool", "tier", "state", "status", "outcome", "phase", "kind", "readiness", "interface"),
    *("code", "stage", "operation", "cause", "strategy", "verb", "result", "subject", "role", "condition"),
    *("before", "after", "direction", "reason", "verdict", "event", "served_by"),
}
"""Labels that come from enumerations, from the pools there are, or from the program's own text."""
SEED = {
    "agent_pool_instances_total": ("gauge", {"tier", "state"}),
    "agent_pool_requests_total": ("counter", {"status"}),
    "agent_pool_request_latency_seconds": ("histogram", set()),
    "agent_pool_memory_bytes": ("gauge", {"instance_id"}),
    "agent_pool_cpu_percent": ("gauge", {"instance_id"}),
}


@pytest.mark.parametrize(("component", "metric"), ALL, ids=[f"{c}: {one.name}" for c, one in ALL])
def test_a_metric_is_named_by_the_conventions_and_bounded(component: str, metric: object) -> None:
    one = next(found for where, found in ALL if (where, found) == (component, metric))
    assert re.fullmatch(r"[a-z][a-z0-9_]*", one.name)
    assert one.about.endswith(".")
    assert one.name.endswith("_total") is (one.kind == "counter" or one.name == "agent_pool_instances_total")
    if one.kind == "histogram":
        assert one.name.endswith(("_seconds", "_bytes"))
    if not one.name.startswith(PROCESS):
        assert set(one.labels) <= BOUNDED | {OPT_IN}


def test_no_name_is_exported_by_two_components() -> None:
    names = Counter(one.name for _, one in ALL if not one.name.startswith(PROCESS))
    assert [name for name, times in names.items() if times > 1] == []


@pytest.mark.parametrize(("name", "wanted"), SEED.items(), ids=SEED)
def test_the_gateway_has_the_names_that_users_know(name: str, wanted: tuple[str, set[str]]) -> None:
    (found,) = [one for one in exported()["gateway"] if one.name == name]
    assert (found.kind, wanted[1] - set(found.labels)) == (wanted[0], set())


def test_every_metric_is_on_the_page() -> None:
    text = page("x")[PAGE]
    missing = [one.name for _, one in ALL if f"`{one.name}`" not in text and PROCESS not in one.name]
    assert missing == []
