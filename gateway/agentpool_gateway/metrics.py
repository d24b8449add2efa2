# SPDX-License-Identifier: Apache-2.0
"""Prometheus metrics of the gateway. Labels are pools, tiers, states and error codes: all bounded."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector, CollectorRegistry

from agentpool_core.errors import BY_CODE
from agentpool_gateway.counts import OTHER, PoolCounts
from agentpool_gateway.dispatch.breakers import breaker_counts, breaker_state
from agentpool_gateway.dispatch.call import Milestones
from agentpool_gateway.dispatch.overload import Overload, Shed
from agentpool_gateway.lease_counts import LeaseCounts
from agentpool_gateway.membership.base import PoolName
from agentpool_gateway.membership.table import Host
from agentpool_gateway.membership.watcher import Fleet
from agentpool_proto.v1.types_pb2 import Instance
from agentpool_rpc.leases import LeaseReport
from agentpool_rpc.metrics import new_registry

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4.encode()
_POOL = ("namespace", "pool")


class Interface(StrEnum):
    """By which way a call came."""

    REST = "rest"
    GRPC = "grpc"


class Readiness(StrEnum):
    """What a host can be used for, as the gateway sees it."""

    READY = "ready"
    """It takes new instances."""
    DRAINING = "draining"
    """It leaves, or its pod is being deleted: it serves what it has."""
    NOT_READY = "not_ready"
    """It starts, or lacks a configuration, a zygote or its store."""
    SILENT = "silent"
    """Its Watch stream is broken."""


def readiness(host: Host) -> Readiness:
    """What a host can be used for."""
    if not host.connected:
        return Readiness.SILENT
    if host.status.draining or host.member.leaving:
        return Readiness.DRAINING
    return Readiness.READY if host.status.ready else Readiness.NOT_READY


class Metrics(Collector):
    """Counts requests, and shows hosts and instances as they report themselves.

    Args:
        instance_series: also export memory, CPU and breaker of each instance, one series each.
        spans_dropped: spans that were not exported, since the start.
        overload: what is refused for load.
    """

    def __init__(
        self,
        fleet: Fleet,
        instance_series: bool,
        overload: Overload,
        spans_dropped: Callable[[], int] = lambda: 0,
    ) -> None:
        self._fleet = fleet
        self._instance_series = instance_series
        self._overload = overload
        self._spans_dropped = spans_dropped
        self._pools: dict[PoolName, PoolCounts] = {}
        self._refusals: Tally[tuple[str, str]] = Tally()
        self.registry = new_registry()
        self.registry.register(self)
        self._leases = LeaseCounts(fleet.tables)
        self.registry.register(self._leases)
        self.registry.register(fleet.watch_lag)

    def request_began(self, pool: PoolName) -> None:
        """A request of the pool is worked on; `request_ended` follows."""
        counts = self._pools.get(pool)
        if counts is None:
            counts = self._pools[pool] = PoolCounts()
        counts.in_flight += 1

    def request_ended(self, pool: PoolName, status: str, seconds: float, marks: Milestones) -> None:
        """Count a request."""
        counts = self._pools.get(pool)
        # Its pool may have gone in the meantime, and its numbers with it.
        if counts is not None:
            counts.in_flight -= 1
            counts.ended(status, seconds, marks)

    def refused(self, interface: Interface, code: str) -> None:
        """A call was answered with an error."""
        self._refusals[interface.value, code if code in BY_CODE else OTHER] += 1

    def lease_acquired(self, pool: PoolName) -> None:
        """A lease was given."""
        self._leases.acquired(pool)

    def lease_released(self, pool: PoolName, report: LeaseReport) -> None:
        """What was done with one."""
        self._leases.released(pool, report)

    def exposition(self, pool: PoolName | None) -> bytes:
        """The text format: of one pool, or of everything for None."""
        if pool is None:
            return generate_latest(self.registry)
        return generate_latest(_OnePool(self.registry, pool))

    def collect(self) -> Iterator[Metric]:
        """prometheus_client: called for each scrape."""
        for gone in self._pools.keys() - self._fleet.tables.keys():
            del self._pools[gone]
        yield from self._requests()
        yield from self._times()
        yield from self._held()
        yield from self._load()
        yield self._breakers()
        refusals = CounterMetricFamily(
            "agent_pool_gateway_refusals",
            "Calls of any kind that were answered with an error, also those that name no pool.",
            labels=("interface", "code"),
        )
        for key, number in self._refusals.items():
            refusals.add_metric(key, number)
        dropped = CounterMetricFamily(
            "agent_pool_gateway_spans_dropped", "Spans that were made and could not be exported."
        )
        dropped.add_metric((), self._spans_dropped())
        yield from (refusals, dropped)
        if self._instance_series:
            yield from self._per_instance()

    def _requests(self) -> Iterator[Metric]:
        ended = CounterMetricFamily(
            "agent_pool_requests",
            "Requests that ended: success, Cancelled, or the code of the error.",
            labels=(*_POOL, "status"),
        )
        now = GaugeMetricFamily(
            "agent_pool_requests_in_flight", "Requests that are worked on now.", labels=_POOL
        )
        found = CounterMetricFamily(
            "agent_pool_activations",
            "Accepted requests by what they found: hit (resident), new, restored (from saved state).",
            labels=(*_POOL, "kind"),
        )
        for name, counts in self._pools.items():
            for status, number in counts.statuses.items():
                ended.add_metric((*name, status), number)
            now.add_metric(name, counts.in_flight)
            for kind, number in counts.activations.items():
                found.add_metric((*name, kind), number)
        yield from (ended, now, found)

    def _times(self) -> Iterator[Metric]:
        latency = HistogramMetricFamily(
            "agent_pool_request_latency_seconds",
            "Time from the arrival of a request to its end; outcome: success, refused (HTTP 4xx), failed "
            "(5xx), cancelled.",
            labels=(*_POOL, "outcome"),
        )
        phases = HistogramMetricFamily(
            "agent_pool_request_phase_seconds",
            "Time from the arrival of a request until it was placed, accepted, admitted, gave its "
            "first_byte, and was done.",
            labels=(*_POOL, "phase"),
        )
        ways = HistogramMetricFamily(
            "agent_pool_request_latency_by_way_seconds",
            "Time from the arrival of a request to its end, by the way it took: pool, or one-shot where the "
            "flag agent_pool_enabled is off.",
            labels=(*_POOL, "served_by", "outcome"),
        )
        overhead = HistogramMetricFamily(
            "agent_pool_gateway_overhead_seconds",
            "Part of an answered request's time that was not spent at its host.",
            labels=_POOL,
        )
        for name, counts in self._pools.items():
            for outcome, seen in counts.latency.items():
                seen.add_to(latency, (*name, outcome))
            for phase, seen in counts.phases.items():
                seen.add_to(phases, (*name, phase))
            for (served_by, outcome), seen in counts.ways.items():
                seen.add_to(ways, (*name, served_by, outcome))
            counts.overhead.add_to(overhead, name)
        yield from (latency, phases, ways, overhead)

    def _held(self) -> Iterator[Metric]:
        instances = GaugeMetricFamily(
            "agent_pool_instances_total", "Instances by tier and state.", labels=(*_POOL, "tier", "state")
        )
        hosts = GaugeMetricFamily(
            "agent_pool_hosts",
            "Hosts by what they can be used for: ready, draining, not_ready, silent (no Watch stream).",
            labels=(*_POOL, "readiness"),
        )
        for name, table in self._fleet.tables.items():
            tally = Tally((one.tier, one.state) for one in table.instances())
            for (tier, state), number in tally.items():
                instances.add_metric((*name, tier, state), number)
            ready = Tally(readiness(host) for host in table.hosts.values())
            for which in Readiness:
                hosts.add_metric((*name, which), ready[which])
        breaks = CounterMetricFamily("agent_pool_watch_breaks", "Watch streams of hosts that broke.")
        breaks.add_metric((), self._fleet.watch_breaks)
        yield from (instances, hosts, breaks)

    def _load(self) -> Iterator[Metric]:
        shed = CounterMetricFamily(
            "agent_pool_gateway_shed", "Requests refused for load, by the reason.", labels=["reason"]
        )
        for reason in Shed:
            shed.add_metric([reason.value], self._overload.shed[reason])
        yield shed
        yield GaugeMetricFamily(
            "agent_pool_gateway_pending", "Requests that no host has accepted yet.", self._overload.pending
        )
        yield GaugeMetricFamily(
            "agent_pool_gateway_pending_limit", "How many of them there may be.", self._overload.limit
        )

    def _breakers(self) -> Metric:
        count = GaugeMetricFamily(
            "agent_pool_circuit_breakers", "Circuit breakers of instances by state.", labels=(*_POOL, "state")
        )
        for name, table in self._fleet.tables.items():
            for state, number in breaker_counts(table.instances()).items():
                count.add_metric((*name, state), number)
        return count

    def _per_instance(self) -> Iterator[Metric]:
        labels = (*_POOL, "instance_id")
        memory = GaugeMetricFamily("agent_pool_memory_bytes", "Private memory.", labels=labels)
        cpu = GaugeMetricFamily(
            "agent_pool_cpu_percent", "CPU since activation, in percent of a core.", labels=labels
        )
        breaker = GaugeMetricFamily(
            "agent_pool_circuit_breaker_state", "0: CLOSED, 1: OPEN, 2: HALF_OPEN.", labels=labels
        )
        for name, table in self._fleet.tables.items():
            for one in table.instances():
                breaker.add_metric((*name, one.id), breaker_state(one).code)
                memory.add_metric((*name, one.id), one.memory_bytes)
                cpu.add_metric((*name, one.id), _cpu_percent(one))
        yield memory
        yield cpu
        yield breaker


def _cpu_percent(instance: Instance) -> float:
    lived = instance.last_used_at - instance.created_at
    return round(100 * instance.cpu_seconds / lived, 3) if lived > 0 else 0.0


class _OnePool:
    """A registry's samples of one pool."""

    def __init__(self, registry: CollectorRegistry, pool: PoolName) -> None:
        self._registry = registry
        self._pool = pool

    def collect(self) -> Iterable[Metric]:
        for metric in self._registry.collect():
            part = Metric(metric.name, metric.documentation, metric.type, metric.unit)
            part.samples = [
                one
                for one in metric.samples
                if (one.labels.get("namespace"), one.labels.get("pool")) == self._pool
            ]
            yield part
