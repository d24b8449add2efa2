# SPDX-License-Identifier: Apache-2.0
"""How the host shows instances and itself: protocol messages from the table and the store's records."""

from __future__ import annotations

import platform
from dataclasses import asdict

from agentpool_agent.host.load import Load
from agentpool_agent.host.policy import policy_of
from agentpool_agent.host.state import Host
from agentpool_agent.host.table import RESIDENT, Entry
from agentpool_agent.store import Record
from agentpool_agent.wire.nursery import PROTOCOL
from agentpool_core.lifecycle import PauseReason, State, Tier
from agentpool_core.recovery import History, judge
from agentpool_core.resilience import BreakerState, CircuitBreaker
from agentpool_proto.v1 import host_pb2, types_pb2


def entry_view(host: Host, entry: Entry) -> types_pb2.Instance:
    """An instance that this host knows."""
    shift = host.wall() - host.clock()
    held = entry.state in RESIDENT
    resident = host.residents.get(entry.instance_id)
    return types_pb2.Instance(
        id=entry.instance_id,
        tenant_id=entry.key.tenant_id,
        project_id=entry.key.project_id,
        tier=entry.tier,
        state=entry.state,
        reason=entry.reason,
        pod=host.settings.pod if held or entry.state is State.ERROR else "",
        epoch=entry.epoch,
        origin=entry.origin,
        isolation=entry.isolation,
        active_requests=entry.active,
        total_requests=entry.total,
        created_at=entry.created_at + shift,
        last_used_at=entry.last_used + shift,
        memory_bytes=entry.memory_bytes,
        cpu_seconds=entry.cpu_seconds,
        wish=entry.wish or ("Move" if entry.move_to is not None else ""),
        quota=quota_view(host, entry.tier),
        pinned=entry.pinned,
        load=load_view(host, entry),
        declared_uid=resident.ownership.declared_uid if resident is not None else "",
        recovery=recovery_view(host, entry.history),
        breaker=breaker_view(host, entry.breaker),
    )


def breaker_view(host: Host, breaker: CircuitBreaker) -> types_pb2.Breaker | None:
    """The breaker at this moment; None while there is nothing to tell of it."""
    state = breaker.seen(host.wall()) if host.breakers.enabled else BreakerState.CLOSED
    if state is BreakerState.CLOSED and not breaker.failures:
        return None
    return types_pb2.Breaker(
        state=state,
        consecutive_failures=breaker.failures,
        reopenings=breaker.reopenings,
        open_until=breaker.open_until if state is BreakerState.OPEN else 0.0,
    )


def record_view(host: Host, record: Record) -> types_pb2.Instance:
    """An instance that the store knows and this host does not hold. Which state its owner has it in, only
    its owner knows: READY stands for being held."""
    held = record.owner is not None
    history = History.unpack(record.failures)
    if not held:
        # Work that nobody holds any more was cut off.
        history = history.taken(0, record.tier)
    failed = not held and history.failed and record.paused is not PauseReason.USER_REQUESTED
    reason = "" if held else (record.paused or PauseReason.EVICTED)
    return types_pb2.Instance(
        id=record.key.instance_id,
        tenant_id=record.key.tenant_id,
        project_id=record.key.project_id,
        tier=record.tier,
        state=State.READY if held else State.ERROR if failed else State.PAUSED,
        reason=history.failures[-1].cause if failed else reason,
        epoch=record.epoch if held else 0,
        origin=record.origin,
        last_used_at=record.updated_at,
        wish=record.wish or "",
        pinned=record.pinned,
        quota=quota_view(host, record.tier),
        declared_uid=record.declared_uid,
        recovery=recovery_view(host, history),
    )


def load_view(host: Host, entry: Entry) -> types_pb2.LoadMetrics:
    """How busy an instance is and how well it does."""
    load = entry.load
    return types_pb2.LoadMetrics(
        active_commands=load.active_commands,
        queue_length=host.waiting.get(entry.instance_id, 0),
        average_response_time_ms=load.average_response_time_ms,
        success_rate=load.success_rate,
        last_updated=load.last_updated + host.wall() - host.clock(),
    )


def recovery_view(host: Host, history: History) -> types_pb2.Recovery | None:
    """The last failure within the pattern window and what is done about it; None when there is none."""
    policy, now = policy_of(host), host.wall()
    decision, recent = judge(history, policy), history.within(now, policy.window_seconds)
    if decision is None or not recent:
        return None
    last, wait = history.failures[-1], decision.retry_after_seconds
    return types_pb2.Recovery(
        cause=last.cause,
        strategy=decision.strategy,
        failures=len(recent),
        failed_at=last.at,
        retry_at=last.at + wait if history.failed and wait is not None else 0.0,
        message=last.message,
    )


def quota_view(host: Host, tier: Tier) -> types_pb2.Quota | None:
    """The quota in force for a tier, or None when the pool has no such tier."""
    config = host.config
    if config is None or tier not in config.tiers:
        return None
    quota = config.tiers[tier].quota
    return types_pb2.Quota(
        memory_bytes=quota.memory_bytes,
        cpu_millis=quota.cpu_millis,
        concurrent_requests=quota.concurrent_requests,
        requests_per_minute=quota.requests_per_minute,
    )


def problems(host: Host) -> list[str]:
    """Why the host is not ready, and what else is wrong."""
    found = []
    if host.config is None:
        found.append("No configuration of the pool has arrived yet.")
    elif not host.store_reached:
        found.append("The store has not answered yet.")
    if host.nursery.problem:
        found.append(host.nursery.problem)
    if host.draining:
        found.append("The host is draining.")
    if host.retired:
        found.append("The host is retired.")
    if host.stale:
        found.append("The store is silent; changes are refused.")
    return [*found, *host.problems]


def host_view(host: Host) -> host_pb2.HostStatus:
    """The host as a whole."""
    hello = host.nursery.hello
    counters = host.counters
    return host_pb2.HostStatus(
        incarnation=str(host.incarnation),
        pod=host.settings.pod,
        role=host.settings.role,
        tiers=list(host.settings.tiers),
        ready=host.ready,
        draining=host.draining or host.retired,
        configured_generation=host.config.generation if host.config is not None else 0,
        capacity=host.capacity,
        resident=host.table.residents,
        spares=host.nursery.spares,
        active_requests=sum(entry.active for entry in host.table),
        problems=problems(host),
        reserved_for=host.settings.reserved_for,
        awaited=_awaited(host),
        isolation=hello.guards if hello is not None else (),
        isolation_missing=hello.missing if hello is not None else {},
        store_silent=host.store_silent,
        counters=host_pb2.HostCounters(
            created=counters.created,
            destroyed=counters.destroyed,
            operations=counters.operations,
            operation_seconds=counters.operation_seconds,
            hits=counters.hits,
            misses=counters.misses,
            evictions=counters.evictions,
            crashes=counters.crashes,
            succeeded=counters.succeeded,
            failed=counters.failed,
        ),
        capabilities=capabilities(host),
        protocol=PROTOCOL,
        load=host_load_view(host.meter.told),
        queued=sum(len(resident.line) for resident in host.residents.values()),
    )


def capabilities(host: Host) -> list[str]:
    """What gateways may choose this host for."""
    guards = host.nursery.hello.guards if host.nursery.hello is not None else ()
    return sorted({*guards, f"arch:{platform.machine()}", *host.settings.capabilities})


def host_load_view(load: Load | None) -> host_pb2.HostLoad | None:
    """What the host bears; None until it was measured."""
    return None if load is None else host_pb2.HostLoad(**asdict(load))


def _awaited(host: Host) -> list[host_pb2.Awaited]:
    return [
        host_pb2.Awaited(
            instance_id=key.instance_id,
            tenant_id=key.tenant_id,
            project_id=key.project_id,
            tier=Tier.HOT,
            asked_at=at,
        )
        for key, at in host.awaiting.lately(host.wall())
    ]
