# SPDX-License-Identifier: Apache-2.0
"""Prometheus metrics of the gateway. Labels are pools, tiers, states and error codes: all bounded."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterable, Iterator

from prometheus_client import Counter, Histogram, disable_created_metrics
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector, CollectorRegistry

from agentpool_gateway.membership.base import PoolName
from agentpool_gateway.membership.watcher import Fleet
from agentpool_proto.v1.types_pb2 import Instance

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4.encode()
LATENCY_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
OVERHEAD_BUCKETS = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.1, 1.0)
_POOL = ("namespace", "pool")


class Metrics:
    """Counts requests, and shows instances as hosts report them.

    Args:
        instance_series: also export memory and CPU of each instance, one series each.
    """

    def __init__(self, fleet: Fleet, instance_series: bool = False) -> None:
        # A second series per counter, of its start time, that nobody asked for.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._fleet = fleet
        self._instance_series = instance_series
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "agent_pool_requests",
            "Requests that ended: success, Cancelled, or the code of the error.",
            (*_POOL, "status"),
            registry=self._registry,
        )
        self._latency = Histogram(
            "agent_pool_request_latency_seconds",
            "Time from the arrival of a request to its end.",
            _POOL,
            buckets=LATENCY_BUCKETS,
            registry=self._registry,
        )
        self._overhead = Histogram(
            "agent_pool_gateway_overhead_seconds",
            "Part of an answered request's time that was not spent at its host.",
            _POOL,
            buckets=OVERHEAD_BUCKETS,
            registry=self._registry,
        )
        self._registry.register(_Instances(self))

    def request_ended(self, pool: PoolName, status: str, seconds: float, host_seconds: float) -> None:
        """Count a request."""
        self._requests.labels(*pool, status).inc()
        self._latency.labels(*pool).observe(seconds)
        if host_seconds:
            self._overhead.labels(*pool).observe(max(seconds - host_seconds, 0.0))

    def exposition(self, pool: PoolName | None) -> bytes:
        """The text format: of one pool, or of all and the process for None."""
        if pool is None:
            return generate_latest(self._registry)
        return generate_latest(_OnePool(self._registry, pool))

    def gauges(self) -> Iterator[Metric]:
        """What the hosts report at this moment."""
        count = GaugeMetricFamily(
            "agent_pool_instances_total", "Instances by tier and state.", labels=(*_POOL, "tier", "state")
        )
        for name, table in self._fleet.tables.items():
            tally = Tally((one.tier, one.state) for one in table.instances())
            for (tier, state), number in tally.items():
                count.add_metric((*name, tier, state), number)
        yield count
        if self._instance_series:
            yield from self._per_instance()

    def _per_instance(self) -> Iterator[Metric]:
        labels = (*_POOL, "instance_id")
        memory = GaugeMetricFamily("agent_pool_memory_bytes", "Private memory.", labels=labels)
        cpu = GaugeMetricFamily(
            "agent_pool_cpu_percent", "CPU since activation, in percent of a core.", labels=labels
        )
        for name, table in self._fleet.tables.items():
            for one in table.instances():
                memory.add_metric((*name, one.id), one.memory_bytes)
                cpu.add_metric((*name, one.id), _cpu_percent(one))
        yield memory
        yield cpu


def _cpu_percent(instance: Instance) -> float:
    lived = instance.last_used_at - instance.created_at
    return round(100 * instance.cpu_seconds / lived, 3) if lived > 0 else 0.0


class _Instances(Collector):
    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics.gauges()


class _OnePool:
    """A registry's samples of one pool."""

    def __init__(self, registry: CollectorRegistry, pool: PoolName) -> None:
        self._registry = registry
        self._pool = pool

    def collect(self) -> Iterator[Metric]:
        for metric in self._registry.collect():
            part = Metric(metric.name, metric.documentation, metric.type, metric.unit)
            part.samples = [
                one
                for one in metric.samples
                if (one.labels.get("namespace"), one.labels.get("pool")) == self._pool
            ]
            yield part
