# SPDX-License-Identifier: Apache-2.0
"""What each program exports to Prometheus, read from its registry, and the page of docs/reference with it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, cast

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric

from agentpool_agent.host.metrics import HostMetrics, Now
from agentpool_agent.host.nursery import Nursery
from agentpool_agent.host.settings import Settings
from agentpool_agent.host.state import Host
from agentpool_core.names import Incarnation
from agentpool_core.overload import AdaptiveLimit
from agentpool_core.shares import Shares
from agentpool_gateway.dispatch.overload import Overload
from agentpool_gateway.membership.watcher import Fleet
from agentpool_gateway.metrics import Metrics
from agentpool_operator.metrics import OperatorMetrics
from agentpool_rpc.metrics import process_registry
from tools.reference import table

PAGE = Path("docs/reference/metrics.md")
SOURCE = "the registries of gateway, host and operator"
NOWHERE = Path("/nowhere")
SERIES = {"histogram": ("_bucket", "_sum", "_count")}
"""What a type of metric adds to its name, series by series."""
PROCESS = "process_"
OPT_IN = "instance_id"
"""Label of what is exported only where somebody asks for it."""
INTRO = """\
# Metrics

What a scrape gets, by component. Labels are pools, tiers, states, codes of errors and the like, so the
number of series does not grow with instances or tenants; one series per instance is there only with
`gateway.instanceSeries` of the chart (host: `--instance-metrics`). Times are in seconds, sizes in bytes.
Each component also exports what it uses itself: `process_cpu_seconds_total`, `process_resident_memory_bytes`
and the rest of these.

How to scrape them, the alerts and the dashboard:
[monitor with Prometheus and Grafana](../howto/monitor-with-prometheus-and-grafana.md).
"""
PLACES = {
    "gateway": "`GET /metrics` on the REST port (8000); `GET /api/v1/pool/metrics` has one pool's. What\n"
    "it says of hosts and instances it knows from them: with several gateways take `max`, not `sum`.",
    "host": "`GET /metrics` on port 7401 of each agent pod.",
    "operator": "`GET /metrics` on port 8080. Pools are summed; a pool's own numbers are in its status.",
}


@dataclass(frozen=True, slots=True)
class Exported:
    """One metric.

    Attributes:
        name: as it stands in queries; of a histogram, without the endings of its series.
    """

    name: str
    kind: str
    labels: tuple[str, ...]
    about: str

    @property
    def series(self) -> tuple[str, ...]:
        """Every name under which a query finds it."""
        return tuple(self.name + end for end in SERIES.get(self.kind, ("",)))


def _unused(*_: object) -> Any:
    raise AssertionError("no registry asks for this before there is a pool")


def _registries() -> Mapping[str, CollectorRegistry]:
    fleet = Fleet(cast("Any", None), cast("Any", None), Random(0))  # noqa: S311  # draws nothing
    host = Host(
        Settings("127.0.0.1:0", NOWHERE, (), instance_metrics=True),
        Incarnation("pod", "1"),
        Nursery(NOWHERE, time.monotonic),
    )
    return {
        "gateway": Metrics(fleet, True, Overload(AdaptiveLimit(1, 1), Shares(1))).registry,
        "host": HostMetrics(host, Now(int, int)).registry,
        "operator": OperatorMetrics(int, dict, dict, bool).registry,
        "process": process_registry(),
    }


def _exported(registry: CollectorRegistry) -> Iterator[Exported]:
    # The registry shows samples only; which labels they will have is known to who makes them.
    for collector in list(registry._collector_to_names):
        for metric in collector.collect():
            found = getattr(metric, "_labelnames", ()) or getattr(collector, "_labelnames", ())
            name = f"{metric.name}_total" if metric.type == "counter" else metric.name
            yield Exported(name, metric.type, _whole(metric, found), metric.documentation)


def _whole(metric: Metric, names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(names) or tuple(sorted({name for one in metric.samples for name in one.labels} - {"le"}))


@cache
def exported() -> Mapping[str, tuple[Exported, ...]]:
    """Every metric by component, and what each process tells of itself, in the order of their names."""
    return {
        component: tuple(sorted(_exported(registry), key=lambda one: one.name))
        for component, registry in _registries().items()
    }


def page(mark: str) -> dict[Path, str]:
    """The page by its path in the repository; `mark` ends the line that names the source."""
    text = INTRO
    for component in PLACES:
        rows = [
            [
                f"`{one.name}`",
                one.kind,
                ", ".join(f"`{label}`" for label in one.labels),
                one.about + (" Only where it is asked for." if OPT_IN in one.labels else ""),
            ]
            for one in exported()[component]
            if not one.name.startswith(PROCESS)
        ]
        text += f"\n## {component.capitalize()}\n\n{PLACES[component]}\n\n"
        text += table(("metric", "type", "labels", "meaning"), rows)
    return {PAGE: f"<!-- Generated from {SOURCE} {mark} -->\n\n{text}"}
