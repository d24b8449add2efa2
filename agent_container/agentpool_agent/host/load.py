# SPDX-License-Identifier: Apache-2.0
"""What this host bears: CPU and memory of its workers, rates and latency of its requests.

A request costs an addition and a look-up of a bucket. Latency is counted in buckets that grow by a quarter,
so that a percentile is right to within that. Times are seconds of the host's monotonic clock.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from agentpool_core.errors import ConcurrencyExceeded, RateExceeded

RATE_SECONDS = 10.0
LATENCY_SECONDS = 60.0
SLICE_SECONDS = 5.0
"""Everything is counted in slices; the one that is not over yet counts for nothing."""
FIRST_SECONDS, GROWTH, BUCKETS = 0.001, 1.25, 64
"""From a millisecond to over 20 minutes."""
REFUSED = frozenset({RateExceeded.code, ConcurrencyExceeded.code})
"""What a tenant's quota refuses is no load of the pool."""
STALE_SECONDS = 15.0
"""A sample of a worker is due each five seconds; one that is older says nothing any more."""

_SCALE = 1 / math.log(GROWTH)


def bucket_of(seconds: float) -> int:
    """The bucket of a latency."""
    if seconds <= FIRST_SECONDS:
        return 0
    return min(BUCKETS - 1, 1 + int(math.log(seconds / FIRST_SECONDS) * _SCALE))


def seconds_of(bucket: int) -> float:
    """The upper end of a bucket."""
    return float(FIRST_SECONDS * GROWTH**bucket)


@dataclass(slots=True)
class Slice:
    """What happened in five seconds."""

    began: float
    arrived: int = 0
    ended: int = 0
    buckets: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Load:
    """What is told of it; see HostLoad in host.proto."""

    workers_cpu_millis: int
    host_cpu_millis: int
    workers_memory_bytes: int
    arrivals_per_second: float
    completions_per_second: float
    latency_p50_ms: float | None
    latency_p99_ms: float | None


CPU_STEP_MILLIS, MEMORY_STEP_BYTES = 20, 4 * 1024 * 1024


def differs(before: Load | None, after: Load) -> bool:
    """Whether a load is worth telling: at rest nothing is, and small changes wait for the next large one."""
    if before is None or (before.latency_p99_ms is None) != (after.latency_p99_ms is None):
        return True

    def far(old: float, new: float, step: float) -> bool:
        return abs(new - old) >= max(step, 0.1 * old)

    return (
        far(before.workers_cpu_millis, after.workers_cpu_millis, CPU_STEP_MILLIS)
        or far(before.host_cpu_millis, after.host_cpu_millis, CPU_STEP_MILLIS)
        or far(before.workers_memory_bytes, after.workers_memory_bytes, MEMORY_STEP_BYTES)
        or far(before.arrivals_per_second, after.arrivals_per_second, 0.2)
        or far(before.completions_per_second, after.completions_per_second, 0.2)
        or far(before.latency_p99_ms or 0.0, after.latency_p99_ms or 0.0, 1.0)
    )


class LoadMeter:
    """Counts and measures.

    Args:
        own_cpu: CPU seconds of this process so far.
    """

    def __init__(self, now: float, own_cpu: Callable[[], float] = time.process_time) -> None:
        self._own_cpu = own_cpu
        self._slices: deque[Slice] = deque([Slice(now)], maxlen=round(LATENCY_SECONDS / SLICE_SECONDS) + 1)
        self._samples: dict[int, tuple[float, float]] = {}
        """CPU seconds of each process of the workers' container, and when they were measured."""
        self._memory: dict[int, int] = {}
        self._spent = 0.0
        """CPU seconds of the workers' container since this object was made."""
        self._marks: deque[tuple[float, float, float]] = deque([(now, 0.0, own_cpu())], maxlen=3)
        """When, and CPU seconds of the workers and of this process by then."""
        self.told: Load | None = None
        """The load that watchers know."""

    # What happens

    def arrived(self, now: float) -> None:
        """A request came."""
        self._slice(now).arrived += 1

    def ended(self, status: str, seconds: float, now: float) -> None:
        """A request ended; `status` as the metrics have it."""
        present = self._slice(now)
        if status in REFUSED:
            present.arrived = max(0, present.arrived - 1)
        elif status == "success":
            present.ended += 1
            bucket = bucket_of(seconds)
            present.buckets[bucket] = present.buckets.get(bucket, 0) + 1

    def sampled(self, process: int, cpu_seconds: float, memory_bytes: int, now: float) -> None:
        """What a process of the workers' container has used; 0 is the zygote."""
        # What a process used before it was first seen was not used just now.
        before, _ = self._samples.get(process, (cpu_seconds, now))
        self._spent += max(0.0, cpu_seconds - before)
        self._samples[process] = (cpu_seconds, now)
        self._memory[process] = memory_bytes

    def _slice(self, now: float) -> Slice:
        present = self._slices[-1]
        if now - present.began >= SLICE_SECONDS:
            present = Slice(now)
            self._slices.append(present)
        return present

    # What comes of it

    def look(self, now: float) -> Load:
        """The load now; called once in each slice's time."""
        self._slice(now)
        for process in [one for one, (_, at) in self._samples.items() if now - at > STALE_SECONDS]:
            del self._samples[process], self._memory[process]
        self._marks.append((now, self._spent, self._own_cpu()))
        (since, workers, host), (until, workers_now, host_now) = self._marks[0], self._marks[-1]
        seconds = max(until - since, 0.1)
        p50, p99 = self._latencies(now)
        return Load(
            workers_cpu_millis=_rounded(1000 * (workers_now - workers) / seconds, 10),
            host_cpu_millis=_rounded(1000 * (host_now - host) / seconds, 10),
            workers_memory_bytes=_rounded(sum(self._memory.values()), 1024 * 1024),
            arrivals_per_second=self._rate(now, lambda one: one.arrived),
            completions_per_second=self._rate(now, lambda one: one.ended),
            latency_p50_ms=p50,
            latency_p99_ms=p99,
        )

    def _rate(self, now: float, of: Callable[[Slice], int]) -> float:
        over = [one for one in list(self._slices)[:-1] if now - one.began <= RATE_SECONDS + SLICE_SECONDS / 2]
        if not over:
            return 0.0
        seconds = max(self._slices[-1].began - over[0].began, SLICE_SECONDS)
        return round(sum(of(one) for one in over) / seconds, 2)

    def _latencies(self, now: float) -> tuple[float | None, float | None]:
        buckets: dict[int, int] = {}
        for one in self._slices:
            if now - one.began <= LATENCY_SECONDS + SLICE_SECONDS:
                for bucket, count in one.buckets.items():
                    buckets[bucket] = buckets.get(bucket, 0) + count
        total = sum(buckets.values())
        if not total:
            return None, None
        return _percentile(buckets, 0.5 * total), _percentile(buckets, 0.99 * total)


def _percentile(buckets: dict[int, int], rank: float) -> float:
    """Upper end of the bucket in which the request of that rank lies, in milliseconds."""
    passed = 0
    for bucket in sorted(buckets):
        passed += buckets[bucket]
        if passed >= rank:
            break
    return round(1000 * seconds_of(bucket), 3)


def _rounded(value: float, step: int) -> int:
    return round(value / step) * step
