# SPDX-License-Identifier: Apache-2.0
"""A pool as a queue: pure, the same seed gives the same numbers.

Requests arrive by a Poisson process of the trace's rate, wait in one line, and are served in its order by
slots, `slots` on each pod, for times of the trace's mean that vary as Erlang's of four phases do: an M/E4/c
queue whose c changes. A pod that is added serves `start_seconds` later; one that is taken away drains: its
slots take nothing new. CPU is the share of slots at work, which stops at 1 as a limit does; memory and places
are not modelled, and requests are not bound to a pod. The policy is the operator's, asked as often and with
the same signals: means of ten seconds, latency of the last minute.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from random import Random

from agentpool_cli.simulation.trace import Trace
from agentpool_core.config import ScalingConfig
from agentpool_core.scaling import Action, ReplicaLoad, State, decide

LOOK_SECONDS = 5.0
MEAN_LOOKS = 2
"""CPU and rates are means of so many looks."""
LATENCY_LOOKS = 12
"""Latency is of so many looks."""
PHASES = 4
"""Of a request's time: requests of one agent vary less than by an exponential distribution."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What a pod can do.

    Attributes:
        slots: requests that it works on at once.
        service_seconds: mean time of a request, where the trace gives none.
        start_seconds: from the decision to the first request that it serves.
    """

    slots: int = 4
    service_seconds: float = 0.2
    start_seconds: float = 15.0
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Look:
    """Five seconds of a run; `times` of requests that ended in them, from arrival to end, in seconds.

    Attributes:
        serving: pods that serve; wanted: those that are paid for.
        waiting: requests in line at its end.
        used: share of the slots that was at work.
    """

    at: float
    serving: int
    wanted: int
    waiting: int
    used: float
    arrived: int
    times: tuple[float, ...]
    waits: tuple[float, ...]
    action: Action | None = None


@dataclass
class _Pool:
    """Slots and the line before them."""

    shape: Shape
    rng: Random
    serving: int
    line: deque[float] = field(default_factory=deque)
    ends: list[tuple[float, float]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    worked: float = 0.0
    at: float = 0.0

    @property
    def free(self) -> bool:
        return len(self.ends) < self.serving * self.shape.slots

    def until(self, now: float, service: float) -> None:
        """Let what ends before `now` end, and the next in line begin."""
        while self.ends and self.ends[0][0] <= now:
            end, arrived = heapq.heappop(self.ends)
            self._pass(end, 1)
            self.times.append(end - arrived)
            if self.line and self.free:
                self._begin(self.line.popleft(), end, service)
        self._pass(now, 0)

    def arrive(self, now: float, service: float) -> None:
        if self.free:
            self._begin(now, now, service)
        else:
            self.line.append(now)

    def resize(self, serving: int, now: float, service: float) -> None:
        self.serving = serving
        while self.line and self.free:
            self._begin(self.line.popleft(), now, service)

    def _begin(self, arrived: float, now: float, service: float) -> None:
        self.waits.append(now - arrived)
        heapq.heappush(self.ends, (now + self.rng.gammavariate(PHASES, service / PHASES), arrived))

    def _pass(self, now: float, ended: int) -> None:
        self.worked += (len(self.ends) + ended) * (now - self.at)
        self.at = now


@dataclass
class _Scaler:
    """The policy with what it has seen, and the pods that start."""

    policy: ScalingConfig
    shape: Shape
    state: State
    looks: deque[Look] = field(default_factory=lambda: deque(maxlen=LATENCY_LOOKS))
    starting: deque[tuple[float, int]] = field(default_factory=deque)

    def ready(self, now: float, serving: int) -> int:
        """Pods that serve from `now` on."""
        while self.starting and self.starting[0][0] <= now:
            serving = max(serving, min(self.starting.popleft()[1], self.state.desired))
        return serving

    def decide(self, now: float, serving: int) -> Action | None:
        loads = [self._load(serving)] * serving
        decision = decide(self.state, loads, self.policy, now)
        self.state = decision.state
        if decision.action is not None and decision.action.after > serving:
            self.starting.append((now + self.shape.start_seconds, decision.action.after))
        return decision.action

    def _load(self, serving: int) -> ReplicaLoad:
        recent = list(self.looks)[-MEAN_LOOKS:]
        seconds = len(recent) * LOOK_SECONDS
        target = self.policy.target_latency_milliseconds
        times = sorted(time for look in self.looks for time in look.times) if target else []
        return ReplicaLoad(
            cpu=sum(look.used for look in recent) / len(recent),
            memory=0.0,
            queue=recent[-1].waiting / serving / self.policy.target_queue_depth,
            occupancy=0.0,
            latency=percentile(times, 0.99) * 1000 / target if times and target else None,
            arrivals=sum(look.arrived for look in recent) / seconds / serving,
            completions=sum(len(look.times) for look in recent) / seconds / serving,
        )


def simulate(trace: Trace, policy: ScalingConfig, shape: Shape) -> list[Look]:
    """Every look of a run over the trace, beginning with the fewest pods."""
    dues = _dues(trace, Random(shape.seed))  # noqa: S311  # a model, not a secret
    pool = _Pool(shape, Random(shape.seed + 1), policy.min_replicas)  # noqa: S311
    scaler = _Scaler(policy, shape, State.start(policy.min_replicas, 0.0))
    found: list[Look] = []
    now, due = 0.0, next(dues)
    while now < trace.ends:
        now += LOOK_SECONDS
        service = trace.at(now).service_seconds or shape.service_seconds
        arrived = 0
        while due <= now:
            pool.until(due, service)
            pool.arrive(due, service)
            arrived += 1
            due = next(dues)
        pool.until(now, service)
        serving = pool.serving
        used = min(1.0, pool.worked / (serving * shape.slots * LOOK_SECONDS))
        times, waits = tuple(pool.times), tuple(pool.waits)
        pool.times, pool.waits, pool.worked = [], [], 0.0
        look = Look(
            now, serving, max(scaler.state.desired, serving), len(pool.line), used, arrived, times, waits
        )
        scaler.looks.append(look)
        action = scaler.decide(now, serving)
        found.append(replace(look, action=action))
        pool.resize(min(scaler.ready(now, serving), scaler.state.desired), now, service)
    return found


def _dues(trace: Trace, rng: Random) -> Iterator[float]:
    """When requests arrive, in order and without end: infinity follows the last."""
    for span, end in zip(trace.spans, [*(one.begins for one in trace.spans[1:]), trace.ends], strict=True):
        # What is left of an exponential time at a span's end is exponential again: the next span draws anew.
        now = span.begins
        while span.per_second > 0 and (now := now + rng.expovariate(span.per_second)) < end:
            yield now
    while True:
        yield math.inf


def percentile(ordered: list[float], share: float) -> float:
    """The smallest of the ordered numbers that so many are not above; 0 of none."""
    if not ordered:
        return 0.0
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
