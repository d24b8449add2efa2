# SPDX-License-Identifier: Apache-2.0
"""One request from admission to its one end.

    admit -> resident (activate if absent) -> permit, breaker, rate -> accepted -> worker -> events -> done
Nothing of a request takes effect before `accepted` has left.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterable
from dataclasses import dataclass
from typing import TypeVar

import structlog

from agentpool_agent.host.activation import Activations, Wanted
from agentpool_agent.host.breaking import enter
from agentpool_agent.host.counts import CANCELLED, SUCCESS
from agentpool_agent.host.exchange import Exchange
from agentpool_agent.host.instance import Resident
from agentpool_agent.host.one_shot import OneShots
from agentpool_agent.host.state import Host
from agentpool_agent.host.tracing import INVOKE, SPANS, tell
from agentpool_core.config import EffectivePool
from agentpool_core.errors import (
    AgentPoolError,
    ConsistencyUnavailable,
    DeadlineExceeded,
    IdempotencyUnsupported,
    InstancePaused,
    InvalidRequest,
    PayloadTooLarge,
    StoreUnavailable,
    Unavailable,
)
from agentpool_core.lifecycle import Tier, Wish
from agentpool_core.names import MAX_NAME_CHARS, Incarnation
from agentpool_proto.v1.host_pb2 import HostInvokeRequest
from agentpool_proto.v1.types_pb2 import Accepted, ChunkEvent, Done, InvokeEvent, Timing
from agentpool_rpc.tracing import Span, Tracing

T = TypeVar("T")

MAX_KEY_CHARS = 255
MIN_DEADLINE_SECONDS = 0.001


@dataclass(slots=True)
class Call:
    """A request as it arrived; times of the host's monotonic clock."""

    request: HostInvokeRequest
    ended: frozenset[Incarnation]
    arrived: float
    deadline: float
    activated_at: float = 0.0
    admitted_at: float = 0.0
    resident: Resident | None = None
    exchange: Exchange | None = None
    trace: Span | None = None
    """Its span, when its trace is kept."""
    trace_id: str = ""
    """Of its trace, kept or not; empty: traces are off."""

    def abandon(self, _context: object = None) -> None:
        """The call is over, however it ended: give its permit back."""
        if self.resident is not None and self.exchange is not None:
            self.resident.leave(self.exchange)


class Requests:
    """Serves requests.

    Args:
        tracing: makes spans; None: traces are off.
    """

    def __init__(
        self,
        host: Host,
        activations: Activations,
        one_shots: OneShots,
        tracing: Tracing | None = None,
    ) -> None:
        self._host = host
        self._activations = activations
        self._one_shots = one_shots
        self.tracing = tracing

    def call(
        self, request: HostInvokeRequest, ended: frozenset[Incarnation], remaining_seconds: float | None
    ) -> Call:
        """Check a request that has arrived; raises what is wrong with it."""
        config, _ = self._host.admit()
        check_identity(request.tenant_id, request.project_id)
        tier_of(request.tier)
        if len(request.input) > config.limits.input_bytes:
            raise PayloadTooLarge(
                f"The input has {len(request.input)} bytes; {config.limits.input_bytes} are allowed."
            )
        if request.idempotency_key and not self._host.keeps_keys:
            raise IdempotencyUnsupported("This pool cannot keep an Idempotency-Key.")
        if len(request.idempotency_key) > MAX_KEY_CHARS:
            raise InvalidRequest(f"idempotency_key is over {MAX_KEY_CHARS} characters.")
        if self._host.crowding.crowded:
            self._host.crowding.check(request.tenant_id, self._active(request))
        now = self._host.clock()
        return Call(request, ended, now, now + _seconds(config, remaining_seconds))

    def _active(self, request: HostInvokeRequest) -> int:
        """How many requests its instance has under way."""
        entry = self._host.table.get(self._host.key(request.tenant_id, request.project_id).instance_id)
        return entry.active if entry is not None else 0

    def trace(self, tracing: Tracing, call: Call, metadata: Iterable[tuple[str, str | bytes]]) -> None:
        """Make the call part of its caller's trace; lines of the log name it from here on."""
        headers = {key: value for key, value in metadata if isinstance(value, str)}
        span = tracing.request(INVOKE, headers.get, call.arrived)
        call.trace_id = span.trace_id
        structlog.contextvars.bind_contextvars(trace_id=span.trace_id)
        if span.recording:
            call.trace = span
            tracing.whose(span, call.request.tenant_id, call.request.project_id)

    async def serve(self, call: Call) -> AsyncIterator[InvokeEvent]:
        """The events of a request; raises what it failed with."""
        status = CANCELLED
        self._host.meter.arrived(call.arrived)
        try:
            async for event in self._serve(call):
                yield event
            status = SUCCESS
        except AgentPoolError as exc:
            status = exc.code
            raise
        finally:
            now = self._host.clock()
            self._host.counts.request_ended(status, now - call.arrived)
            self._host.meter.ended(status, now - call.arrived, now)
            if call.trace is not None:
                tell(call.trace, call, status, now)

    async def _serve(self, call: Call) -> AsyncIterator[InvokeEvent]:
        host = self._host
        resident, fresh = await self._permitted(call)
        key = call.request.idempotency_key
        exchange = resident.begin(key, call.deadline, host.configured()[0].limits.answer_bytes)
        call.resident, call.exchange = resident, exchange
        try:
            kept = await self._recall(call, resident) if key else None
            if kept is None:
                # A repetition costs nothing of the rate, and tells nothing of the agent.
                exchange.given = enter(host, resident.entry)
                resident.bucket.take(host.wall())
                call.admitted_at = host.clock()
            exchange.trace_id = call.trace_id
            if call.trace is not None:
                exchange.spans_wanted = SPANS
            yield self._accepted(resident, fresh)
            if kept is not None:
                exchange.finish(b"", host.clock())
                yield InvokeEvent(done=Done(output=Done.FromString(kept).output, replayed=True))
                return
            resident.handle(exchange, call.request.input)
            while (part := await exchange.next()) is not None:
                yield InvokeEvent(chunk=ChunkEvent(data=part))
            yield self._done(call, resident, exchange)
        except AgentPoolError as exc:
            # Refused before it was accepted, or failed: either way it has its one end.
            exchange.fail(exc)
            raise
        finally:
            call.abandon()

    async def _permitted(self, call: Call) -> tuple[Resident, bool]:
        """The instance with one of its permits, and whether this request activated it; no await between the
        permit and its exchange."""
        host, key, fresh = self._host, call.request.idempotency_key, False
        config, _ = host.configured()
        while True:
            resident, activated = await self._resident(call)
            fresh |= activated
            if call.request.strong and host.stale:
                raise ConsistencyUnavailable(
                    "The store is silent; state cannot be checked.", retry_after_seconds=1.0
                )
            if key and key in resident.keyed:
                with host.queued(resident.entry.instance_id):
                    await _before(call.deadline - host.clock(), asyncio.shield(resident.keyed[key]))
                continue
            self._check_open(resident)
            entry, limit = resident.entry, config.tiers[resident.entry.tier].quota.concurrent_requests
            if not resident.line.must_wait(entry.active, limit) or await self._waited(call, resident, limit):
                break
        if not call.request.one_shot:
            host.counters.misses += fresh
            host.counters.hits += not fresh
        # The last one that came decides whether it stays.
        resident.one_shot = call.request.one_shot
        host.table.acquire(entry, host.clock())
        host.crowding.take(entry.key.tenant_id, entry.active)
        return resident, fresh

    async def _waited(self, call: Call, resident: Resident, limit: int) -> bool:
        """Wait for a permit; False: look at the instance again. Raises what the request would be refused with
        when it had one: nobody waits for that."""
        host, entry, line = self._host, resident.entry, resident.line
        now, limits = host.wall(), host.configured()[0].limits
        if not call.request.idempotency_key:
            entry.breaker.check(host.breakers, now)
            resident.bucket.check(now)
        seconds = min(limits.queue_seconds, call.deadline - host.clock())
        with host.queued(entry.instance_id):
            if not await line.wait(limit, limits.queue_length, seconds):
                return False
        line.taken()
        if _open(host, resident) and call.request.idempotency_key not in resident.keyed:
            return True
        line.give(entry.active, limit)
        return False

    async def _resident(self, call: Call) -> tuple[Resident, bool]:
        """The instance, ready and not on its way out: no await between this and the permit."""
        host, request = self._host, call.request
        key = host.key(request.tenant_id, request.project_id)
        instance_id, activated, stays = key.instance_id, False, not request.one_shot
        while True:
            host.admit()
            resident = host.residents.get(instance_id)
            if resident is None:
                wanted = Wanted(key, tier_of(request.tier), call.ended, one_shot=request.one_shot)
                left = call.deadline - host.clock()
                with host.queued(instance_id):
                    await _before(left, self._activations.activate(wanted))
                activated = True
                call.activated_at = host.clock()
            elif resident.entry.leaving or resident.entry.gated:
                with host.queued(instance_id):
                    await _before(call.deadline - host.clock(), resident.settled.wait())
            elif _renewable(host, resident):
                host.renew(resident)
            elif not stays and self._one_shots.used(resident):
                stays = not await _before(call.deadline - host.clock(), self._one_shots.let_go(resident))
            else:
                return resident, activated

    def _check_open(self, resident: Resident) -> None:
        if resident.entry.wish is Wish.PAUSE:
            raise InstancePaused("A user paused the instance; it ends its requests.")
        if resident.entry.wish is Wish.TERMINATE:
            raise Unavailable("The instance is being terminated.", retry_after_seconds=1.0)
        if not _open(self._host, resident):
            raise Unavailable("The instance is on its way out.", retry_after_seconds=0.1)

    async def _recall(self, call: Call, resident: Resident) -> bytes | None:
        _, store = self._host.configured()
        left = call.deadline - self._host.clock()
        instance_id = resident.entry.instance_id
        kept = await _before(left, store.recall(instance_id, call.request.idempotency_key))
        if kept is not None:
            # The state that belongs to this answer may be newer than what the instance holds.
            self._host.store_answered()
        return kept

    def _accepted(self, resident: Resident, activated: bool) -> InvokeEvent:
        entry = resident.entry
        accepted = Accepted(
            instance_id=entry.instance_id,
            pod=self._host.settings.pod,
            incarnation=str(self._host.incarnation),
            epoch=entry.epoch,
            tier=entry.tier,
            activated=activated,
            restored=activated and not resident.ownership.fresh,
            one_shot=resident.one_shot,
        )
        return InvokeEvent(accepted=accepted)

    def _done(self, call: Call, resident: Resident, exchange: Exchange) -> InvokeEvent:
        host = self._host
        stale = host.stale or (
            resident.uncertain_since is not None and host.store is not None and host.store.shared
        )
        if stale and call.request.strong:
            raise ConsistencyUnavailable("The store fell silent.", retry_after_seconds=1.0)

        def milliseconds(moment: float) -> float:
            return max(0.0, moment - call.arrived) * 1000.0

        timing = Timing(
            activated_ms=milliseconds(call.activated_at),
            admitted_ms=milliseconds(call.admitted_at),
            first_event_ms=milliseconds(exchange.first_event_at),
            done_ms=milliseconds(host.clock()),
        )
        return InvokeEvent(done=Done(output=exchange.output or b"", timing=timing, stale=stale))


async def _before(seconds: float, awaited: Awaitable[T]) -> T:
    """The result, unless the request's deadline passes first."""
    try:
        async with asyncio.timeout(max(0.0, seconds)) as limit:
            return await awaited
    except TimeoutError:
        if not limit.expired():
            raise StoreUnavailable("The store does not answer.", retry_after_seconds=1.0) from None
        raise DeadlineExceeded("The request's deadline passed before it was accepted.") from None


def _seconds(config: EffectivePool, remaining: float | None) -> float:
    limit = config.limits.request_timeout_seconds
    return limit if remaining is None else max(MIN_DEADLINE_SECONDS, min(remaining, limit))


def _open(host: Host, resident: Resident) -> bool:
    """Whether the instance takes a request now."""
    entry = resident.entry
    shut = resident.dead or entry.leaving or entry.gated or entry.wish is not None or host.draining
    return not shut and host.residents.get(entry.instance_id) is resident


def _renewable(host: Host, resident: Resident) -> bool:
    """Whether the store has answered again since a write of the instance went unanswered."""
    since = resident.uncertain_since
    return since is not None and host.store_answered_at > since and resident.entry.active == 0


def check_identity(tenant_id: str, project_id: str) -> None:
    """Raise InvalidRequest unless both are there and of a sane length."""
    for name, value in (("tenant_id", tenant_id), ("project_id", project_id)):
        if not value:
            raise InvalidRequest(f"{name} is missing.")
        if len(value) > MAX_NAME_CHARS:
            raise InvalidRequest(f"{name} is over {MAX_NAME_CHARS} characters.")


def tier_of(text: str) -> Tier | None:
    """The tier that a caller named, None for none; raises InvalidRequest."""
    if not text:
        return None
    try:
        return Tier(text)
    except ValueError:
        raise InvalidRequest(f"tier must be one of {', '.join(Tier)}, not {text[:32]!r}.") from None
