# SPDX-License-Identifier: Apache-2.0
"""Stale and unobserved state: watches that freeze, lose, double or end, older lists, former leaders."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from agentpool_core.cluster import ROLE_GENERIC
from agentpool_operator.kube.kinds import LEASES, PODS
from agentpool_operator.plan.generic import surge
from faults.findings import Findings
from faults.lane import CONVERGE_SECONDS, SHORT_LEASE_SECONDS, Lane, until
from faults.observer import Observer
from faults.scripts import CREATED, PHASES, SCALED, Learned, ready
from faults.state import first_difference
from support.faultplan import Answer, Call, Delay, Drop, EventRule, Older, Rule

RESYNC_SECONDS = 5.0
REST_SECONDS = 12.0
"""More than two resyncs."""
AWAY_SECONDS = 8.0
"""Twice the Lease of the harness."""
STUCK_SECONDS = 8.0


@dataclass(slots=True)
class Scene:
    """What a case acts on."""

    lane: Lane
    learned: Learned
    observer: Observer

    async def create(self) -> None:
        """The pool and its instances, as the first script leaves them."""
        await PHASES[0].act(self.lane)
        await self.ends("create")

    async def rested(self) -> None:
        """As `create`, and until what was put off is done: it would find a change that no watch tells of."""
        await self.create()
        await asyncio.sleep(RESYNC_SECONDS + 2)

    async def scaled(self) -> None:
        """Change the size, and see that it is followed."""
        await self.lane.pool(SCALED)
        await self.ends("scale")

    async def ends(self, phase: str) -> None:
        """Wait for the state of a phase; raises AssertionError that tells what differs."""
        wanted = self.learned.states[phase]
        found = await self.lane.becomes(wanted)
        if found != wanted:
            raise AssertionError(first_difference(wanted, found))


Case = Callable[[Scene], Awaitable[None]]


async def frozen_watch(scene: Scene) -> None:
    """Watches stay open and tell nothing: the next full look finds what changed."""
    await scene.rested()
    scene.lane.proxy.freeze()
    await scene.scaled()
    scene.lane.proxy.thaw()
    await scene.ends("scale")


async def deletion_unseen(scene: Scene) -> None:
    """Declarations go while watches are frozen: their instances end all the same, and nothing is kept."""
    await scene.rested()
    scene.lane.proxy.freeze()
    await _undeclared(scene)
    scene.lane.proxy.thaw()


async def deletion_without_an_operator(scene: Scene) -> None:
    """Declarations go while no operator runs, one of them of an instance that is paused."""
    lane = scene.lane
    await scene.create()
    await lane.instance("shared", tier="WARM", state="Paused")

    async def kept() -> bool:
        return "store keeps shared" in await lane.state()

    await until(kept, CONVERGE_SECONDS)
    await lane.kill()
    await _undeclared(scene, lane.start)


async def _undeclared(scene: Scene, then: Callable[[], Awaitable[object]] | None = None) -> None:
    """Delete two declarations, do something more, and wait until nobody holds or keeps their instances."""
    lane = scene.lane
    for name in ("vip", "shared"):
        await lane.undeclare(name)
    if then is not None:
        await then()

    async def gone() -> bool:
        words = [one.split() for one in await lane.state() if " holds " in one or " keeps " in one]
        return not any({"vip", "shared"} & {*one} for one in words)

    await until(gone, CONVERGE_SECONDS)


async def _events(scene: Scene, copies: int) -> None:
    await scene.rested()
    scene.lane.proxy.event_rules.append(EventRule(lambda *_: True, copies, count=None))
    await scene.scaled()


async def events_lost(scene: Scene) -> None:
    """No event of the change arrives."""
    await _events(scene, 0)


async def events_doubled(scene: Scene) -> None:
    """Every event arrives twice."""
    await _events(scene, 2)


async def pods_unseen(scene: Scene) -> None:
    """Pods come and go without an event of them."""
    await scene.rested()

    def of_pods(resource: str, _: Mapping[str, Any]) -> bool:
        return resource == "pods"

    scene.lane.proxy.event_rules.append(EventRule(of_pods, 0, count=None))
    (pod, *_) = await scene.lane.client.list(PODS, scene.lane.name, f"agentpool.dev/role={ROLE_GENERIC}")
    await scene.lane.client.delete(PODS, scene.lane.name, pod["metadata"]["name"], pod["metadata"]["uid"])
    await scene.scaled()


async def watch_expired(scene: Scene) -> None:
    """Every watch ends, and its resourceVersion is too old for another."""
    await scene.create()
    scene.lane.proxy.expire("agentpools", "agentinstances", "pods", "deployments")
    scene.lane.proxy.cut_watches()
    await scene.scaled()
    await scene.lane.watches()


async def watch_refused(scene: Scene) -> None:
    """Watches are refused for a moment, as when rights are changed: the operator watches again afterwards."""
    await scene.create()
    refused = Answer(403, "Forbidden")
    scene.lane.proxy.rules.append(Rule(lambda call: call.verb == "watch", refused, count=8))
    scene.lane.proxy.cut_watches()
    await asyncio.sleep(2.0)
    scene.lane.proxy.rules.clear()
    await scene.lane.watches()
    await scene.scaled()


async def watches_cut(scene: Scene) -> None:
    """Watches break again and again while the pool changes."""
    await scene.create()
    scaled = asyncio.create_task(scene.scaled())
    for _ in range(5):
        await asyncio.sleep(0.3)
        scene.lane.proxy.cut_watches()
    await scaled


async def older_list(scene: Scene) -> None:
    """A new operator is shown an older list: it makes nothing twice and ends nothing that lives."""
    await scene.lane.kill()
    scene.lane.proxy.keep_lists = True
    await scene.lane.start()
    await scene.lane.watches()
    await scene.create()
    before = {one["metadata"]["uid"] for one in await scene.lane.client.list(PODS, scene.lane.name)}
    await scene.lane.kill()

    def listed(call: Call) -> bool:
        return call.verb == "list" and call.agent.startswith("kopf")

    rule = Rule(listed, Older(), count=4)
    scene.lane.proxy.rules.append(rule)
    await scene.lane.start()
    await scene.lane.watches()
    await scene.ends("create")
    after = {one["metadata"]["uid"] for one in await scene.lane.client.list(PODS, scene.lane.name)}
    assert rule.applied, "no list was answered with an older one"
    assert before == after, "pods were replaced"
    await scene.scaled()


async def frozen_leader(scene: Scene) -> None:
    """A leader that slept through its Lease writes nothing when it wakes."""
    await scene.create()
    (old,) = scene.lane.operators
    second = await scene.lane.start(through=1)
    await asyncio.sleep(1.0)
    old.freeze()

    async def leads() -> bool:
        lease = await scene.lane.client.get(LEASES, scene.lane.name, "agentpool-operator")
        return lease is not None and lease["spec"]["holderIdentity"] == second.identity

    try:
        await until(leads, CONVERGE_SECONDS)
        await scene.lane.watches(through=1)
        scene.lane.proxy.reset_count()
        # The sleeper has work waiting for it: events of a change that it never saw.
        await scene.scaled()
    finally:
        old.thaw()
    # Both are awake, and there is something to do for whoever believes that it leads.
    await scene.lane.pool({**SCALED, "tiers": {"warm": {"replicas": 2}}})
    await asyncio.sleep(AWAY_SECONDS)
    written = [str(call) for call in scene.lane.proxy.writes]
    assert not written, f"the old leader wrote {written[:3]}"
    await until(lambda: ready(scene.lane), CONVERGE_SECONDS)


async def server_away(scene: Scene) -> None:
    """The API server is away for longer than the Lease: what lives goes on, and the operator comes back."""
    await scene.create()
    before = {one["metadata"]["uid"] for one in await scene.lane.client.list(PODS, scene.lane.name)}
    rule = Rule(lambda _: True, Drop(), count=None)
    scene.lane.proxy.rules.append(rule)
    scene.lane.proxy.cut_watches()
    await asyncio.sleep(AWAY_SECONDS)
    scene.lane.proxy.rules.clear()
    await scene.ends("create")
    after = {one["metadata"]["uid"] for one in await scene.lane.client.list(PODS, scene.lane.name)}
    assert before == after, "pods were replaced"
    await scene.scaled()


async def slow_server(scene: Scene) -> None:
    """Every write takes a second."""
    scene.lane.proxy.rules.append(Rule(lambda call: bool(call.write), Delay(1.0), count=None))
    await scene.create()
    await scene.scaled()


async def refused_reads(scene: Scene) -> None:
    """Every 23rd request that is not for the Lease is refused as one too many."""
    answer = Answer(429, "TooManyRequests", retry_after=1)

    def unlucky(call: Call) -> bool:
        return call.number % 23 == 0 and call.resource != "leases"

    scene.lane.proxy.rules.append(Rule(unlucky, answer, count=None))
    await scene.create()
    await scene.scaled()


async def unschedulable(scene: Scene) -> None:
    """Pods never run: there are never more of them than wanted plus surge."""
    scene.lane.node.stuck = True
    await scene.lane.pool({"warmup": {"count": 4}, "tiers": {"warm": {"replicas": 1}}})
    await asyncio.sleep(STUCK_SECONDS)
    pods = await scene.lane.client.list(PODS, scene.lane.name, f"agentpool.dev/role={ROLE_GENERIC}")
    assert 0 < len(pods) <= 4 + surge(4), f"{len(pods)} waiting pods where 4 are wanted"
    scene.lane.node.stuck = False
    await until(lambda: ready(scene.lane), CONVERGE_SECONDS)


async def at_rest(scene: Scene) -> None:
    """Nothing changes: nothing is written."""
    await scene.rested()
    await scene.observer.rest(REST_SECONDS)


async def resync_sweeps(scene: Scene) -> None:
    """Users and keys of a deleted pool leave Redis."""
    await scene.lane.pool(CREATED)
    await until(lambda: ready(scene.lane), CONVERGE_SECONDS)
    await scene.lane.remove()
    left = await scene.lane.swept()
    assert not left, left[:3]


async def calls_do_not_grow(scene: Scene) -> None:
    """Reads at rest are as many for twelve waiting pods as for two."""
    reads = []
    for count in (2, 12):
        await scene.lane.pool({"warmup": {"count": count}, "tiers": {"warm": {"replicas": 1}}})
        await until(lambda: ready(scene.lane), CONVERGE_SECONDS)
        await asyncio.sleep(RESYNC_SECONDS)
        scene.lane.proxy.reset_count()
        await asyncio.sleep(REST_SECONDS)
        quiet = [
            call for call in scene.lane.proxy.calls if call.resource != "leases" and call.verb != "watch"
        ]
        reads.append(len(quiet))
    few, many = reads
    # Twelve seconds hold two full looks or three.
    assert 0 < many <= 2 * few, f"{few} reads with 2 pods, {many} with 12"


CASES: Mapping[str, Case] = {
    "frozen watch": frozen_watch,
    "deletion unseen": deletion_unseen,
    "deletion without an operator": deletion_without_an_operator,
    "events lost": events_lost,
    "events doubled": events_doubled,
    "pods unseen": pods_unseen,
    "watch expired (410)": watch_expired,
    "watch refused (403)": watch_refused,
    "watches cut": watches_cut,
    "older list after a restart": older_list,
    "frozen leader": frozen_leader,
    "API server away": server_away,
    "slow API server": slow_server,
    "requests refused (429)": refused_reads,
    "unschedulable pods": unschedulable,
    "at rest": at_rest,
    "sweep of Redis": resync_sweeps,
    "calls do not grow with the pool": calls_do_not_grow,
}

LEASE_CASES = ("frozen leader", "API server away")
"""Those that wait for the end of a Lease."""


async def run_case(name: str, scene: Scene, findings: Findings) -> list[str]:
    """One case from an empty lane; what was violated."""
    lane = scene.lane
    await lane.clear()
    lane.resync_seconds = RESYNC_SECONDS
    if name in LEASE_CASES:
        lane.lease_seconds = SHORT_LEASE_SECONDS
    await lane.start()
    await lane.ready()
    await lane.watches()
    scene.observer.history.clear()
    found: list[str] = []
    try:
        await CASES[name](scene)
    except (AssertionError, TimeoutError) as exc:
        found.append(str(exc) or "did not end in time")
    found += scene.observer.violations()
    for one in found[:5]:
        findings.violate(name, one)
    return found
