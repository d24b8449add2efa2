# SPDX-License-Identifier: Apache-2.0
"""All hosts of all pools: a link for each agent pod that has an address."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from functools import partial
from random import Random

import structlog

from agentpool_core.cluster import HOST_PORT, ROLE_WARM
from agentpool_core.config import EffectivePool, FlagSet, unpack_flags
from agentpool_core.lifecycle import Tier
from agentpool_core.names import Incarnation
from agentpool_core.placement import Candidate, Role, choose_shared
from agentpool_operator.hosts.link import Changed, HostLink, SentConfig
from agentpool_operator.kube.kinds import Object
from agentpool_operator.plan.generic import waiting
from agentpool_operator.plan.views import HeldView, HostView, PodView, pod_view
from agentpool_rpc.tokens import TokenSigner

log = structlog.get_logger(__name__)

MAX_HOSTS = 5_000
"""Links at once; pods beyond are looked after without their hosts' reports."""

Pool = tuple[str, str]


class Fleet:
    """See the module.

    Args:
        signer: None until the key of call tokens is known; hosts wait for it.
        address: of a pod with an IP; tests put their own in its place.
    """

    def __init__(
        self,
        signer: TokenSigner,
        changed: Changed,
        clock: Callable[[], float] = time.monotonic,
        random: Random | None = None,
        address: Callable[[PodView], str] = lambda pod: f"{pod.ip}:{HOST_PORT}",
    ) -> None:
        self._signer = signer
        self._changed = changed
        self._clock = clock
        self._random = random or Random()  # noqa: S311  # spreads reconnects
        self._address = address
        self._pods: dict[str, tuple[Pool, PodView]] = {}
        self._links: dict[str, tuple[HostLink, asyncio.Task[None]]] = {}
        self._configs: dict[Pool, SentConfig] = {}
        self._effective: dict[Pool, EffectivePool] = {}
        self._flags: dict[Pool, tuple[int, bytes]] = {}

    # Pods

    def pod_seen(self, pool: Pool, uid: str, body: Object | None) -> None:
        """A pod is there, changed, or is gone (None)."""
        pod = pod_view(body) if body is not None else None
        if pod is None:
            self._pods.pop(uid, None)
        else:
            self._pods[uid] = (pool, pod)
        self._tend(pool, uid, pod)

    def pods_listed(self, pool: Pool, pods: list[PodView]) -> None:
        """The pods of a pool as they are at the API server: others are gone."""
        present = {pod.uid for pod in pods}
        for uid in [uid for uid, (of, _) in self._pods.items() if of == pool and uid not in present]:
            self._pods.pop(uid)
            self._tend(pool, uid, None)
        for pod in pods:
            self._pods[pod.uid] = (pool, pod)
            self._tend(pool, pod.uid, pod)

    def _tend(self, pool: Pool, uid: str, pod: PodView | None) -> None:
        wanted = pod is not None and bool(pod.ip) and not pod.ended
        present = self._links.get(uid)
        if present is not None and (not wanted or (pod and present[0].address != self._address(pod))):
            present[1].cancel()
            del self._links[uid]
            # The watch ends untold: nothing else would say that what the host held is elsewhere now.
            present[0].forget("its pod is gone" if pod is None else "its pod ended or moved")
            present = None
        if pod is None or not wanted or present is not None or len(self._links) >= MAX_HOSTS:
            return
        link = HostLink(
            pool,
            uid,
            self._address(pod),
            pod.role == ROLE_WARM,
            self._signer,
            lambda: self._configs.get(pool),
            self._changed,
            self._clock,
            self._random,
            partial(self._flags_told, pool),
        )
        task = asyncio.get_running_loop().create_task(link.run(), name=f"host {pod.name}")
        task.add_done_callback(_report_crash)
        self._links[uid] = (link, task)

    # What the reconciles ask

    def configure(self, pool: Pool, effective: EffectivePool | None) -> None:
        """The configuration that all hosts of a pool are to have; None: the pool is gone."""
        if effective is None:
            self._configs.pop(pool, None)
            self._effective.pop(pool, None)
            self._flags.pop(pool, None)
            self.pods_listed(pool, [])
            return
        sent = SentConfig(effective.generation, effective.model_dump_json().encode())
        self._effective[pool] = effective
        if self._configs.get(pool) != sent:
            self._configs[pool] = sent
            for link in self._of(pool):
                link.config_changed()

    def effective(self, pool: Pool) -> EffectivePool | None:
        """The configuration last set for a pool."""
        return self._effective.get(pool)

    def flags(self, pool: Pool) -> FlagSet:
        """The feature flags of a pool: those that it declares, and the latest that its hosts tell of."""
        effective = self._effective.get(pool)
        _, document = self._flags.get(pool, (0, b""))
        try:
            changed = unpack_flags(document)
        except ValueError:
            # Of a later release; what is declared holds.
            changed = {}
        if effective is None:
            return FlagSet(changed=changed)
        return FlagSet(effective.feature_flags, effective.enabled, changed)

    def _flags_told(self, pool: Pool, version: int, document: bytes) -> None:
        if version > self._flags.get(pool, (0, b""))[0]:
            self._flags[pool] = (version, document)

    def views(self, pool: Pool) -> dict[str, HostView]:
        """Connected hosts of a pool by pod UID."""
        return {link.pod_uid: view for link in self._of(pool) if (view := link.view) is not None}

    def shared(self, pool: Pool) -> list[tuple[PodView, HostView | None]]:
        """The ready shared pods of a pool that stay, each with what its host says; None: it says nothing."""
        found = []
        for uid, (of, pod) in self._pods.items():
            if of == pool and pod.role == ROLE_WARM and pod.ready and not (pod.deleting or pod.ended):
                link = self.link(uid)
                view = link.view if link is not None else None
                if view is None or not view.draining:
                    found.append((pod, view))
        return found

    def refusals(self, pool: Pool) -> list[str]:
        """Why hosts of a pool did not take their configuration."""
        return sorted({link.refusal for link in self._of(pool) if link.refusal})

    def link(self, pod_uid: str) -> HostLink | None:
        """The link of a pod."""
        found = self._links.get(pod_uid)
        return found[0] if found else None

    def pod(self, pod_uid: str) -> PodView | None:
        """A pod as the watch last told."""
        found = self._pods.get(pod_uid)
        return found[1] if found else None

    def hears_all(self, pool: Pool) -> bool:
        """Whether every pod of a pool that may hold an instance is connected: what none of them reports,
        nobody holds."""
        pods = [uid for uid, (of, pod) in self._pods.items() if of == pool and pod.ip and not pod.ended]
        return all((link := self.link(uid)) is not None and link.view is not None for uid in pods)

    def holder(self, pool: Pool, instance_id: str) -> tuple[HostLink, HeldView] | None:
        """Who holds an instance: of several that say so the one with the highest epoch."""
        best: tuple[HostLink, HeldView] | None = None
        for link in self._of(pool):
            view = link.view
            held = view.instances.get(instance_id) if view is not None else None
            if held is not None and (best is None or _rank(held) > _rank(best[1])):
                best = (link, held)
        return best

    def own_host(self, pool: Pool, instance_id: str) -> HostLink | None:
        """The ready host of an instance's own pod."""
        for link in self._of(pool):
            pod = self.pod(link.pod_uid)
            if pod is not None and pod.instance == instance_id and self._takes_new(link):
                return link
        return None

    def any_host(self, pool: Pool) -> HostLink | None:
        """A ready host of a pool, of one that stays if there is one, shared ones first: what the store knows,
        any of them tells."""
        ready = [link for link in self._of(pool) if _usable(link)]

        def rank(link: HostLink) -> tuple[bool, bool, str]:
            return not self._takes_new(link), self._role(link) != ROLE_WARM, link.pod_uid

        return min(ready, key=rank, default=None)

    def host_for(self, pool: Pool, instance_id: str, tier: Tier) -> HostLink | None:
        """Where an instance that nobody holds should go: its own pod, else as the gateway would place it."""
        own = self.own_host(pool, instance_id)
        if own is not None or tier is Tier.HOT:
            return own
        ready = {link.pod_uid: link for link in self._of(pool) if self._takes_new(link)}
        if tier is Tier.WARM:
            effective = self._effective.get(pool)
            capacity = effective.instances_per_host if effective else 1
            shared = [
                Candidate(uid, Role.SHARED, frozenset({Tier.WARM}), capacity, link.view.residents)
                for uid, link in ready.items()
                if self._role(link) == ROLE_WARM and link.view is not None
            ]
            chosen = choose_shared(instance_id, tier, shared)
            return ready[chosen] if chosen is not None else None
        return self.waiting_host(pool, tier)

    def waiting_host(self, pool: Pool, tier: Tier) -> HostLink | None:
        """A ready host that waits for an instance of its own and takes the tier; the oldest of them."""
        return next(iter(self._waiting(pool, tier)), None)

    def waiting_hosts(self, pool: Pool, tier: Tier) -> int:
        """How many such hosts there are."""
        return len(self._waiting(pool, tier))

    def _waiting(self, pool: Pool, tier: Tier) -> list[HostLink]:
        ready = {
            link.pod_uid: link for link in self._of(pool) if self._takes_new(link) and tier in link.tiers
        }
        pods = [pod for uid, (_, pod) in self._pods.items() if uid in ready]
        idle = [pod for pod in waiting(pods) if _unused(ready[pod.uid])]
        return [ready[pod.uid] for pod in sorted(idle, key=lambda pod: pod.created_at)]

    def lives(self, incarnation: Incarnation) -> bool:
        """Whether this very life of a host is connected, or a pod of it that could be alive is known."""
        link = self.link(incarnation.pod_uid)
        view = link.view if link is not None else None
        if view is not None:
            return view.incarnation == str(incarnation)
        pod = self.pod(incarnation.pod_uid)
        return pod is not None and not pod.ended and pod.ready

    async def close(self) -> None:
        """End all links."""
        tasks = [task for _, task in self._links.values()]
        self._links.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _of(self, pool: Pool) -> Iterator[HostLink]:
        return (link for link, _ in list(self._links.values()) if link.pool == pool)

    def _takes_new(self, link: HostLink) -> bool:
        """Whether it may get an instance. A host whose pod is being deleted may not know that yet."""
        pod = self.pod(link.pod_uid)
        return _usable(link) and not (pod is not None and pod.deleting)

    def _role(self, link: HostLink) -> str:
        pod = self.pod(link.pod_uid)
        return pod.role if pod is not None else ""


def _usable(link: HostLink) -> bool:
    view = link.view
    return view is not None and view.ready and not view.draining


def _unused(link: HostLink) -> bool:
    view = link.view
    return view is not None and not view.used and view.residents == 0


def _rank(held: HeldView) -> tuple[int, bool]:
    return held.epoch, held.owned


def _report_crash(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        log.error("host_link_crashed", exc_info=task.exception())
