# SPDX-License-Identifier: Apache-2.0
"""Prometheus metrics of the operator. Labels come from enums; pools are summed."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterator, Mapping

from prometheus_client import Counter, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from agentpool_core.lifecycle import Tier
from agentpool_core.recovery import Cause, Strategy
from agentpool_core.scaling import Action, Verdict
from agentpool_operator.queue import Key, Outcome
from agentpool_rpc.metrics import Distributions, new_registry

BUCKETS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
"""Seconds. A run that changes nothing takes some reads, one that activates an instance seconds."""

CALLS = (
    "Requests to the API server by verb, kind and result, watches apart. Writes are create, apply, patch, "
    "update and delete; those of leases keep the leader."
)

_STRATEGIES, _CAUSES = frozenset(Strategy), frozenset(Cause)

Sizes = Mapping[tuple[str, str], Mapping[str, tuple[int, int]]]
Conditions = Mapping[tuple[str, str], Mapping[str, bool]]


class OperatorMetrics(Collector):
    """Counts reconciles, and reads the rest whenever it is scraped.

    Args:
        depth: keys in the work queue.
        sizes: wanted and ready pods of each pool by role.
        conditions: which conditions of each pool hold.
        leading: whether this process leads.
    """

    def __init__(
        self,
        depth: Callable[[], int],
        sizes: Callable[[], Sizes],
        conditions: Callable[[], Conditions],
        leading: Callable[[], bool],
    ) -> None:
        self._depth, self._sizes, self._conditions, self._leading = depth, sizes, conditions, leading
        self.registry = new_registry()
        self.registry.register(self)
        self._total = self._counter(
            "agent_pool_operator_reconcile", "Reconciles by subject and result.", "subject", "result"
        )
        about = "Failures of instances by what is done about them and by cause."
        self._failures = self._counter("agent_pool_instance_failures", about, "strategy", "cause")
        for strategy in Strategy:
            # From 0 on, so that the first failure is an increase.
            for cause in Cause:
                self._failures.labels(strategy.value, cause.value)
        about = "Moves of instances between tiers that their traffic asked for."
        self._moves = self._counter("agent_pool_tier_moves", about, "before", "after")
        about = "Changes of the number of shared pods by direction and by what asked for them."
        self._actions = self._counter("agent_pool_scaling_actions", about, "direction", "reason")
        about = "Looks at the load of a pool by what came of them."
        self._looks = self._counter("agent_pool_scaling_looks", about, "verdict")
        self._calls = self._counter("agent_pool_operator_api_requests", CALLS, "verb", "kind", "result")
        self._seconds = Distributions(
            "agent_pool_operator_reconcile_seconds", "Time of a reconcile.", ["subject"], BUCKETS
        )
        name, about = "agent_pool_operator_api_request_seconds", "Time of a request to the API server."
        self._call_seconds = Distributions(name, about, ["verb"], BUCKETS)
        for family in (self._seconds, self._call_seconds):
            self.registry.register(family)

    def _counter(self, name: str, about: str, *labels: str) -> Counter:
        return Counter(name, about, labels, registry=self.registry)

    def failed(self, strategy: str, cause: str) -> None:
        """An instance failed, as its host reports."""
        known = strategy in _STRATEGIES and cause in _CAUSES
        self._failures.labels(*((strategy, cause) if known else ("other", "other"))).inc()

    def moved(self, before: Tier, after: Tier) -> None:
        """An instance got the tier that its traffic asks for."""
        self._moves.labels(before.value, after.value).inc()

    def scaled(self, verdict: Verdict, action: Action | None) -> None:
        """A pool's load was looked at."""
        self._looks.labels(verdict.value).inc()
        if action is not None:
            # Reasons are made of the names of signals: a closed set.
            self._actions.labels(action.direction.value.lower(), action.reason).inc()

    def observe(self, key: Key, outcome: Outcome, seconds: float) -> None:
        """A reconcile ended."""
        self._total.labels(key.subject.value, outcome.value).inc()
        self._seconds.observe(seconds, key.subject.value)

    def called(self, verb: str, kind: str, result: str, seconds: float) -> None:
        """The API server was asked: by which verb, for which kind, how it ended."""
        self._calls.labels(verb, kind, result).inc()
        self._call_seconds.observe(seconds, verb)

    def collect(self) -> Iterator[Metric]:
        """prometheus_client: called for each scrape."""
        yield GaugeMetricFamily(
            "agent_pool_operator_workqueue_depth", "Keys that wait or are under way.", self._depth()
        )
        yield GaugeMetricFamily(
            "agent_pool_operator_leading", "1: this process leads.", float(self._leading())
        )
        yield from self._of_pools()

    def _of_pools(self) -> Iterator[Metric]:
        wanted, ready = Tally[str](), Tally[str]()
        sizes = self._sizes()
        for roles in sizes.values():
            for role, (want, have) in roles.items():
                wanted[role] += want
                ready[role] += have
        desired = GaugeMetricFamily("agent_pool_pods_desired", "Wanted pods.", labels=["role"])
        present = GaugeMetricFamily("agent_pool_pods_ready", "Ready pods.", labels=["role"])
        for role in sorted(wanted):
            desired.add_metric([role], wanted[role])
            present.add_metric([role], ready[role])
        holding = Tally[str]()
        for conditions in self._conditions().values():
            for condition, holds in conditions.items():
                holding[condition] += holds
        held = GaugeMetricFamily(
            "agent_pool_pools_by_condition", "Pools of which the condition holds.", labels=["condition"]
        )
        for condition in sorted(holding):
            held.add_metric([condition], holding[condition])
        yield GaugeMetricFamily("agent_pool_pools", "Pools that are looked after.", len(sizes))
        yield from (desired, present, held)

    def text(self) -> bytes:
        """What a scrape gets."""
        return generate_latest(self.registry)
