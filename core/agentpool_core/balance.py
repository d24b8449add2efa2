# SPDX-License-Identifier: Apache-2.0
"""Load figures, and the strategies that choose a host by them (B10-B14, B22-B27).

Pure: time and randomness are arguments. A strategy gets the hosts that have room, in an order that stays the
same, and gives the index of one; where two are equally good it takes the one that was chosen longest ago,
which is the front of the queue in which every chosen host goes to the back.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Protocol

from agentpool_core.api.v1alpha1 import BalancingStrategy
from agentpool_core.config import BalancingConfig

KEPT_SHARE = 0.9
"""What is left of the average response time at each new sample (B12)."""
STALE_SECONDS = 30.0
"""A response time that is older says nothing of its host any more: the host is tried again. Without this, one
that was slow once and gets no requests since would be slow for ever."""
LEAST_SUCCESS = 0.05
"""An answer of a host is expected after twenty attempts at most: one that failed lately is avoided, not ruled
out."""


@dataclass(slots=True)
class LoadMetrics:
    """Live figures of one instance or host (B10).

    Attributes:
        last_updated: when a request last ended, at first when counting began; seconds of the caller's clock.
        active_commands: requests under way.
        queue_length: requests that wait to begin.
        average_response_time_ms: moving average, 0.0 before the first measurement.
        success_rate: mean over all measured requests; 1.0 before the first.
        measured: requests that went into the two figures above.
    """

    last_updated: float
    active_commands: int = 0
    queue_length: int = 0
    average_response_time_ms: float = 0.0
    success_rate: float = 1.0
    measured: int = 0

    def acquire(self) -> None:
        """A request begins."""
        self.active_commands += 1

    def release(self, now: float, duration_ms: float, success: bool | None) -> None:
        """A request ended after so long (B17), never below zero active.

        `success` None: its end says nothing of the agent, because the caller went away or was at fault; then
        only the count and the time change. A duration that is no number is left out of the average.
        """
        self.active_commands = max(0, self.active_commands - 1)
        self.last_updated = now
        if success is None:
            return
        self.measured += 1
        # ((n - 1) * rate + s) / n of B13, in the form that loses no digits as n grows.
        self.success_rate += ((1.0 if success else 0.0) - self.success_rate) / self.measured
        if not math.isfinite(duration_ms) or duration_ms < 0:
            return
        before = self.average_response_time_ms
        kept = KEPT_SHARE * before + (1 - KEPT_SHARE) * duration_ms
        self.average_response_time_ms = kept if before else duration_ms


@dataclass(slots=True)
class HostLoad:
    """What is known of the load of one host by one who sends requests there.

    Attributes:
        metrics: of the requests that were sent from here.
        elsewhere: requests of others that were under way there at its last report.
        capabilities: what the host has, by its own report.
        chosen: number of the choice that last fell on it; a smaller one is longer ago.
    """

    metrics: LoadMetrics = field(default_factory=lambda: LoadMetrics(0.0))
    elsewhere: int = 0
    capabilities: frozenset[str] = frozenset()
    chosen: int = 0

    @property
    def active(self) -> int:
        """Requests under way there or about to be, as far as is known."""
        return self.metrics.active_commands + self.metrics.queue_length + self.elsewhere

    def reported(self, active: int) -> None:
        """The host reports how many requests it works on, those from here among them."""
        self.elsewhere = max(0, active - self.metrics.active_commands)


class Balancer(Protocol):
    """A strategy."""

    def pick(self, hosts: Sequence[HostLoad], now: float, random: Random) -> int:
        """The index of the host to use; there is at least one. `now` on the clock of `last_updated`."""


class RoundRobin:
    """One after another (B22)."""

    def __init__(self) -> None:
        self._next = 0

    def pick(self, hosts: Sequence[HostLoad], now: float, random: Random) -> int:
        """See Balancer."""
        index = self._next % len(hosts)
        self._next = (index + 1) % len(hosts)
        return index


class LeastConnections:
    """The fewest requests under way (B23)."""

    def pick(self, hosts: Sequence[HostLoad], now: float, random: Random) -> int:
        """See Balancer."""
        return min(range(len(hosts)), key=lambda index: (hosts[index].active, hosts[index].chosen))


class FastestResponse:
    """The soonest expected answer (B24).

    A host without a measurement is tried first, with one request at a time. Among the others the lowest
    average time wins, corrected for what it does not know: requests that are under way already, as in
    Finagle's Peak EWMA, and attempts that fail.
    """

    def pick(self, hosts: Sequence[HostLoad], now: float, random: Random) -> int:
        """See Balancer."""
        times = [self._expected(one, now) for one in hosts]
        known = [time for time in times if time]
        typical = sum(known) / len(known) if known else 1.0

        def rank(index: int) -> tuple[float, int]:
            one, time = hosts[index], times[index]
            if not time and not one.active:
                return 0.0, one.chosen
            return (time or typical) * (1 + one.active), one.chosen

        return min(range(len(hosts)), key=rank)

    @staticmethod
    def _expected(one: HostLoad, now: float) -> float:
        """Milliseconds until an answer if nothing else is under way; 0.0: nobody knows."""
        metrics = one.metrics
        if not one.active and now - metrics.last_updated > STALE_SECONDS:
            return 0.0
        return metrics.average_response_time_ms / max(metrics.success_rate, LEAST_SUCCESS)


class RandomChoice:
    """Any, each as likely as the others (B25)."""

    def pick(self, hosts: Sequence[HostLoad], now: float, random: Random) -> int:
        """See Balancer."""
        return random.randrange(len(hosts))


class WeightedCapabilities:
    """The highest share of the wanted capabilities, by weight, for each request under way (B26).

        score = sum of the weights that the host has / sum of all weights / (1 + requests under way)

    So hosts work on numbers of requests in proportion to their shares. One that has nothing of what is wanted
    is used only where no other has room; among such, the one with the fewest requests.
    """

    def __init__(self, weights: Mapping[str, int]) -> None:
        self._weights = dict(weights)
        self._total = sum(weights.values())

    def pick(self, hosts: Sequence[HostLoad], now: float, random: Random) -> int:
        """See Balancer."""

        def rank(index: int) -> tuple[float, int, int]:
            one = hosts[index]
            return -self._share(one) / (1 + one.active), one.active, one.chosen

        return min(range(len(hosts)), key=rank)

    def _share(self, one: HostLoad) -> float:
        has = sum(weight for name, weight in self._weights.items() if name in one.capabilities)
        return has / self._total if self._total else 0.0


class PowerOfTwoChoices:
    """The less loaded of two that are drawn at random.

    With n requests on n hosts the fullest one has about log log n of them, against log n / log log n of a
    single draw (Mitzenmacher, The Power of Two Choices in Randomized Load Balancing). Unlike least
    connections it does not send everybody who has the same old figures to the same host.
    """

    def pick(self, hosts: Sequence[HostLoad], now: float, random: Random) -> int:
        """See Balancer."""
        if len(hosts) == 1:
            return 0
        first, second = random.sample(range(len(hosts)), 2)
        return second if hosts[second].active < hosts[first].active else first


def balancer(config: BalancingConfig) -> Balancer:
    """The strategy of a pool, with nothing chosen yet."""
    match config.strategy:
        case BalancingStrategy.ROUND_ROBIN:
            return RoundRobin()
        case BalancingStrategy.LEAST_CONNECTIONS:
            return LeastConnections()
        case BalancingStrategy.FASTEST_RESPONSE:
            return FastestResponse()
        case BalancingStrategy.RANDOM:
            return RandomChoice()
        case BalancingStrategy.WEIGHTED_CAPABILITIES:
            return WeightedCapabilities({one.name: one.weight for one in config.capabilities})
        case BalancingStrategy.POWER_OF_TWO_CHOICES:
            return PowerOfTwoChoices()
