# SPDX-License-Identifier: Apache-2.0
"""What goes over REST: bodies and answers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal

import msgspec

from agentpool_core.lifecycle import Tier
from agentpool_core.names import MAX_NAME_CHARS
from agentpool_core.resilience import BreakerState
from agentpool_gateway.dispatch.call import Ended, ServedBy, Started
from agentpool_gateway.dispatch.forgetting import Forgotten
from agentpool_gateway.dispatch.stats import HostStats, PoolHealth, PoolStats
from agentpool_gateway.rest.flag_schemas import FLAG_SCHEMAS
from agentpool_gateway.rest.problems import Problem
from agentpool_proto.v1.gateway_pb2 import GatewayTiming, Lease
from agentpool_proto.v1.types_pb2 import Breaker, Instance, LoadMetrics, Recovery

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_NAME_CHARS, pattern=r"^[^\x00-\x1f\x7f]+$")]
Consistency = Literal["available", "strong"]


class InvokeBody(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A request to one instance; it is made if it does not exist."""

    tenant_id: Name
    project_id: Name
    input: msgspec.Raw
    tier: Tier | None = None
    consistency: Consistency = "available"


class CreateBody(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """An instance to make resident."""

    tenant_id: Name
    project_id: Name
    tier: Tier | None = None


class MoveBody(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The tier that an instance is to have and to keep; AUTO: its present one, which the pool may change."""

    tier: Literal["HOT", "WARM", "COLD", "AUTO"]


class AcquireBody(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """An instance to lease. `confirm`: ask its host, do not go by its last report; for after a host that an
    earlier lease named has refused."""

    tenant_id: Name
    project_id: Name
    tier: Tier | None = None
    confirm: bool = False


class ReleaseBody(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What was done with a lease: requests that were sent, those of them that failed, and how long it was
    held."""

    lease_id: Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]
    requests: Annotated[int, msgspec.Meta(ge=0)]
    failures: Annotated[int, msgspec.Meta(ge=0)]
    held_seconds: Annotated[float, msgspec.Meta(ge=0)]


class LeaseView(msgspec.Struct, frozen=True):
    """Where an instance is, and the right to send it requests there: `token` goes into `authorization`
    metadata of `agentpool.v1.AgentHost/Invoke` at `address`, until `expires_at`."""

    id: str
    instance_id: str
    tier: str
    pod: str
    address: str
    incarnation: str
    token: str
    expires_at: str
    seconds_left: float


class ReleaseView(msgspec.Struct, frozen=True):
    """`counted` is false for a lease that ended too long ago."""

    counted: bool


class HostTiming(msgspec.Struct, frozen=True):
    """Milliseconds since the request arrived at the host."""

    activated_ms: float
    admitted_ms: float
    first_event_ms: float
    done_ms: float


class TimingView(msgspec.Struct, frozen=True):
    """Milliseconds since the request arrived at the gateway."""

    placed_ms: float
    accepted_ms: float
    first_event_ms: float
    done_ms: float
    host: HostTiming


class InvokeAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer of an agent. `served_by`: pool, an instance that stays; or one-shot, a process for this
    request alone. `stale`: from state that could not be checked against the store. `replayed`: kept from an
    earlier request with the same Idempotency-Key."""

    instance_id: str
    tier: str
    pod: str
    output: msgspec.Raw
    timing: TimingView
    served_by: str
    stale: bool = False
    replayed: bool = False


class AcceptedView(msgspec.Struct, frozen=True):
    """The request is at work. A second one means that it is done again: chunks so far are void."""

    instance_id: str
    tier: str
    pod: str
    activated: bool
    served_by: str


class QuotaView(msgspec.Struct, frozen=True):
    """What the instance may use."""

    memory_bytes: int
    cpu_millis: int
    concurrent_requests: int
    requests_per_minute: int


class RecoveryView(msgspec.Struct, frozen=True):
    """The last failure of an instance, and what is done about it. `failures` counts those in the pattern
    window; `retry_at` is null when a user has to resume the instance."""

    cause: str
    strategy: str
    failures: int
    failed_at: str | None
    retry_at: str | None
    message: str


class LoadView(msgspec.Struct, frozen=True):
    """How busy an instance is and how well it does, since it was activated. `queue_length`: requests that
    wait at its host until it can take them. `average_response_time_ms` is a moving average (a tenth of each
    new time), 0 before the first. `success_rate`: answered as a share of answered and failed."""

    active_commands: int
    queue_length: int
    average_response_time_ms: float
    success_rate: float
    last_updated: str | None


class BreakerView(msgspec.Struct, frozen=True):
    """The circuit breaker of an instance: CLOSED, OPEN (requests get 503 until `open_until`) or HALF_OPEN
    (a few are tried). `reopenings`: trials in a row that failed."""

    state: str
    consecutive_failures: int
    reopenings: int
    open_until: str | None


class InstanceView(msgspec.Struct, frozen=True):
    """One agent instance. Times are RFC 3339, null when there is none yet. `pinned`: its tier was chosen by
    hand. `load` is null where no host holds it, `recovery` unless it failed lately."""

    id: str
    tenant_id: str
    project_id: str
    tier: str
    state: str
    reason: str
    pod: str
    epoch: int
    origin: str
    wish: str
    isolation: list[str]
    active_requests: int
    total_requests: int
    created_at: str | None
    last_used_at: str | None
    memory_bytes: int
    cpu_seconds: float
    quota: QuotaView
    pinned: bool
    load: LoadView | None
    recovery: RecoveryView | None
    breaker: BreakerView


class InstancesView(msgspec.Struct, frozen=True):
    """A page of instances; `cursor` is empty at the end."""

    instances: list[InstanceView]
    cursor: str


class DeclaredView(msgspec.Struct, frozen=True):
    """An instance that stays until the AgentInstance with this UID is deleted."""

    id: str
    project_id: str
    declared_uid: str


class FailureView(msgspec.Struct, frozen=True):
    """An instance that could not be erased, and the error's code and text."""

    id: str
    project_id: str
    code: str
    detail: str


class ForgottenView(msgspec.Struct, frozen=True):
    """What became of a tenant. `complete`: nothing of it is left. `remaining`: instances that another call
    can erase, `busy` ones among them. Of `declared` and `failed` the first 100 are listed."""

    tenant_id: str
    complete: bool
    erased: int
    remaining: int
    busy: int
    declared_count: int
    declared: list[DeclaredView]
    failed: list[FailureView]


class GatewayHealth(msgspec.Struct, frozen=True):
    """The gateway and the pools it serves."""

    status: Literal["Ready", "NotReady"]
    pools: dict[str, str]


SCHEMAS: tuple[type[msgspec.Struct], ...] = (
    InvokeBody,
    InvokeAnswer,
    CreateBody,
    MoveBody,
    AcquireBody,
    ReleaseBody,
    LeaseView,
    ReleaseView,
    ForgottenView,
    AcceptedView,
    InstanceView,
    InstancesView,
    PoolStats,
    HostStats,
    PoolHealth,
    GatewayHealth,
    *FLAG_SCHEMAS,
    Problem,
)
LISTED = 100
"""Instances that a ForgottenView lists of a kind."""


def invoke_answer(ended: Ended) -> InvokeAnswer:
    """The answer as REST shows it."""
    return InvokeAnswer(
        instance_id=ended.accepted.instance_id,
        tier=ended.accepted.tier,
        pod=ended.accepted.pod,
        output=msgspec.Raw(ended.done.output or b"null"),
        timing=_timing(ended.timing),
        served_by=ServedBy.of(ended.accepted).value,
        stale=ended.done.stale,
        replayed=ended.done.replayed,
    )


def _timing(timing: GatewayTiming) -> TimingView:
    host = timing.host
    return TimingView(
        placed_ms=timing.placed_ms,
        accepted_ms=timing.accepted_ms,
        first_event_ms=timing.first_event_ms,
        done_ms=timing.done_ms,
        host=HostTiming(host.activated_ms, host.admitted_ms, host.first_event_ms, host.done_ms),
    )


def accepted_view(started: Started) -> AcceptedView:
    """The first event of a stream as REST shows it."""
    one = started.accepted
    return AcceptedView(one.instance_id, one.tier, one.pod, one.activated, ServedBy.of(one).value)


def instance_view(one: Instance) -> InstanceView:
    """An instance as REST shows it."""
    quota = one.quota
    return InstanceView(
        id=one.id,
        tenant_id=one.tenant_id,
        project_id=one.project_id,
        tier=one.tier,
        state=one.state,
        reason=one.reason,
        pod=one.pod,
        epoch=one.epoch,
        origin=one.origin,
        wish=one.wish,
        isolation=list(one.isolation),
        active_requests=one.active_requests,
        total_requests=one.total_requests,
        created_at=_moment(one.created_at),
        last_used_at=_moment(one.last_used_at),
        memory_bytes=one.memory_bytes,
        cpu_seconds=one.cpu_seconds,
        quota=QuotaView(
            quota.memory_bytes, quota.cpu_millis, quota.concurrent_requests, quota.requests_per_minute
        ),
        pinned=one.pinned,
        load=_load(one.load) if one.HasField("load") else None,
        recovery=_recovery(one.recovery) if one.HasField("recovery") else None,
        breaker=_breaker(one.breaker),
    )


def _load(one: LoadMetrics) -> LoadView:
    return LoadView(
        one.active_commands,
        one.queue_length,
        round(one.average_response_time_ms, 3),
        one.success_rate,
        _moment(one.last_updated),
    )


def lease_view(one: Lease) -> LeaseView:
    """A lease as REST shows it."""
    return LeaseView(
        id=one.id,
        instance_id=one.instance_id,
        tier=one.tier,
        pod=one.pod,
        address=one.address,
        incarnation=one.incarnation,
        token=one.token,
        expires_at=datetime.fromtimestamp(one.expires_at, UTC).isoformat(timespec="milliseconds"),
        seconds_left=one.seconds_left,
    )


def _breaker(one: Breaker) -> BreakerView:
    state = one.state or BreakerState.CLOSED.value
    return BreakerView(state, one.consecutive_failures, one.reopenings, _moment(one.open_until))


def _recovery(one: Recovery) -> RecoveryView:
    return RecoveryView(
        one.cause, one.strategy, one.failures, _moment(one.failed_at), _moment(one.retry_at), one.message
    )


def forgotten_view(tenant_id: str, one: Forgotten) -> ForgottenView:
    """What became of a tenant as REST shows it."""
    return ForgottenView(
        tenant_id=tenant_id,
        complete=not one.remaining and not one.declared,
        erased=one.erased,
        remaining=one.remaining,
        busy=one.busy,
        declared_count=len(one.declared),
        declared=[
            DeclaredView(each.id, each.project_id, each.declared_uid) for each in one.declared[:LISTED]
        ],
        failed=[
            FailureView(each.instance.id, each.instance.project_id, each.error.code, each.error.message)
            for each in one.failed[:LISTED]
        ],
    )


def _moment(seconds: float) -> str | None:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds") if seconds else None
