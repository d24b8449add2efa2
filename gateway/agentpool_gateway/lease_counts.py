# SPDX-License-Identifier: Apache-2.0
"""What the gateway counts of leases, and of what applications report of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterator

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from agentpool_gateway.membership.base import PoolName
from agentpool_rpc.leases import LeaseReport
from agentpool_rpc.metrics import Distribution

HELD_BUCKETS = (0.01, 0.1, 1.0, 10.0, 60.0, 600.0, 3600.0)
"""Seconds. A handle is held for one request or for the life of a session."""
_POOL = ("namespace", "pool")


class _Counts:
    """The numbers of one pool."""

    __slots__ = ("events", "held", "requests")

    def __init__(self) -> None:
        self.events: Counter[str] = Counter(acquired=0, released=0)
        self.requests: Counter[str] = Counter(success=0, failure=0)
        self.held = Distribution(HELD_BUCKETS)


class LeaseCounts(Collector):
    """Counts leases by pool.

    Args:
        pools: those that there are; the numbers of others go with them.
    """

    def __init__(self, pools: Container[PoolName]) -> None:
        self._there = pools
        self._pools: dict[PoolName, _Counts] = {}

    def acquired(self, pool: PoolName) -> None:
        """A lease was given."""
        self._of(pool).events["acquired"] += 1

    def released(self, pool: PoolName, report: LeaseReport) -> None:
        """What was done with one."""
        counts = self._of(pool)
        counts.events["released"] += 1
        counts.requests["success"] += report.requests - report.failures
        counts.requests["failure"] += report.failures
        counts.held.observe(report.held_seconds)

    def collect(self) -> Iterator[Metric]:
        """prometheus_client: called for each scrape."""
        for gone in [name for name in self._pools if name not in self._there]:
            del self._pools[gone]
        leases = CounterMetricFamily(
            "agent_pool_leases",
            "Leases that were acquired, and those that were released with a report.",
            labels=(*_POOL, "event"),
        )
        requests = CounterMetricFamily(
            "agent_pool_leased_requests",
            "Requests that applications sent to hosts themselves, as they reported: success or failure.",
            labels=(*_POOL, "outcome"),
        )
        held = HistogramMetricFamily(
            "agent_pool_lease_held_seconds",
            "Time from acquire to release, as applications reported.",
            labels=_POOL,
        )
        for name, counts in self._pools.items():
            for event, number in counts.events.items():
                leases.add_metric((*name, event), number)
            for outcome, number in counts.requests.items():
                requests.add_metric((*name, outcome), number)
            counts.held.add_to(held, name)
        yield from (leases, requests, held)

    def _of(self, pool: PoolName) -> _Counts:
        found = self._pools.get(pool)
        if found is None:
            found = self._pools[pool] = _Counts()
        return found
