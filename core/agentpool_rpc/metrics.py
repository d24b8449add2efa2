# SPDX-License-Identifier: Apache-2.0
"""What the request path counts with, cheap enough for every request, shown to Prometheus when it asks.

prometheus_client's own instruments take a lock and, with labels, a look-up for each number. Here one thread
writes plain numbers and any thread may read them: a scrape that comes in between sees a request more or less.

Names: what the gateway says of pools keeps the names `agent_pool_*`; what a host or the operator says of
itself begins with `agent_pool_host_` or `agent_pool_operator_`, so that a sum over all that is scraped never
counts one thing twice.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry, ProcessCollector, disable_created_metrics, generate_latest
from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

LATENCY_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
"""Seconds. An answer from a resident instance takes a millisecond, a model's tens of seconds."""


class Distribution:
    """How often which values were seen: a histogram's numbers.

    Args:
        bounds: upper bounds of the buckets, ascending.
    """

    __slots__ = ("_bounds", "_counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """A value was seen."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self.total += value

    @property
    def count(self) -> int:
        """Values seen."""
        return sum(self._counts)

    def add_to(self, family: HistogramMetricFamily, labels: Sequence[str]) -> None:
        """Show the numbers as one child of a family."""
        seen, buckets = 0, []
        for bound, count in zip((*map(str, self._bounds), "+Inf"), list(self._counts), strict=True):
            seen += count
            buckets.append((bound, float(seen)))
        family.add_metric(labels, buckets, self.total)


class Distributions(Collector):
    """A histogram with labels.

    Args:
        labels: their names; the values are the key of a child.
    """

    def __init__(
        self, name: str, about: str, labels: Sequence[str] = (), bounds: Sequence[float] = LATENCY_BUCKETS
    ) -> None:
        self._name, self._about, self._labels, self._bounds = name, about, tuple(labels), tuple(bounds)
        self._children: dict[tuple[str, ...], Distribution] = {}

    def child(self, *values: str) -> Distribution:
        """The one with these label values; whoever counts often keeps it."""
        found = self._children.get(values)
        if found is None:
            found = self._children[values] = Distribution(self._bounds)
        return found

    def observe(self, value: float, *values: str) -> None:
        """A value was seen."""
        self.child(*values).observe(value)

    def drop(self, *values: str) -> None:
        """Forget the children whose first label values are these."""
        for key in [one for one in self._children if one[: len(values)] == values]:
            del self._children[key]

    def collect(self) -> Iterator[Metric]:
        """prometheus_client: called for each scrape."""
        family = HistogramMetricFamily(self._name, self._about, labels=self._labels)
        for key, child in list(self._children.items()):
            child.add_to(family, key)
        yield family


def new_registry() -> CollectorRegistry:
    """A registry with nothing in it."""
    # A second series per counter, of its start time, that nobody asked for.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    return CollectorRegistry()


def process_registry() -> CollectorRegistry:
    """What the process uses: CPU, memory, files. It is read from files, so not on an event loop."""
    registry = new_registry()
    ProcessCollector(registry=registry)
    return registry


async def process_text() -> bytes:
    """What the process uses, as text to put behind that of another registry."""
    return await asyncio.to_thread(lambda: generate_latest(process_registry()))
