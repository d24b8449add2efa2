# SPDX-License-Identifier: Apache-2.0
"""Prometheus metrics of one host (A58-A62). Labels come from enums; series per instance are opt-in."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Thread
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, Counter, Histogram, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from agentpool_agent.host.state import Host
from agentpool_agent.host.table import RESIDENT

BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
"""Seconds. An answer from a resident instance is under a millisecond, a model's takes tens of seconds."""


class HostMetrics(Collector):
    """Counts requests, and reads the table whenever it is scraped."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self.registry = CollectorRegistry()
        self.registry.register(self)
        self._requests = Counter(
            "agent_pool_requests", "Requests by outcome.", ["status"], registry=self.registry
        )
        self._latency = Histogram(
            "agent_pool_request_latency_seconds",
            "Time from a request's arrival at the host to its end.",
            buckets=BUCKETS,
            registry=self.registry,
        )

    def observe(self, status: str, seconds: float) -> None:
        """A request ended; `status` is success, cancelled, or an error's code."""
        self._requests.labels(status).inc()
        self._latency.observe(seconds)

    def collect(self) -> Iterator[Metric]:
        """prometheus_client: runs in the thread of the HTTP server, on a copy."""
        entries = list(self._host.table.entries.values())
        counts: dict[tuple[str, str], int] = {}
        for entry in entries:
            place = (entry.tier.value, entry.state.value)
            counts[place] = counts.get(place, 0) + 1
        instances = GaugeMetricFamily(
            "agent_pool_instances_total", "Instances by tier and state.", labels=["tier", "state"]
        )
        for (tier, state), count in counts.items():
            instances.add_metric([tier, state], count)
        yield instances
        failures = CounterMetricFamily(
            "agent_pool_instance_failures",
            "Failures of instances by cause, and what was decided about them.",
            labels=["cause", "strategy"],
        )
        for (cause, strategy), count in list(self._host.counters.failures.items()):
            failures.add_metric([cause, strategy], count)
        yield failures
        if not self._host.settings.instance_metrics:
            return
        memory = GaugeMetricFamily(
            "agent_pool_memory_bytes", "Private memory of an instance.", labels=["instance_id"]
        )
        cpu = GaugeMetricFamily(
            "agent_pool_cpu_percent", "CPU of an instance, percent of a core.", labels=["instance_id"]
        )
        for entry in entries:
            if entry.state in RESIDENT:
                memory.add_metric([entry.instance_id], entry.memory_bytes)
                cpu.add_metric([entry.instance_id], entry.cpu_percent)
        yield memory
        yield cpu

    def serve(self, port: int, address: str = "0.0.0.0") -> tuple[WSGIServer, Thread]:  # noqa: S104  # scraped from outside
        """Answer scrapes over HTTP, in a thread."""
        return start_http_server(port, address, registry=self.registry)
