# SPDX-License-Identifier: Apache-2.0
"""From what hosts report to what the policy of scaling is asked with; and which instances spread out then.

An instance stays where it is resident, so that new pods alone take no load off old ones. While some pods bear
more than others, their instances whose place by rendezvous hashing is another, less loaded pod are sent away,
a few at a time; their next request starts them there. That place is one and the same each time: nothing goes
to and fro, and once every instance is at its place nothing moves any more.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from agentpool_core.api import AgentPool
from agentpool_core.api.quantity import cpu_millis, memory_bytes
from agentpool_core.cluster import ROLE_WARM
from agentpool_core.config import EffectivePool
from agentpool_core.lifecycle import State, Tier
from agentpool_core.placement import Candidate, Role, choose_shared
from agentpool_core.scaling import ReplicaLoad
from agentpool_operator.desired.pod import workers_resources
from agentpool_operator.plan.views import HeldView, HostView, LoadView, PodView

HOST_CPU_MILLIS = 1000
"""A host is one process with one event loop: it cannot use more than one core."""
CROWDED_FACTOR, CROWDED_MORE = 1.25, 2
"""A pod with so many times the mean of resident instances, and two more, is crowded: chance alone makes
smaller differences."""
BATCH = 4
"""Instances that one pod sends away at a time: each costs its next request a start."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """All that one shared pod can bear.

    Attributes:
        cpu_millis: limit of its workers, or their request when there is no limit.
        permits: requests that one instance works on at once.
        queue: requests that may wait.
        latency_ms: target of the 99th percentile; None: there is none.
    """

    cpu_millis: int
    memory_bytes: int
    places: int
    permits: int
    queue: float
    latency_ms: float | None = None


def capacity(pool: AgentPool, effective: EffectivePool) -> Capacity:
    """What a shared pod of a pool can bear."""
    resources = workers_resources(ROLE_WARM, pool, effective)
    amounts = {**resources["requests"], **resources["limits"]}
    return Capacity(
        cpu_millis=max(1, cpu_millis(amounts["cpu"])),
        memory_bytes=max(1, memory_bytes(amounts["memory"])),
        places=effective.instances_per_host,
        permits=effective.tier(Tier.WARM).quota.concurrent_requests,
        queue=effective.scaling.target_queue_depth,
        latency_ms=effective.scaling.target_latency_milliseconds,
    )


def cpu_share(load: LoadView, of: Capacity) -> float:
    """CPU against what there is: of the workers or of the host, whichever is nearer to its end."""
    return max(load.workers_cpu_millis / of.cpu_millis, load.host_cpu_millis / HOST_CPU_MILLIS)


def queue_share(host: HostView, of: Capacity) -> float:
    """Requests that wait against those that may; or those at work against all permits, if that is nearer to
    its end: beyond them requests wait."""
    at_work = host.active / (host.residents * of.permits) if host.residents else 0.0
    return max(host.queued / of.queue, at_work)


def replica_load(host: HostView | None, of: Capacity) -> ReplicaLoad | None:
    """What a host bears; None: it does not tell."""
    if host is None or host.load is None:
        return None
    load = host.load
    latency = load.latency_p99_ms
    return ReplicaLoad(
        cpu=cpu_share(load, of),
        memory=load.workers_memory_bytes / of.memory_bytes,
        queue=queue_share(host, of),
        occupancy=host.residents / of.places,
        latency=latency / of.latency_ms if latency is not None and of.latency_ms else None,
        arrivals=load.arrivals_per_second,
        completions=load.completions_per_second,
    )


@dataclass(frozen=True, slots=True)
class Departure:
    """An instance that is to leave a pod."""

    pod_uid: str
    instance_id: str


def plan_spread(
    shared: Sequence[tuple[PodView, HostView | None]], of: Capacity, threshold: float
) -> list[Departure]:
    """Instances that are to leave crowded pods now.

    Args:
        shared: the ready shared pods; nothing is planned while one of them is silent.
        threshold: share of its CPU from which a pod counts as crowded, however few it holds.
    """
    hosts = {pod.uid: host for pod, host in shared if host is not None and host.ready}
    if len(hosts) < max(2, len(shared)):
        return []
    mean = sum(host.residents for host in hosts.values()) / len(hosts)
    crowded = {
        uid
        for uid, host in hosts.items()
        if host.residents > CROWDED_FACTOR * mean + CROWDED_MORE or _is_hot(host, of, threshold)
    }
    warm = frozenset({Tier.WARM})
    places = [
        Candidate(uid, Role.SHARED, warm, of.places, host.residents, host.residents)
        for uid, host in hosts.items()
    ]
    found = []
    for uid in sorted(crowded):
        leaving = 0
        for held in _by_ease(hosts[uid].instances.values()):
            goal = choose_shared(held.id, Tier.WARM, places)
            if goal is not None and goal not in crowded and leaving < BATCH:
                found.append(Departure(uid, held.id))
                leaving += 1
    return found


def _is_hot(host: HostView, of: Capacity, threshold: float) -> bool:
    return host.load is not None and cpu_share(host.load, of) > threshold


def _by_ease(held: Iterable[HeldView]) -> list[HeldView]:
    """Those that may leave: idle ones first, of those the last used, which make the load."""
    steady = [one for one in held if one.tier is Tier.WARM and one.state in (State.READY, State.BUSY)]
    return sorted(steady, key=lambda one: (one.state is State.BUSY, -one.last_used_at, one.id))
