# SPDX-License-Identifier: Apache-2.0
"""Prometheus metrics of the operator. Labels come from enums; pools are summed."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from agentpool_core.lifecycle import Tier
from agentpool_core.recovery import Cause, Strategy
from agentpool_operator.queue import Key, Outcome

BUCKETS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
"""Seconds. A run that changes nothing takes some reads, one that activates an instance seconds."""

_STRATEGIES, _CAUSES = frozenset(Strategy), frozenset(Cause)

Sizes = Mapping[tuple[str, str], Mapping[str, tuple[int, int]]]


class OperatorMetrics(Collector):
    """Counts reconciles, and reads the rest whenever it is scraped.

    Args:
        depth: keys in the work queue.
        sizes: wanted and ready pods of each pool by role.
        leading: whether this process leads.
    """

    def __init__(
        self, depth: Callable[[], int], sizes: Callable[[], Sizes], leading: Callable[[], bool]
    ) -> None:
        self._depth, self._sizes, self._leading = depth, sizes, leading
        self.registry = CollectorRegistry()
        self.registry.register(self)
        self._total = Counter(
            "agent_pool_operator_reconcile",
            "Reconciles by subject and result.",
            ["subject", "result"],
            registry=self.registry,
        )
        self._failures = Counter(
            "agent_pool_instance_failures",
            "Failures of instances by what is done about them and by cause.",
            ["strategy", "cause"],
            registry=self.registry,
        )
        self._moves = Counter(
            "agent_pool_tier_moves",
            "Moves of instances between tiers that their traffic asked for.",
            ["before", "after"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "agent_pool_operator_reconcile_seconds",
            "Time of a reconcile.",
            ["subject"],
            buckets=BUCKETS,
            registry=self.registry,
        )

    def failed(self, strategy: str, cause: str) -> None:
        """An instance failed, as its host reports."""
        known = strategy in _STRATEGIES and cause in _CAUSES
        self._failures.labels(*((strategy, cause) if known else ("other", "other"))).inc()

    def moved(self, before: Tier, after: Tier) -> None:
        """An instance got the tier that its traffic asks for."""
        self._moves.labels(before.value, after.value).inc()

    def observe(self, key: Key, outcome: Outcome, seconds: float) -> None:
        """A reconcile ended."""
        self._total.labels(key.subject.value, outcome.value).inc()
        self._seconds.labels(key.subject.value).observe(seconds)

    def collect(self) -> Iterator[Metric]:
        """prometheus_client: called for each scrape."""
        depth = GaugeMetricFamily("agent_pool_operator_workqueue_depth", "Keys that wait or are under way.")
        depth.add_metric([], self._depth())
        leading = GaugeMetricFamily("agent_pool_operator_leading", "1: this process leads.")
        leading.add_metric([], float(self._leading()))
        wanted, ready = Tally[str](), Tally[str]()
        sizes = self._sizes()
        for roles in sizes.values():
            for role, (want, have) in roles.items():
                wanted[role] += want
                ready[role] += have
        pools = GaugeMetricFamily("agent_pool_pools", "Pools that are looked after.")
        pools.add_metric([], len(sizes))
        desired = GaugeMetricFamily("agent_pool_pods_desired", "Wanted pods.", labels=["role"])
        present = GaugeMetricFamily("agent_pool_pods_ready", "Ready pods.", labels=["role"])
        for role in sorted(wanted):
            desired.add_metric([role], wanted[role])
            present.add_metric([role], ready[role])
        yield from (depth, leading, pools, desired, present)

    def text(self) -> bytes:
        """What a scrape gets."""
        return generate_latest(self.registry)
