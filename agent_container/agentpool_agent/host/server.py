# SPDX-License-Identifier: Apache-2.0
"""Puts one host together, runs it, and takes it down in good order."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from typing import Any

import grpc.aio
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from agentpool_agent.host.activation import Activations
from agentpool_agent.host.archive import Archives
from agentpool_agent.host.breaking import settle
from agentpool_agent.host.drain import drain
from agentpool_agent.host.eviction import Evictions
from agentpool_agent.host.exchange import Exchange
from agentpool_agent.host.flags import HostFlags
from agentpool_agent.host.instance import Resident
from agentpool_agent.host.invoke import Requests
from agentpool_agent.host.metrics import HostMetrics, Now
from agentpool_agent.host.moving import Change, Moves
from agentpool_agent.host.nursery import SOCKET_NAME, Nursery
from agentpool_agent.host.one_shot import OneShots
from agentpool_agent.host.operations import Operations
from agentpool_agent.host.recovery import Recoveries
from agentpool_agent.host.refreshing import Refreshes
from agentpool_agent.host.revival import Revivals, mark_start
from agentpool_agent.host.service import AgentHostService
from agentpool_agent.host.settings import Role, Settings
from agentpool_agent.host.starting import Starts
from agentpool_agent.host.state import Host
from agentpool_agent.host.surroundings import Surroundings
from agentpool_agent.host.table import Entry
from agentpool_agent.host.upkeep import Upkeep
from agentpool_agent.host.watch import WatchHub
from agentpool_agent.host.worker import WorkerChannel
from agentpool_agent.store import Store, open_store
from agentpool_agent.store.measured import measured
from agentpool_agent.wire.nursery import Sample
from agentpool_core.cluster import LIVENESS_SERVICE
from agentpool_core.config import EffectivePool, Storage
from agentpool_core.errors import InvalidRequest
from agentpool_core.lifecycle import PauseReason
from agentpool_core.names import Incarnation
from agentpool_proto.v1 import host_pb2, host_pb2_grpc
from agentpool_rpc.channels import ByName, make_server
from agentpool_rpc.status import ErrorInterceptor
from agentpool_rpc.tokens import TokenVerifier
from agentpool_rpc.tracing import Tracing
from agentpool_rpc.yielding import yielding

log = structlog.get_logger(__name__)

SERVICE = host_pb2.DESCRIPTOR.services_by_name["AgentHost"].full_name
REFLECTED = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
STOP_SECONDS = 1.0
USAGE_STEP_BYTES = 256 * 1024
USAGE_STEP_SECONDS = 0.05
"""Smaller differences are not worth an event for every watcher."""


class HostServer:
    """One host process: its parts, its server, and how they are wired.

    Args:
        tracing: makes spans of requests; None: traces are off.
    """

    def __init__(self, settings: Settings, tracing: Tracing | None = None) -> None:
        self.settings = settings
        self.tracing = tracing
        incarnation = Incarnation.draw(settings.pod_uid, time.time_ns(), os.urandom(4))
        nursery = Nursery(
            settings.run_dir / SOCKET_NAME,
            time.monotonic,
            on_change=self._host_changed,
            on_usage=self._usage,
            on_sample=self._sampled,
            on_efforts=lambda efforts, at: self.host.crowding.measured(efforts, at),
        )
        self.host = Host(settings, incarnation, nursery, taken_by=settings.reserved_for)
        self.hub = WatchHub(self.host)
        self.host.table.changed = self.hub.instance_changed
        self.health = health.aio.HealthServicer()
        self.evictions = Evictions(self.host)
        self.one_shots = OneShots(self.host, self.evictions)
        self.flags = HostFlags(self.host, self._host_changed)
        self.port = 0
        self._verifier = TokenVerifier(settings.public_keys, time.time)
        self._server: grpc.aio.Server = make_server([ErrorInterceptor()])
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()
        self._configuring = asyncio.Lock()
        self._wire()
        named: Any = ByName(self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self.health, named)
        reflection.enable_server_reflection(REFLECTED, self._server)

    def _wire(self) -> None:
        host = self.host
        around = self._around()
        self.recoveries = Recoveries(host, lambda entry, wish: self.operations.fulfil_lost(entry, wish))
        starts = Starts(host, around, self.recoveries)
        activations = Activations(host, self.evictions, starts, self.recoveries)
        self.metrics = HostMetrics(
            host, Now(lambda: activations.running, lambda: starts.waiting, self._dropped)
        )
        self.operations = Operations(host, activations, self.evictions)
        moves = Moves(host, activations, self.evictions, self.operations)
        host.migrate = moves.migrate
        host.relocate = lambda entry, tier: moves.move(entry.instance_id, Change(tier), frozenset())
        self.revivals = Revivals(host, activations)
        refreshes, flags = Refreshes(host, activations, self.evictions), self.flags
        self.upkeep = Upkeep(
            host, self.evictions, self.operations, self.recoveries, self.revivals, refreshes, flags
        )
        service = AgentHostService(
            host,
            self._verifier,
            Requests(host, activations, self.one_shots, self.tracing),
            activations,
            self.operations,
            moves,
            Archives(host),
            self.upkeep,
            self.flags,
            self.hub,
            self.configure,
            self._host_changed,
        )
        named: Any = ByName(self._server)
        host_pb2_grpc.add_AgentHostServicer_to_server(service, named)

    def _around(self) -> Surroundings:
        host = self.host
        return Surroundings(
            store=lambda: host.configured()[1],
            clock=host.clock,
            wall=host.wall,
            spawn=host.spawn,
            released=self._released,
            lost=lambda resident, reason, cause: self.recoveries.lost(resident, reason, cause),
            strained=lambda resident, message: self.recoveries.strained(resident, message),
            data_lost=lambda: self.upkeep.data_lost(),
            checkpointed=host.counts.checkpointed,
        )

    def _dropped(self) -> int:
        return self.tracing.dropped if self.tracing is not None else 0

    # Callbacks of the parts

    def _host_changed(self) -> None:
        self.hub.host_changed()
        answer = health_pb2.HealthCheckResponse
        status = answer.SERVING if self.host.ready else answer.NOT_SERVING
        for name in ("", SERVICE):
            self.host.spawn(self.health.set(name, status), "health")

    def _sampled(self, sample: Sample) -> None:
        host = self.host
        host.meter.sampled(sample.worker, sample.cpu_seconds, sample.memory_bytes, host.clock())

    def _usage(self, worker: WorkerChannel, sample: Sample) -> None:
        resident = self.host.residents.get(worker.instance_id)
        if resident is None or resident.worker is not worker:
            return
        entry = resident.entry
        moved = abs(sample.memory_bytes - entry.memory_bytes) > USAGE_STEP_BYTES
        now = self.host.clock()
        if entry.measured_at:
            spent = sample.cpu_seconds - entry.cpu_seconds
            entry.cpu_percent = 100.0 * spent / max(now - entry.measured_at, 0.1)
            moved = moved or spent > USAGE_STEP_SECONDS
        entry.measured_at = now
        entry.memory_bytes, entry.cpu_seconds = sample.memory_bytes, sample.cpu_seconds
        if moved:
            self.hub.instance_changed(entry.instance_id, False)

    def _released(self, resident: Resident, exchange: Exchange) -> None:
        host, entry = self.host, resident.entry
        host.count_end(entry, exchange)
        settle(host, resident, exchange)
        self.recoveries.breaker_turned(resident)
        self._serve_line(resident)
        if entry.active > 0 or resident.dead:
            return
        self.recoveries.calmed(resident)
        if host.draining:
            return
        if entry.wish is not None:
            host.spawn(self.operations.fulfil(resident), "wish")
        elif self.one_shots.leaves(resident) or _idle_seconds(host, entry) == 0:
            host.spawn(self._leave_now(resident), "leave")

    def _serve_line(self, resident: Resident) -> None:
        host, entry = self.host, resident.entry
        if entry.gated or entry.leaving or entry.wish is not None or host.draining:
            resident.line.interrupt()
        elif host.config is not None and not resident.dead:
            resident.line.give(entry.active, host.config.tiers[entry.tier].quota.concurrent_requests)

    async def _leave_now(self, resident: Resident) -> None:
        if self.host.residents.get(resident.entry.instance_id) is resident and resident.entry.evictable:
            await self.evictions.leave(resident, PauseReason.EVICTED)

    # Configuration

    async def configure(self, config: EffectivePool) -> int:
        """Take on a configuration; an older generation is ignored. Raises InvalidRequest for one of another
        pool or storage, which a running host cannot change to."""
        async with self._configuring:
            host, current = self.host, self.host.config
            if current is not None and config.generation < current.generation:
                return current.generation
            if current is not None and (current.uid, current.checkpoint.storage) != (
                config.uid,
                config.checkpoint.storage,
            ):
                raise InvalidRequest("A running host cannot change its pool or the storage of state.")
            if host.store is None:
                host.store = self._open_store(config)
            host.config, host.breakers = config, config.circuit_breaker.policy
            self.flags.merge()
            for resident in host.residents.values():
                quota = config.tiers[resident.entry.tier].quota
                resident.bucket.resize(quota.requests_per_minute)
                resident.line.give(resident.entry.active, quota.concurrent_requests)
            self._keep_spares(config)
            # Ready as soon as the store answers, not at the next beat.
            host.spawn(self.upkeep.beat(self._host_changed), "beat")
            log.info("host_configured", generation=config.generation, pool=config.name)
            self._host_changed()
            return config.generation

    def _open_store(self, config: EffectivePool) -> Store:
        url = self.settings.redis_url
        if config.checkpoint.storage is Storage.REDIS and url is None:
            raise InvalidRequest(
                "The pool keeps state in Redis, and this host was given no address of one.",
                remedy="Give the host a Redis URL, or set checkpoint.storage to Memory.",
            )
        if config.checkpoint.storage is Storage.MEMORY:
            url = None
        store = open_store(url, pool_uid=config.uid, namespace=config.namespace, pool=config.name)
        return measured(store, self.host.counts.store_called) if store.shared else store

    def _keep_spares(self, config: EffectivePool) -> None:
        count = config.warmup.count if config.warmup.enabled else 0
        if self.settings.role is Role.GENERIC:
            # One instance: one worker waits, whatever the pool's number.
            count = 0 if self.host.counters.created else min(count, 1)
        self.host.nursery.keep(min(count, self.host.capacity))

    # Life

    async def start(self) -> None:
        """Bind the ports, then listen for the zygote; raises OSError when a port is taken."""
        settings = self.settings
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            # Before anybody can see that the process is there: a signal drains it from the first moment.
            loop.add_signal_handler(number, self.stop)
        self.port = self._server.add_insecure_port(settings.listen)
        if self.port == 0:
            raise OSError(f"cannot listen on {settings.listen}")
        if settings.metrics_port:
            self.metrics.serve(settings.metrics_port)
        self.revivals.restarted = await asyncio.to_thread(mark_start, settings.run_dir)
        self.host.nursery.listen()
        await self._server.start()
        await self.health.set(LIVENESS_SERVICE, health_pb2.HealthCheckResponse.SERVING)
        self._host_changed()
        if settings.config_file is not None:
            text = await asyncio.to_thread(settings.config_file.read_text)
            await self.configure(EffectivePool.model_validate_json(text))
        address = f"{settings.listen.rpartition(':')[0]}:{self.port}"
        if settings.address_file is not None:
            await asyncio.to_thread(_write, settings.address_file, address)
        log.info("host_started", address=address, incarnation=str(self.host.incarnation))

    def stop(self) -> None:
        """Begin to drain; a second call ends at once."""
        if self._stopping.is_set():
            self._hurry.set()
        self._stopping.set()

    async def run(self) -> None:
        """Serve until stopped, then drain and end."""
        loop = asyncio.get_running_loop()
        upkeep = loop.create_task(self.upkeep.run(self._host_changed), name="upkeep")
        giving_way = loop.create_task(yielding(), name="yielding")
        upkeep.add_done_callback(lambda _: self.stop())
        try:
            # As long as the process is to live.
            await self._stopping.wait()
            self.host.draining = True
            self._host_changed()
            await drain(self.host, self.evictions, self._hurry, self.settings.drain_seconds)
        finally:
            failed = upkeep.done()
            upkeep.cancel()
            giving_way.cancel()
            self.hub.close()
            await self._server.stop(STOP_SECONDS)
            self.host.nursery.close()
            if self.host.store is not None:
                await self.host.store.close()
            if self.tracing is not None:
                await self.tracing.close()
            with contextlib.suppress(asyncio.CancelledError):
                await upkeep
        if failed:
            raise RuntimeError("the upkeep of the host ended")


def _idle_seconds(host: Host, entry: Entry) -> int | None:
    return host.config.tiers[entry.tier].idle_seconds if host.config is not None else None


def _write(path: os.PathLike[str], text: str) -> None:
    whole = f"{path}.new"
    with open(whole, "w") as file:
        file.write(text)
    os.replace(whole, path)
