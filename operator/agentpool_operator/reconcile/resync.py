# SPDX-License-Identifier: Apache-2.0
"""The full look every few minutes: what watches missed, what was deleted while nobody looked."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from agentpool_core.cluster import AGENT_NAME, LABEL_NAME
from agentpool_core.errors import AgentPoolError
from agentpool_operator.hosts import HostAway
from agentpool_operator.kube.kinds import INSTANCES, PODS, POOLS, KubeError, Object
from agentpool_operator.plan.views import pool_uid
from agentpool_operator.queue import Key, Subject, WorkQueue
from agentpool_operator.reconcile.parts import Parts
from agentpool_operator.store import StoreAway
from agentpool_rpc.cancellation import heed_cancellation

log = structlog.get_logger(__name__)

RETRY_SECONDS = 5.0
MAX_PAGES = 100


class Resync:
    """Lists everything and enqueues it.

    Args:
        namespaces: to look into; ("",): all.
    """

    def __init__(
        self, parts: Parts, queue: WorkQueue, namespaces: Sequence[str], every_seconds: float
    ) -> None:
        self._parts = parts
        self._queue = queue
        self._namespaces = namespaces
        self._every = every_seconds
        self._unasked: set[tuple[str, str]] = set()
        """Pools whose hosts could not be asked yet for what they hold."""

    async def run(self) -> None:
        """Look again and again, for ever."""
        while True:
            try:
                await self.once()
            except KubeError as exc:
                heed_cancellation()
                log.warning("resync_failed", reason=str(exc))
                await asyncio.sleep(RETRY_SECONDS)
                continue
            left = self._every
            while left > 0:
                heed_cancellation()
                pause = min(left, RETRY_SECONDS)
                await asyncio.sleep(pause)
                left -= pause
                await self._ask()

    async def once(self) -> None:
        """One full look; raises KubeError."""
        pods: list[Object] = []
        pools: list[Object] = []
        instances: list[Object] = []
        for namespace in self._namespaces:
            # Pods first: one whose pool is not in the later list has lost it.
            pods += await self._parts.cluster.list(PODS, namespace, f"{LABEL_NAME}={AGENT_NAME}")
            pools += await self._parts.cluster.list(POOLS, namespace)
            instances += await self._parts.cluster.list(INSTANCES, namespace)
        before = dict.fromkeys(self._parts.cache.pools)
        missed = self._parts.cache.replace(pools, instances)
        self._queue.overflowed = False
        for namespace, name in {**before, **dict.fromkeys(self._parts.cache.pools)}:
            self._queue.add(Key(Subject.POOL, namespace, name))
        for ref in [*self._parts.cache.instances, *missed]:
            self._queue.add(Key(Subject.INSTANCE, ref.namespace, ref.name))
        await self._sweep_pods(pods, pools)
        await self._sweep_store(pools)
        self._unasked = set(self._parts.cache.pools)
        await self._ask()

    async def _ask(self) -> None:
        for pool in list(self._unasked):
            if await self._find_orphans(pool):
                self._unasked.discard(pool)

    async def _sweep_pods(self, pods: Sequence[Object], pools: Sequence[Object]) -> None:
        """Delete pods whose pool was deleted while no operator looked, and which are not its children."""
        living = {body["metadata"]["uid"] for body in pools}
        for body in pods:
            metadata = body["metadata"]
            uid = pool_uid(body)
            if uid and uid not in living and "deletionTimestamp" not in metadata:
                place = metadata["namespace"], metadata["name"]
                await self._parts.cluster.delete(PODS, *place, metadata["uid"])
                log.info("orphan_deleted", pod=metadata["name"], pool_uid=uid)

    async def _sweep_store(self, pools: Sequence[Object]) -> None:
        try:
            admin = await self._parts.access.admin(renew=True)
            await admin.sweep({body["metadata"]["uid"] for body in pools})
        except StoreAway as exc:
            # Pools that need it say so themselves; one of memory alone needs none.
            log.info("store_not_swept", reason=str(exc))

    async def _find_orphans(self, pool: tuple[str, str]) -> bool:
        """Terminate declared instances whose AgentInstance was deleted while no operator looked; whether all
        could be asked."""
        link = self._parts.fleet.any_host(pool)
        if link is None:
            return False
        living = {ref.uid for ref in self._parts.cache.instances}
        cursor = ""
        try:
            for _ in range(MAX_PAGES):
                page = await link.page(cursor)
                for one in page.instances:
                    if not one.declared_uid or one.declared_uid in living:
                        continue
                    if self._parts.cache.standing_for(one.id) is not None:
                        # Declared anew under another name: it lives on.
                        continue
                    holder = self._parts.fleet.holder(pool, one.id)
                    await (holder[0] if holder is not None else link).terminate(one.id, frozenset())
                    log.info("orphan_terminated", instance=one.id)
                cursor = page.cursor
                if not cursor:
                    break
        except (AgentPoolError, HostAway) as exc:
            log.info("orphans_not_looked_for", pool=pool[1], reason=str(exc))
            return False
        return True
