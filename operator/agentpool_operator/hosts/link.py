# SPDX-License-Identifier: Apache-2.0
"""The operator's connection to one host: its reports come in, configuration and calls go out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import grpc.aio
import structlog

from agentpool_core.errors import AgentPoolError
from agentpool_core.lifecycle import State, Tier
from agentpool_core.names import Incarnation
from agentpool_core.resilience import BreakerState
from agentpool_operator.plan.views import (
    AwaitedView,
    BreakerView,
    HeldView,
    HostView,
    LoadView,
    RecoveryView,
)
from agentpool_proto.v1 import host_pb2, host_pb2_grpc, types_pb2
from agentpool_rpc.cancellation import heed_cancellation
from agentpool_rpc.channels import open_channel
from agentpool_rpc.status import from_rpc_error
from agentpool_rpc.tokens import TokenSigner, Verb
from agentpool_rpc.watching import Backoff, follow_host

log = structlog.get_logger(__name__)

BACKOFF = Backoff(first_seconds=0.05, last_seconds=2.0)
CALL_SECONDS = 20.0
ACTIVATE_SECONDS = 45.0
_CALLS = frozenset(
    {
        *(Verb.ACTIVATE, Verb.PAUSE, Verb.RESUME, Verb.TERMINATE, Verb.MOVE),
        *(Verb.RETIRE, Verb.CONFIGURE, Verb.GET),
    }
)


class HostAway(Exception):
    """The host cannot be reached, or did not answer in time."""


@dataclass(frozen=True, slots=True)
class SentConfig:
    """A pool's configuration as it is sent."""

    generation: int
    body: bytes


Changed = Callable[["HostLink", frozenset[str], bool], None]
"""Told after each report: the link, ids of instances that look different, whether the host does."""


class HostLink:
    """See the module.

    Args:
        pool: namespace and name of the host's pool.
        address: `host:port`.
        shared: the host takes many instances.
        config: the configuration that the host is to have; None: not known yet.
        clock: monotonic seconds.
        flags_told: told of the feature flags that the host has, with their version.
    """

    def __init__(
        self,
        pool: tuple[str, str],
        pod_uid: str,
        address: str,
        shared: bool,
        signer: TokenSigner,
        config: Callable[[], SentConfig | None],
        changed: Changed,
        clock: Callable[[], float],
        random: Random,
        flags_told: Callable[[int, bytes], None] = lambda _version, _document: None,
    ) -> None:
        self.pool = pool
        self.pod_uid = pod_uid
        self.address = address
        self.shared = shared
        self._signer = signer
        self._config = config
        self._changed = changed
        self._clock = clock
        self._random = random
        self._flags_told = flags_told
        self._channel = open_channel(address)
        self._stub = host_pb2_grpc.AgentHostStub(self._channel)
        self._status: host_pb2.HostStatus | None = None
        self._held: dict[str, HeldView] = {}
        self._sent: bytes | None = None
        self._news = asyncio.Event()
        self.refusal = ""
        """Why the host did not take its configuration; empty: it did, or was not asked."""

    @property
    def view(self) -> HostView | None:
        """The host as it last reported itself; None while it is not connected."""
        status = self._status
        if status is None:
            return None
        return HostView(
            pod_uid=self.pod_uid,
            incarnation=status.incarnation,
            ready=status.ready,
            draining=status.draining,
            generation=status.configured_generation,
            created=status.counters.created,
            spares=status.spares,
            problems=tuple(status.problems),
            isolation_missing=dict(status.isolation_missing),
            instances=dict(self._held),
            active=status.active_requests,
            # Not every host tells.
            queued=int(getattr(status, "queued", 0)),
            load=load_view(status),
            awaited=tuple(
                AwaitedView(one.instance_id, one.tenant_id, one.project_id, one.asked_at)
                for one in status.awaited
            ),
        )

    @property
    def tiers(self) -> frozenset[Tier]:
        """The tiers that the host takes; none while it is not connected."""
        return frozenset(Tier(one) for one in self._status.tiers) if self._status is not None else frozenset()

    def config_changed(self) -> None:
        """Look whether the host has to be sent its configuration."""
        self._news.set()

    async def run(self) -> None:
        """Watch and configure the host until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(
                    follow_host(self._stub, self.pod_uid, self._signer, self, BACKOFF, self._random)
                )
                tasks.create_task(self._configure_for_ever())
        finally:
            await self._channel.close(None)

    # Reports

    def told(self, event: host_pb2.WatchEvent) -> None:
        """See Follower."""
        before = self.view
        if event.WhichOneof("event") == "snapshot":
            status = event.snapshot.host
            self._status, self._held = status, {}
            changed = self._take(event.snapshot.instances)
            log.info("host_watched", pod_uid=self.pod_uid, incarnation=status.incarnation)
        else:
            delta = event.delta
            if delta.HasField("host"):
                self._status = delta.host
            changed = self._take(delta.changed)
            changed |= {one for one in delta.gone if self._held.pop(one, None) is not None}
        if self._status is not None and self._status.HasField("flags"):
            self._flags_told(self._status.flags.version, self._status.flags.document)
            # They are the pool's, and kept once.
            self._status.ClearField("flags")
        self._news.set()
        host_changed = before is None or _notable(before) != _notable(self.view)
        if changed or host_changed:
            self._changed(self, frozenset(changed), host_changed)

    async def lost(self, reason: str, told: bool) -> None:
        """See Follower."""
        self.forget(reason)

    def forget(self, reason: str) -> None:
        """Know nothing of the host any more, and have what it held looked at."""
        if self._status is not None:
            log.info("host_lost", pod_uid=self.pod_uid, reason=reason)
            lost, self._status, self._held, self._sent = frozenset(self._held), None, {}, None
            self._changed(self, lost, True)

    def _take(self, instances: Any) -> set[str]:
        changed = set()
        for one in instances:
            before = self._held.get(one.id)
            after = self._held_view(one, before)
            self._held[one.id] = after
            if before != after:
                changed.add(one.id)
        return changed

    def _held_view(self, one: types_pb2.Instance, before: HeldView | None) -> HeldView:
        state = State(one.state)
        since = 0.0
        if state is State.BUSY:
            since = before.busy_since if before is not None and before.busy_since else self._clock()
        return HeldView(
            id=one.id,
            tenant=one.tenant_id,
            project=one.project_id,
            tier=Tier(one.tier),
            state=state,
            reason=one.reason,
            epoch=one.epoch,
            isolation=tuple(one.isolation),
            busy_since=since,
            declared_uid=one.declared_uid,
            pinned=one.pinned,
            recovery=recovery_view(one),
            breaker=breaker_view(one),
            total_requests=one.total_requests,
            last_used_at=one.last_used_at,
        )

    # Configuration and calls

    async def _configure_for_ever(self) -> None:
        failures = 0
        while True:
            # Woken by each report and each change of the configuration.
            await self._news.wait()
            self._news.clear()
            config, status = self._config(), self._status
            if config is None or status is None:
                continue
            if self._sent == config.body and status.configured_generation >= config.generation:
                continue
            request = host_pb2.ConfigureRequest(generation=config.generation, config=config.body)
            try:
                await self._call(self._stub.Configure, request, CALL_SECONDS)
            except (AgentPoolError, HostAway) as exc:
                heed_cancellation()
                failures += 1
                self.refusal = str(exc)
                log.warning("configure_failed", pod_uid=self.pod_uid, reason=str(exc))
                self._changed(self, frozenset(), True)
                await asyncio.sleep(min(30.0, 2.0**failures * 0.1))
                self._news.set()
            else:
                mended, failures, self.refusal, self._sent = bool(self.refusal), 0, "", config.body
                if mended:
                    # The host's own report may have come before this answer.
                    self._changed(self, frozenset(), True)

    async def activate(
        self, held: types_pb2.Instance, declared_uid: str, ended: frozenset[Incarnation]
    ) -> types_pb2.Instance:
        """Make an instance resident there; see host.proto. Raises AgentPoolError, HostAway."""
        request = host_pb2.ActivateRequest(
            tenant_id=held.tenant_id,
            project_id=held.project_id,
            tier=held.tier,
            declared_uid=declared_uid,
        )
        return await self._instance(self._stub.Activate, request, ended, ACTIVATE_SECONDS)

    async def pause(self, instance_id: str, ended: frozenset[Incarnation]) -> types_pb2.Instance:
        """Pause an instance. Raises AgentPoolError, HostAway."""
        return await self._instance(self._stub.Pause, _one(instance_id), ended)

    async def resume(self, instance_id: str, ended: frozenset[Incarnation]) -> types_pb2.Instance:
        """Resume a paused instance there. Raises AgentPoolError, HostAway."""
        return await self._instance(self._stub.Resume, _one(instance_id), ended, ACTIVATE_SECONDS)

    async def terminate(self, instance_id: str, ended: frozenset[Incarnation]) -> types_pb2.Instance:
        """End an instance and erase its state. Raises AgentPoolError, HostAway."""
        return await self._instance(self._stub.Terminate, _one(instance_id), ended)

    async def move(
        self, instance_id: str, tier: str, declared_uid: str = "", ended: frozenset[Incarnation] = frozenset()
    ) -> types_pb2.Instance:
        """Give an instance another tier (empty: as it is), or write down who declares it; see host.proto.
        Raises AgentPoolError, HostAway."""
        request = host_pb2.MoveRequest(instance_id=instance_id, tier=tier, declared_uid=declared_uid)
        return await self._instance(self._stub.Move, request, ended, ACTIVATE_SECONDS)

    async def send_away(self, instance_id: str) -> types_pb2.Instance:
        """Have an instance go on elsewhere, once it is idle. Raises AgentPoolError, HostAway."""
        request = host_pb2.MoveRequest(instance_id=instance_id, elsewhere=True)
        return await self._instance(self._stub.Move, request, frozenset())

    async def get(self, instance_id: str) -> types_pb2.Instance:
        """What the store knows of an instance. Raises AgentPoolError, HostAway."""
        return await self._instance(self._stub.Get, _one(instance_id), frozenset())

    async def retire(self) -> None:
        """Have the host take no instance any more. Raises Conflict while it holds one, HostAway."""
        await self._call(self._stub.Retire, host_pb2.RetireRequest(), CALL_SECONDS)

    async def page(self, cursor: str) -> host_pb2.ListResponse:
        """A page of what the store knows. Raises AgentPoolError, HostAway."""
        request = host_pb2.ListRequest(cursor=cursor, limit=1000)
        answer = await self._call(self._stub.List, request, CALL_SECONDS)
        assert isinstance(answer, host_pb2.ListResponse)  # noqa: S101  # the stub's type
        return answer

    async def _instance(
        self, method: Any, request: Any, ended: frozenset[Incarnation], seconds: float = CALL_SECONDS
    ) -> types_pb2.Instance:
        answer = await self._call(method, request, seconds, ended)
        assert isinstance(answer, types_pb2.Instance)  # noqa: S101  # the stub's type
        return answer

    async def _call(
        self, method: Any, request: Any, seconds: float, ended: frozenset[Incarnation] = frozenset()
    ) -> Any:
        if self._status is None:
            raise HostAway("the host is not connected")
        token = self._signer.authorization(self._status.incarnation, _CALLS, ended)
        try:
            return await method(request, metadata=(("authorization", token),), timeout=seconds)
        except grpc.aio.AioRpcError as exc:
            heed_cancellation()
            error = from_rpc_error(exc)
            if error is not None:
                raise error from exc
            raise HostAway(f"{exc.code().name}: {exc.details()}") from exc


def _one(instance_id: str) -> host_pb2.InstanceRequest:
    return host_pb2.InstanceRequest(instance_id=instance_id)


def recovery_view(one: types_pb2.Instance) -> RecoveryView | None:
    """What a host says of an instance's last failure; None: nothing."""
    if not one.HasField("recovery"):
        return None
    seen = one.recovery
    return RecoveryView(seen.cause, seen.strategy, seen.failures, seen.failed_at, seen.message)


def load_view(status: host_pb2.HostStatus) -> LoadView | None:
    """What a host says that it bears; None: nothing."""
    if not status.HasField("load"):
        return None
    load = status.load
    return LoadView(
        load.workers_cpu_millis,
        load.host_cpu_millis,
        load.workers_memory_bytes,
        load.arrivals_per_second,
        load.completions_per_second,
        load.latency_p99_ms if load.HasField("latency_p99_ms") else None,
    )


def breaker_view(one: types_pb2.Instance) -> BreakerView | None:
    """What a host says of an instance's circuit breaker; None: it is closed."""
    if not one.HasField("breaker") or one.breaker.state in ("", BreakerState.CLOSED):
        return None
    return BreakerView(one.breaker.consecutive_failures)


def _notable(view: HostView | None) -> tuple[Any, ...]:
    """What the operator acts on; load alone is no news."""
    if view is None:
        return ()
    awaited = tuple(one.id for one in view.awaited)
    return (view.incarnation, view.ready, view.draining, view.generation, view.problems, view.used, awaited)
