# SPDX-License-Identifier: Apache-2.0
"""Membership from a cluster: AgentPools as the operator resolved them, and their pods.

Pure but for the task that confirms absences: mirrors are fed from outside, look-ups never wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from pydantic import ValidationError

from agentpool_core.cluster import HOST_PORT
from agentpool_core.config import EffectivePool
from agentpool_core.names import Incarnation
from agentpool_gateway.membership.base import HostMember, PoolMember, PoolName
from agentpool_gateway.membership.evidence import PodView, pod_view
from agentpool_gateway.membership.mirror import Mirror

log = structlog.get_logger(__name__)

REMEMBERED = 10_000
"""Pods known to be gone; they may be named as owners for as long as nobody has claimed their instances."""
CONFIRM_SECONDS = 2.0
"""At most one look for pods that nobody here has seen in this time."""

Present = Callable[[], Awaitable[frozenset[str]]]
"""The UIDs of all agent pods at this moment, from no stale cache; OSError when the cluster cannot tell."""


@dataclass(frozen=True, slots=True)
class PoolView:
    """A pool that the operator has resolved; `config` is None before it did."""

    name: PoolName
    uid: str
    config: EffectivePool | None


def pool_view(body: Mapping[str, Any]) -> PoolView:
    """The view of an AgentPool object; KeyError or ValueError when it has not the form of one."""
    metadata = body["metadata"]
    name, uid = PoolName(metadata["namespace"], metadata["name"]), metadata["uid"]
    effective = (body.get("status") or {}).get("effective")
    if not effective:
        return PoolView(name, uid, None)
    try:
        config = EffectivePool.model_validate(effective)
    except ValidationError as exc:
        log.error("pool_not_understood", pool=str(name), reason=str(exc.errors(include_input=False)[0]))
        raise
    # A status that was restored from a backup speaks of another pool.
    mine = (config.namespace, config.name, config.uid) == (*name, uid)
    return PoolView(name, uid, config if mine else None)


class ClusterMembership:
    """Pools and hosts of a cluster.

    Args:
        present: asked, at most every 2 s, about owners whose pods were gone before this gateway looked.
        clock: seconds, monotonic.
    """

    def __init__(self, present: Present, clock: Callable[[], float]) -> None:
        self._present = present
        self._clock = clock
        self._pool_mirrors: list[Mirror[PoolView]] = []
        self._pod_mirrors: list[Mirror[PodView]] = []
        self._pools: dict[PoolName, PoolMember] = {}
        self._pods: dict[str, PodView] = {}
        self._gone: dict[str, None] = {}
        self._latest: dict[str, str] = {}
        self._listeners: list[Callable[[], None]] = []
        self._asked: set[str] = set()
        self._wanted = asyncio.Event()
        self._due = False

    def pool_mirror(self) -> Mirror[PoolView]:
        """A mirror of AgentPools, to be fed; one for each collection that is watched."""
        mirror = Mirror(pool_view, lambda _: None)
        self._pool_mirrors.append(mirror)
        return mirror

    def pod_mirror(self) -> Mirror[PodView]:
        """A mirror of agent pods, to be fed."""
        mirror = Mirror(pod_view, lambda pod: self._note_gone(pod.uid))
        self._pod_mirrors.append(mirror)
        return mirror

    @property
    def pools(self) -> Mapping[PoolName, PoolMember]:
        """All pools, as last told."""
        return self._pools

    @property
    def ready(self) -> bool:
        """Whether every collection was listed once."""
        pools, pods = self._pool_mirrors, self._pod_mirrors
        return bool(pods) and all(one.synced for one in pools) and all(one.synced for one in pods)

    def subscribe(self, listener: Callable[[], None]) -> None:
        """Call `listener` after each change."""
        self._listeners.append(listener)

    def changed(self) -> None:
        """A mirror changed. Changes that come together are taken on together."""
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_soon(self._take_on)

    def announced(self, incarnation: Incarnation) -> None:
        """Nonces of one pod sort by time; a late message of an earlier life changes nothing."""
        if incarnation.nonce > self._latest.get(incarnation.pod_uid, ""):
            self._latest[incarnation.pod_uid] = incarnation.nonce

    async def ended(self, incarnation: Incarnation) -> bool:
        """Proof by the pod's object, by its absence, or by a later host of the same pod. Never waits."""
        uid = incarnation.pod_uid
        if uid in self._gone or incarnation.nonce < self._latest.get(uid, ""):
            return True
        pod = self._pods.get(uid)
        if pod is not None:
            return pod.proves_end(incarnation)
        if self.ready and len(self._asked) < REMEMBERED:
            self._asked.add(uid)
            self._wanted.set()
        return False

    async def run(self) -> None:
        """Find out about pods that were asked for and never seen, until cancelled."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            began = self._clock()
            await self._confirm()
            await asyncio.sleep(max(CONFIRM_SECONDS - (self._clock() - began), 0.0))

    async def _confirm(self) -> None:
        # An owner's pod was there before it owned anything, and it owned before it was asked for: a list
        # that begins now and does not have the pod proves that it is gone.
        asked, self._asked = self._asked, set()
        try:
            present = await self._present()
        except OSError as exc:
            log.warning("owners_not_looked_up", owners=len(asked), reason=str(exc))
            return
        for uid in asked - present:
            self._note_gone(uid)
            log.info("owner_gone", pod_uid=uid)

    def _note_gone(self, uid: str) -> None:
        while len(self._gone) >= REMEMBERED:
            del self._gone[next(iter(self._gone))]
        self._gone[uid] = None
        self._latest.pop(uid, None)

    def _take_on(self) -> None:
        self._due = False
        self._pods = {pod.uid: pod for mirror in self._pod_mirrors for pod in mirror.views}
        for uid in self._pods.keys() & self._gone.keys():
            # It had lost its label for a while.
            del self._gone[uid]
        pools = [pool for mirror in self._pool_mirrors for pool in mirror.views]
        self._pools = members(pools, self._pods.values())
        for listener in self._listeners:
            listener()


def members(pools: Iterable[PoolView], pods: Iterable[PodView]) -> dict[PoolName, PoolMember]:
    """Every resolved pool with its pods. A pod counts for a pool of its own namespace alone: who may make
    pods somewhere must not be able to take the requests of a pool elsewhere."""
    hosts: dict[tuple[str, str], list[HostMember]] = {}
    served = {(pool.name.namespace, pool.uid): pool for pool in pools if pool.config is not None}
    for pod in pods:
        pool = served.get((pod.namespace, pod.pool_uid))
        if pool is not None and pod.reachable:
            hosts.setdefault((pod.namespace, pool.uid), []).append(
                HostMember(pool.name, pod.name, pod.uid, _address(pod.ip), pod.leaving)
            )
    return {
        pool.name: PoolMember(pool.config, tuple(hosts.get(key, ())))
        for key, pool in served.items()
        if pool.config is not None
    }


def _address(ip: str) -> str:
    return f"[{ip}]:{HOST_PORT}" if ":" in ip else f"{ip}:{HOST_PORT}"
