# SPDX-License-Identifier: Apache-2.0
"""What a pool did and holds, from the hosts' reports: no I/O."""

from __future__ import annotations

from collections.abc import Generator
from datetime import UTC, datetime
from typing import Any, NoReturn

import msgspec

from agentpool_core.lifecycle import State, Tier
from agentpool_gateway.dispatch.breakers import breaker_counts
from agentpool_gateway.membership.table import Host, PoolTable

_BUSY = State.BUSY.value
_PAUSED = State.PAUSED.value
_AVAILABLE = State.READY.value


class HostLoadStats(msgspec.Struct, frozen=True):
    """How busy a host is and how well it does, as this gateway sees it. `active_commands`: requests under way
    there, those of other gateways by its last report. `queue_length`: requests that wait there or for it. The
    other figures are of this gateway's requests to it since it started; `last_updated` is RFC 3339, null
    before the first."""

    active_commands: int
    queue_length: int
    average_response_time_ms: float
    success_rate: float
    last_updated: str | None


class HostStats(msgspec.Struct, frozen=True):
    """One host of the pool."""

    pod: str
    incarnation: str
    role: str
    tiers: list[str]
    ready: bool
    draining: bool
    connected: bool
    capacity: int
    resident: int
    spares: int
    active_requests: int
    store_silent: bool
    isolation: list[str]
    isolation_missing: dict[str, str]
    capabilities: list[str]
    load: HostLoadStats
    problems: list[str]


class PoolStats(msgspec.Struct, frozen=True):
    """Statistics of one pool: what its hosts hold now, and totals since the gateway first saw them.

    `paused` counts what hosts know of; with storage Redis a paused instance is held by nobody and counts
    in the list of instances only.
    """

    namespace: str
    pool: str
    total: int
    available: int
    busy: int
    paused: int
    current_pool_size: int
    current_busy_agents: int
    per_tier: dict[str, int]
    per_state: dict[str, int]
    circuit_breakers: dict[str, int]
    total_agents_created: int
    total_agents_destroyed: int
    total_operations_processed: int
    average_operation_time_ms: float
    pool_hit_rate: float
    success_rate: float
    queue_depth: int
    evictions: int
    crashes: int
    last_updated: str
    hosts: list[HostStats]

    def __await__(self) -> Generator[Any, None, NoReturn]:
        """Not awaitable: the statistics are here already."""
        raise TypeError("get_stats() is synchronous: use `stats = manager.get_stats()` without await")


FIELDS = {
    "total": "available + busy + paused, and instances that are starting or in ERROR",
    "available": "instances that are READY",
    "busy": "instances that work on at least one request",
    "paused": "PAUSED instances that a host knows of; with storage Redis see the list of instances",
    "current_pool_size": "the same as available",
    "current_busy_agents": "the same as busy",
    "per_tier": "instances by tier",
    "per_state": "instances by lifecycle state",
    "circuit_breakers": "instances by the state of their circuit breaker",
    "total_agents_created": "activations since the hosts started",
    "total_agents_destroyed": "instances whose process ended since the hosts started",
    "total_operations_processed": "requests that an agent was given, answered or not",
    "average_operation_time_ms": "mean time that such a request was worked on at its host, milliseconds",
    "pool_hit_rate": "requests that found their instance resident, as a share of all; 1.0 before the first",
    "success_rate": "answered requests as a share of answered and failed ones; 1.0 before the first. What was"
    " the caller's doing counts as neither",
    "queue_depth": "requests that wait: for a host, for their turn at it, or there for their instance",
    "evictions": "instances that were put aside to make room or for idleness",
    "crashes": "worker processes that died",
    "last_updated": "time of these statistics, RFC 3339",
    "hosts": "each host of the pool",
}
"""What each number of PoolStats means, for the API document."""


def pool_stats(table: PoolTable, now: float, shift: float = 0.0) -> PoolStats:
    """The pool's statistics at `now`, seconds since 1970; `shift`: what to add to the event loop's clock for
    that."""
    states = dict.fromkeys(map(str, State), 0)
    tiers = dict.fromkeys(map(str, Tier), 0)
    waiting = table.seeking
    for instance in table.instances():
        waiting += instance.load.queue_length
        states[instance.state] = states.get(instance.state, 0) + 1
        tiers[instance.tier] = tiers.get(instance.tier, 0) + 1
    counters = table.totals.with_present(host.status.counters for host in table.hosts.values())
    hosts = [_host(host, shift) for host in table.hosts.values()]
    asked = counters.hits + counters.misses
    ended = counters.succeeded + counters.failed
    operations = counters.operations
    return PoolStats(
        namespace=table.config.namespace,
        pool=table.config.name,
        total=sum(states.values()),
        available=states[_AVAILABLE],
        busy=states[_BUSY],
        paused=states[_PAUSED],
        current_pool_size=states[_AVAILABLE],
        current_busy_agents=states[_BUSY],
        per_tier=tiers,
        per_state=states,
        circuit_breakers=breaker_counts(table.instances()),
        total_agents_created=counters.created,
        total_agents_destroyed=counters.destroyed,
        total_operations_processed=operations,
        average_operation_time_ms=round(counters.operation_seconds * 1000 / operations, 3)
        if operations
        else 0.0,
        pool_hit_rate=counters.hits / asked if asked else 1.0,
        success_rate=counters.succeeded / ended if ended else 1.0,
        queue_depth=waiting + sum(host.load.metrics.queue_length for host in table.hosts.values()),
        evictions=counters.evictions,
        crashes=counters.crashes,
        last_updated=_moment(now),
        hosts=hosts,
    )


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def _load(host: Host, shift: float) -> HostLoadStats:
    metrics = host.load.metrics
    return HostLoadStats(
        active_commands=metrics.active_commands + host.load.elsewhere,
        queue_length=metrics.queue_length + sum(one.load.queue_length for one in host.instances.values()),
        average_response_time_ms=round(metrics.average_response_time_ms, 3),
        success_rate=metrics.success_rate,
        last_updated=_moment(metrics.last_updated + shift) if metrics.last_updated else None,
    )


def _host(host: Host, shift: float) -> HostStats:
    status = host.status
    return HostStats(
        pod=host.member.pod,
        incarnation=str(host.incarnation or ""),
        role=status.role,
        tiers=list(status.tiers),
        ready=status.ready,
        draining=status.draining,
        connected=host.connected,
        capacity=status.capacity,
        resident=status.resident,
        spares=status.spares,
        active_requests=status.active_requests,
        store_silent=status.store_silent,
        isolation=list(status.isolation),
        isolation_missing=dict(status.isolation_missing),
        capabilities=list(status.capabilities),
        load=_load(host, shift),
        problems=list(status.problems),
    )


class PoolHealth(msgspec.Struct, frozen=True):
    """Whether a pool can serve."""

    status: str
    """Healthy: every host is ready. Degraded: some are. Unavailable: none is."""
    ready_hosts: int
    hosts: int
    problems: list[str]


def pool_health(table: PoolTable) -> PoolHealth:
    """The pool's health by its hosts' reports."""
    hosts = list(table.hosts.values())
    ready = len(table.ready_hosts())
    problems = []
    for host in hosts:
        if not host.connected:
            problems.append(f"{host.member.pod}: not connected")
        problems.extend(f"{host.member.pod}: {one}" for one in host.status.problems)
    if not ready:
        status = "Unavailable"
    else:
        status = "Healthy" if ready == len(hosts) and not problems else "Degraded"
    return PoolHealth(status=status, ready_hosts=ready, hosts=len(hosts), problems=problems)
