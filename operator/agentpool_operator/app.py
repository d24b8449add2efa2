# SPDX-License-Identifier: Apache-2.0
"""Wiring: one process that waits to lead, leads, and ends when it no longer does."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from typing import Any

import structlog

from agentpool_core.cluster import CALL_TOKEN_SECRET, HOST_PORT
from agentpool_core.errors import AgentPoolError
from agentpool_core.lifecycle import State
from agentpool_operator.cache import Cache
from agentpool_operator.desired.pod import PodDefaults
from agentpool_operator.handlers import Doors, Watches
from agentpool_operator.hosts import Fleet, HostAway
from agentpool_operator.hosts.link import HostLink
from agentpool_operator.keys import call_token_keys
from agentpool_operator.kube.client import KubeClient, connect
from agentpool_operator.kube.kinds import POOLS, KubeError, NotLeader, Retry
from agentpool_operator.kube.leader import Elector, Timing
from agentpool_operator.metrics import OperatorMetrics
from agentpool_operator.plan.views import PodView
from agentpool_operator.probes import Probes
from agentpool_operator.queue import Key, Subject, WorkQueue, work
from agentpool_operator.reconcile import InstanceReconciler, PoolReconciler, Resync
from agentpool_operator.reconcile.access import Access
from agentpool_operator.reconcile.parts import Parts
from agentpool_operator.reconcile.pool import SHOWN_LATE_SECONDS
from agentpool_operator.reconcile.scaling import LOOK_SECONDS as SCALING_SECONDS
from agentpool_operator.reconcile.scaling import Scaling
from agentpool_operator.reconcile.tiering import LOOK_SECONDS, Tiering
from agentpool_operator.report.events import Recorder
from agentpool_operator.report.failures import Failures
from agentpool_operator.settings import Settings, tracing_environment
from agentpool_operator.store import StoreAway
from agentpool_rpc.cancellation import before, heed_cancellation
from agentpool_rpc.tokens import TokenSigner

log = structlog.get_logger(__name__)

EXPECTED = (KubeError, NotLeader, AgentPoolError, HostAway, StoreAway)
PASSING = (Retry, TimeoutError, StoreAway)
"""Troubles of others; everything else that a reconcile raises is a bug of ours."""
RECONCILE_SECONDS = 120.0
COUNTS_SECONDS = 2.0
"""How long news of instances alone waits before its pool is looked at: most of it is load."""
CRD_SECONDS = 2.0
STOP_SECONDS = 5.0


class App:
    """The operator.

    Args:
        address: of a pod's host; tests put their own in its place.
    """

    def __init__(
        self, settings: Settings, address: Callable[[PodView], str] = lambda pod: f"{pod.ip}:{HOST_PORT}"
    ) -> None:
        self._settings = settings
        self._address = address
        self.cache = Cache()
        self.queue = WorkQueue()
        self._elector: Elector | None = None
        self._pools: PoolReconciler | None = None
        self._fleet: Fleet | None = None
        self.metrics = OperatorMetrics(
            depth=lambda: len(self.queue),
            sizes=lambda: self._pools.sizes if self._pools is not None else {},
            conditions=lambda: self._pools.conditions if self._pools is not None else {},
            leading=lambda: self._elector is not None and self._elector.leading,
        )
        self._failures = Failures(self.metrics.failed)
        self._probes = Probes(self._unwell, self.metrics.text)
        self.stopping = asyncio.Event()

    def _unwell(self) -> str:
        stuck = self.queue.stuck_seconds
        # Every worker may be in a run that lasts as long as a run may.
        settings = self._settings
        limit = RECONCILE_SECONDS + settings.health_interval_seconds + settings.health_timeout_seconds
        leading = self._elector is not None and self._elector.leading
        return f"no key was taken for {stuck:.0f} s" if leading and stuck > limit else ""

    async def run(self) -> int:
        """Wait to lead, lead, end; returns the exit status."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stopping.set)
        settings = self._settings
        await self._probes.start(settings.health_port, settings.metrics_port)
        kube = KubeClient(await connect(), observe=self.metrics.called)
        seconds = settings.lease_seconds
        timing = Timing(lease=seconds, hold=seconds * 2 / 3, retry=max(0.2, seconds * 2 / 15))
        self._elector = elector = Elector(
            kube, settings.namespace, settings.lease_name, settings.identity, timing
        )
        try:
            if not await before(self.stopping, elector.acquire()):
                return 0
            leading = loop.create_task(self._lead(kube.guarded(elector.check)), name="lead")
            held = loop.create_task(elector.hold(), name="lease")
            stopped = loop.create_task(self.stopping.wait(), name="stop")
            await asyncio.wait({leading, held, stopped}, return_when=asyncio.FIRST_COMPLETED)
            await self._end({leading, held, stopped})
            return 0 if self.stopping.is_set() else 1
        finally:
            await elector.release()
            await self._probes.close()
            await kube.close()

    async def _end(self, tasks: set[asyncio.Task[Any]]) -> None:
        for task in tasks:
            task.cancel()
        done, pending = await asyncio.wait(tasks, timeout=STOP_SECONDS)
        for task in done:
            if not task.cancelled() and (error := task.exception()) is not None:
                log.error("task_failed", task=task.get_name(), exc_info=error)
        for task in pending:
            # It can write no more: the lease is given up before anything else happens.
            log.error("task_does_not_end", task=task.get_name())

    async def _lead(self, kube: KubeClient) -> None:
        settings = self._settings
        await self._wait_for_crds(kube)
        private, public = await self._keys(kube)
        signer = TokenSigner(private, "operator", time.time)
        self._fleet = fleet = Fleet(signer, self._host_changed, address=self._address)
        parts = Parts(
            cluster=kube,
            cache=self.cache,
            queue=self.queue,
            fleet=fleet,
            access=Access(kube, settings.namespace, settings.redis_secret, settings.redis_address),
            recorder=Recorder(kube, settings.identity),
            defaults=PodDefaults(
                settings.agent_image,
                settings.agent_pull_policy,
                public,
                settings.agent_log_level,
                tracing_environment(settings),
            ),
            environ=settings.pool_environ or {},
        )
        try:
            await self._work(parts)
        finally:
            await fleet.close()
            await parts.access.close()

    async def _work(self, parts: Parts) -> None:
        settings = self._settings
        scaling = Scaling(parts, self.metrics.scaled, min(SCALING_SECONDS, settings.resync_seconds))
        self._pools = pools = PoolReconciler(parts, scaling)
        instances = InstanceReconciler(parts)

        async def reconcile(key: Key) -> float | None:
            return await (pools if key.subject is Subject.POOL else instances)(key)

        namespaces = settings.watch_namespaces or ("",)
        resync = Resync(parts, self.queue, namespaces, settings.resync_seconds)
        doors = Doors(self.cache, self.queue, parts.fleet.pod_seen)
        watches = Watches(doors, settings.watch_namespaces, settings.identity)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(resync.run(), name="resync")
            tasks.create_task(watches.run(), name="watch")
            tasks.create_task(scaling.run(), name="scaling")
            tasks.create_task(
                Tiering(parts, self.metrics.moved, min(LOOK_SECONDS, settings.resync_seconds)).run(),
                name="tiering",
            )
            for number in range(settings.workers):
                runner = work(
                    self.queue, reconcile, EXPECTED, RECONCILE_SECONDS, self.metrics.observe, PASSING
                )
                tasks.create_task(runner, name=f"worker {number}")

    async def _wait_for_crds(self, kube: KubeClient) -> None:
        while True:
            try:
                for namespace in self._settings.watch_namespaces or ("",):
                    await kube.list(POOLS, namespace)
            except KubeError as exc:
                heed_cancellation()
                log.warning("waiting_for_crds", reason=str(exc))
                await asyncio.sleep(CRD_SECONDS)
            else:
                return

    async def _keys(self, kube: KubeClient) -> tuple[bytes, str]:
        while True:
            try:
                return await call_token_keys(kube, self._settings.namespace, CALL_TOKEN_SECRET)
            except KubeError as exc:
                heed_cancellation()
                log.warning("call_token_key_not_read", reason=str(exc))
                await asyncio.sleep(CRD_SECONDS)

    def _host_changed(self, link: HostLink, ids: frozenset[str], host_changed: bool) -> None:
        view = link.view
        for instance_id in ids:
            if view is not None and instance_id in view.instances:
                self._failures.seen(view.instances[instance_id])
            ref = self.cache.standing_for(instance_id)
            if ref is None:
                continue
            key = Key(Subject.INSTANCE, ref.namespace, ref.name)
            held = view.instances.get(instance_id) if view is not None else None
            busy = held is not None and held.state is State.BUSY
            self.queue.add(key, SHOWN_LATE_SECONDS if busy else 0.0)
        pod = self._fleet.pod(link.pod_uid) if self._fleet is not None else None
        own = self.cache.standing_for(pod.instance) if pod is not None and pod.instance else None
        if host_changed and own is not None:
            # Its instance may wait for just this host.
            self.queue.add(Key(Subject.INSTANCE, own.namespace, own.name))
        # What happens on a pod of one instance changes pods; on a shared one it is a count.
        waits = 0.0 if host_changed or not link.shared else COUNTS_SECONDS
        self.queue.add(Key(Subject.POOL, *link.pool), waits)
