# SPDX-License-Identifier: Apache-2.0
"""What goes over REST: bodies, answers and how they are read."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Literal, TypeVar

import msgspec

from agentpool_core.errors import InvalidRequest, MalformedRequest, PayloadTooLarge
from agentpool_core.lifecycle import State, Tier
from agentpool_core.names import MAX_NAME_CHARS
from agentpool_gateway.dispatch.call import Ended, Started
from agentpool_gateway.dispatch.listing import MAX_LIMIT, ListQuery
from agentpool_gateway.dispatch.stats import HostStats, PoolHealth, PoolStats
from agentpool_gateway.rest.problems import Problem
from agentpool_proto.v1.gateway_pb2 import GatewayTiming
from agentpool_proto.v1.types_pb2 import Instance

ENVELOPE_BYTES = 16 * 1024
"""Room for the envelope around `input`: two ids at their longest, escaped, and spaces."""
MAX_KEY_CHARS = 255

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
    """The answer of an agent. `stale`: from state that could not be checked against the store. `replayed`:
    kept from an earlier request with the same Idempotency-Key."""

    instance_id: str
    tier: str
    pod: str
    output: msgspec.Raw
    timing: TimingView
    stale: bool = False
    replayed: bool = False


class AcceptedView(msgspec.Struct, frozen=True):
    """The request is at work. A second one means that it is done again: chunks so far are void."""

    instance_id: str
    tier: str
    pod: str
    activated: bool


class QuotaView(msgspec.Struct, frozen=True):
    """What the instance may use."""

    memory_bytes: int
    cpu_millis: int
    concurrent_requests: int
    requests_per_minute: int


class InstanceView(msgspec.Struct, frozen=True):
    """One agent instance. Times are RFC 3339, null when there is none yet."""

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


class InstancesView(msgspec.Struct, frozen=True):
    """A page of instances; `cursor` is empty at the end."""

    instances: list[InstanceView]
    cursor: str


class GatewayHealth(msgspec.Struct, frozen=True):
    """The gateway and the pools it serves."""

    status: Literal["Ready", "NotReady"]
    pools: dict[str, str]


SCHEMAS: tuple[type[msgspec.Struct], ...] = (
    InvokeBody,
    InvokeAnswer,
    CreateBody,
    AcceptedView,
    InstanceView,
    InstancesView,
    PoolStats,
    HostStats,
    PoolHealth,
    GatewayHealth,
    Problem,
)
_Body = TypeVar("_Body", InvokeBody, CreateBody)
_invoke = msgspec.json.Decoder(InvokeBody)
_create = msgspec.json.Decoder(CreateBody)


def parse_invoke(body: bytes, input_limit: int) -> InvokeBody:
    """The envelope of an invoke; MalformedRequest, InvalidRequest or PayloadTooLarge."""
    parsed = _parse(_invoke, body)
    if len(parsed.input) > input_limit:
        raise PayloadTooLarge(f"The input has {len(parsed.input)} bytes; the pool takes {input_limit}.")
    return parsed


def parse_create(body: bytes) -> CreateBody:
    """The body of a create; MalformedRequest or InvalidRequest."""
    return _parse(_create, body)


def _parse(decoder: msgspec.json.Decoder[_Body], body: bytes) -> _Body:
    try:
        # The raw input is passed on unread, so its encoding is checked here or nowhere.
        if not body.isascii():
            body.decode()
        return decoder.decode(body)
    except msgspec.ValidationError as exc:
        raise InvalidRequest(str(exc)) from exc
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise MalformedRequest("The body is not valid JSON.") from exc


def parse_timeout(value: str | None) -> float | None:
    """Seconds of an X-Request-Timeout header; None without one."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds > 0):
        raise InvalidRequest(
            "X-Request-Timeout is not a number of seconds.", remedy="Give seconds above 0, such as 2.5."
        )
    return seconds


def parse_idempotency_key(value: str | None) -> str:
    """The Idempotency-Key, empty without one."""
    if value is None:
        return ""
    if not 0 < len(value) <= MAX_KEY_CHARS or not (value.isascii() and value.isprintable()):
        raise InvalidRequest(
            "Idempotency-Key is not usable.", remedy=f"Give 1 to {MAX_KEY_CHARS} printable ASCII characters."
        )
    return value


LIST_PARAMETERS = ("tenant_id", "project_id", "tier", "state", "cursor", "limit")


def parse_list_query(query: dict[str, str], visible: Callable[[str], bool] | None) -> ListQuery:
    """Filters and paging of a list of instances, for a caller who may see these tenants."""
    return ListQuery(
        tenant_id=query.get("tenant_id", ""),
        project_id=query.get("project_id", ""),
        tier=parse_tier(query.get("tier", "")),
        state=parse_state(query.get("state", "")),
        cursor=query.get("cursor", ""),
        limit=parse_limit(query.get("limit", "100")),
        visible=visible,
    )


def parse_tier(value: str) -> Tier | None:
    """A tier by name; None for an empty text."""
    try:
        return Tier(value) if value else None
    except ValueError as exc:
        raise InvalidRequest("tier is not one of " + ", ".join(Tier) + ".") from exc


def parse_state(value: str) -> State | None:
    """A state by name; None for an empty text."""
    try:
        return State(value) if value else None
    except ValueError as exc:
        raise InvalidRequest("state is not one of " + ", ".join(State) + ".") from exc


def parse_strong(value: str) -> bool:
    """Whether a consistency is `strong`; InvalidRequest when it is neither of the two."""
    if value not in ("strong", "available", ""):
        raise InvalidRequest("consistency is not one of available, strong.")
    return value == "strong"


def parse_limit(value: str) -> int:
    """How many items a page has."""
    if not (value.isascii() and value.isdecimal() and 1 <= int(value[:9]) <= MAX_LIMIT and len(value) <= 9):
        raise InvalidRequest(f"limit is not a number from 1 to {MAX_LIMIT}.")
    return int(value)


def invoke_answer(ended: Ended) -> InvokeAnswer:
    """The answer as REST shows it."""
    return InvokeAnswer(
        instance_id=ended.accepted.instance_id,
        tier=ended.accepted.tier,
        pod=ended.accepted.pod,
        output=msgspec.Raw(ended.done.output or b"null"),
        timing=_timing(ended.timing),
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
    return AcceptedView(one.instance_id, one.tier, one.pod, one.activated)


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
    )


def _moment(seconds: float) -> str | None:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds") if seconds else None
