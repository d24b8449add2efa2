# SPDX-License-Identifier: Apache-2.0
"""Prometheus metrics of one host. Labels come from enums; series per instance are opt-in.

All names begin with `agent_pool_host_`: the gateway exports the same things of whole pools, and a sum over
both would count them twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from threading import Thread
from wsgiref.simple_server import WSGIServer

from prometheus_client import start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from agentpool_agent.host.state import Host
from agentpool_agent.host.table import RESIDENT, Entry
from agentpool_core.resilience import BreakerState
from agentpool_rpc.metrics import process_registry


@dataclass(frozen=True, slots=True)
class Now:
    """What is asked of other parts at each scrape.

    Attributes:
        starting: activations under way.
        waiting: those of them that wait for their turn.
        spans_dropped: spans that could not be exported, since the start.
    """

    starting: Callable[[], int]
    waiting: Callable[[], int]
    spans_dropped: Callable[[], int] = lambda: 0


class HostMetrics(Collector):
    """Shows what the host counted, and reads its table, whenever it is scraped."""

    def __init__(self, host: Host, now: Now) -> None:
        self._host = host
        self._now = now
        self.registry = process_registry()
        self.registry.register(self)
        for family in host.counts.families:
            self.registry.register(family)

    def collect(self) -> Iterator[Metric]:
        """prometheus_client: runs in the thread of the HTTP server, on copies."""
        entries = list(self._host.table.entries.values())
        yield _instances(entries)
        yield _breakers(entries, self._host.wall())
        yield from self._requests(entries)
        yield from self._gauges()
        yield from self._totals()
        if self._host.settings.instance_metrics:
            yield from _per_instance(entries, self._host.wall())

    def _requests(self, entries: list[Entry]) -> Iterator[Metric]:
        ended = CounterMetricFamily(
            "agent_pool_host_requests",
            "Requests that ended: success, cancelled, or the code of the error.",
            labels=["status"],
        )
        for status, number in self._host.counts.statuses.copy().items():
            ended.add_metric([status], number)
        yield ended
        active = sum(entry.active for entry in entries)
        yield GaugeMetricFamily("agent_pool_host_requests_active", "Requests that hold a permit now.", active)

    def _gauges(self) -> Iterator[Metric]:
        host, now = self._host, self._now
        for name, about, value in (
            ("ready", "1: the host takes requests.", host.ready),
            ("draining", "1: the host leaves.", host.draining or host.retired),
            ("capacity", "Instances that the host holds at once.", host.capacity),
            ("spare_workers", "Processes that wait to become an instance.", host.nursery.spares),
            ("activations_running", "Activations under way.", now.starting()),
            ("activations_waiting", "Activations that wait for their turn.", now.waiting()),
            ("requests_limit", "Requests that agents may work on at one time.", host.crowding.limit),
            ("store_silent", "1: the store has not answered for 2 s or more.", host.store_silent),
            ("store_problems", "Settings of the store that are not safe.", len(host.problems)),
        ):
            yield GaugeMetricFamily(f"agent_pool_host_{name}", about, float(value))

    def _totals(self) -> Iterator[Metric]:
        counters = self._host.counters
        for name, about, value in (
            ("hits", "Requests that found their instance resident.", counters.hits),
            ("misses", "Requests that had to activate their instance.", counters.misses),
            ("evictions", "Instances that left because they were idle or in the way.", counters.evictions),
            (
                "crowding_refusals",
                "Requests refused because agents had more to compute than there are cores.",
                self._host.crowding.refused,
            ),
            ("worker_losses", "Workers that ended unasked.", counters.crashes),
            ("spans_dropped", "Spans that were made and could not be exported.", self._now.spans_dropped()),
        ):
            yield CounterMetricFamily(f"agent_pool_host_{name}", about, float(value))
        yield _labelled(
            "agent_pool_host_store_failures",
            "Calls that the store did not answer.",
            ["operation"],
            Counter({(name,): number for name, number in self._host.counts.store_failures.copy().items()}),
        )
        yield _labelled(
            "agent_pool_host_instance_failures",
            "Failures of instances by cause, and what was decided about them.",
            ["cause", "strategy"],
            Counter({(str(c), str(s)): number for (c, s), number in counters.failures.copy().items()}),
        )

    def serve(self, port: int, address: str = "0.0.0.0") -> tuple[WSGIServer, Thread]:  # noqa: S104  # scraped from outside
        """Answer scrapes over HTTP, in a thread."""
        return start_http_server(port, address, registry=self.registry)


def _instances(entries: list[Entry]) -> Metric:
    counts = Counter((entry.tier.value, entry.state.value) for entry in entries)
    family = GaugeMetricFamily(
        "agent_pool_host_instances", "Instances by tier and state.", labels=["tier", "state"]
    )
    for key, count in counts.items():
        family.add_metric(key, count)
    return family


def _labelled(name: str, about: str, labels: list[str], counts: Counter[tuple[str, ...]]) -> Metric:
    family = CounterMetricFamily(name, about, labels=labels)
    for key, count in counts.items():
        family.add_metric(key, count)
    return family


def _breakers(entries: list[Entry], now: float) -> Metric:
    states = Counter(entry.breaker.seen(now) for entry in entries)
    family = GaugeMetricFamily(
        "agent_pool_host_circuit_breakers", "Circuit breakers of instances by state.", labels=["state"]
    )
    for state in BreakerState:
        family.add_metric([state.value], states[state])
    return family


def _per_instance(entries: list[Entry], now: float) -> Iterator[Metric]:
    memory = GaugeMetricFamily(
        "agent_pool_host_instance_memory_bytes", "Private memory of an instance.", labels=["instance_id"]
    )
    cpu = GaugeMetricFamily(
        "agent_pool_host_instance_cpu_percent",
        "CPU of an instance, percent of a core.",
        labels=["instance_id"],
    )
    breaker = GaugeMetricFamily(
        "agent_pool_host_circuit_breaker_state",
        "0: CLOSED, 1: OPEN, 2: HALF_OPEN.",
        labels=["instance_id"],
    )
    for entry in entries:
        if entry.state in RESIDENT:
            breaker.add_metric([entry.instance_id], entry.breaker.seen(now).code)
            memory.add_metric([entry.instance_id], entry.memory_bytes)
            cpu.add_metric([entry.instance_id], entry.cpu_percent)
    yield memory
    yield cpu
    yield breaker
