# SPDX-License-Identifier: Apache-2.0
"""The operator's looks at a pool: where it goes on, what it shows when, and what it has its hosts do."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from agentpool_core.cluster import ROLE_WARM
from agentpool_core.errors import Conflict
from agentpool_core.lifecycle import Tier
from agentpool_core.scaling import Action, Direction, Verdict
from agentpool_operator.desired.naming import Owner
from agentpool_operator.plan.views import HostView, LoadView, PodView
from agentpool_operator.queue import WorkQueue
from agentpool_operator.reconcile.parts import Parts
from agentpool_operator.reconcile.run import Run
from agentpool_operator.reconcile.scaling import LOOK_SECONDS, Scaling
from agentpool_operator.report.scaling import LASTING_SECONDS
from support.builders import agent_pool, effective_pool
from support.kube_objects import NOW, held, host, pod

PLACE = ("default", "support")
SPEC = {"scaling": {"enabled": True, "maxReplicas": 4, "cooldownSeconds": 60}}


class Link:
    """A host that is asked to send instances away."""

    def __init__(self, refuses: bool = False) -> None:
        self.refuses = refuses
        self.asked: list[str] = []

    async def send_away(self, instance_id: str) -> None:
        self.asked.append(instance_id)
        await asyncio.sleep(0)
        if self.refuses:
            raise Conflict("The instance does not get idle.")


class Fleet:
    """As much of a fleet as a look needs."""

    def __init__(self) -> None:
        self.pods: list[tuple[PodView, HostView | None]] = []
        self.links: dict[str, Link] = {}
        self.configured: Any = effective_pool(SPEC)

    def effective(self, _place: Any) -> Any:
        return self.configured

    def shared(self, _place: Any) -> list[tuple[PodView, HostView | None]]:
        return self.pods

    def link(self, uid: str) -> Link | None:
        return self.links.get(uid)

    def bear(self, *millis: int | None, residents: int = 0) -> None:
        """So many pods, each with that CPU; None: silent. The first holds the instances."""
        self.pods = []
        for number, cpu in enumerate(millis):
            one = pod(f"p{number}", ROLE_WARM)
            instances = [held(f"i{n}", tier=Tier.WARM) for n in range(residents if number == 0 else 0)]
            load = LoadView(workers_cpu_millis=cpu or 0)
            self.pods.append((one, None if cpu is None else host(one, *instances, load=load)))
            self.links.setdefault(one.uid, Link())


class Rig:
    """Looks at one pool every five seconds."""

    def __init__(self) -> None:
        self.now = NOW
        self.fleet, self.queue = Fleet(), WorkQueue()
        self.seen: list[tuple[Verdict, Action | None]] = []
        parts = SimpleNamespace(fleet=self.fleet, queue=self.queue, wall=lambda: self.now)
        self.scaling = Scaling(
            cast(Parts, parts), lambda verdict, action: self.seen.append((verdict, action))
        )

    def run(self, status: Any = None, spec: Any = SPEC) -> Run:
        body = {"status": {"scaling": status} if status else {}}
        return Run(body, Owner(*PLACE, "uid"), agent_pool(spec), effective_pool(spec), cast(Any, None))

    def looks(self, number: int) -> None:
        for _ in range(number):
            self.now += LOOK_SECONDS
            self.scaling.look(PLACE)


def test_it_begins_with_what_there_is_within_the_bounds() -> None:
    assert Rig().scaling.replicas(Rig().run(), None) == 2
    assert Rig().scaling.replicas(Rig().run(), 3) == 3
    assert Rig().scaling.replicas(Rig().run(), 9) == 4
    rig = Rig()
    assert rig.scaling.replicas(rig.run({"desiredReplicas": 4}), 2) == 4


def test_the_cooldown_of_an_earlier_operator_holds() -> None:
    rig = Rig()
    last = {"direction": "Up", "at": "2027-01-15T07:59:50Z"}
    rig.scaling.replicas(rig.run({"desiredReplicas": 2, "lastAction": last}), 2)
    rig.fleet.bear(99, 99)
    rig.looks(3)
    assert rig.seen[-1] == (Verdict.COOLDOWN, None)
    rig.looks(10)
    assert [action.direction for _, action in rig.seen if action is not None] == [Direction.UP]


def test_an_action_is_news_once_and_has_the_pool_looked_at() -> None:
    rig = Rig()
    rig.scaling.replicas(rig.run(), 2)
    rig.fleet.bear(99, 99)
    rig.looks(4)
    assert rig.scaling.known(rig.run()) == 4
    (note,) = rig.scaling.news(PLACE)
    assert (note.reason, note.action) == ("ScaledUp", "Scale")
    assert note.text.startswith("CpuHigh: From 2 to 4 pods")
    assert rig.scaling.news(PLACE) == []
    assert len(rig.queue) == 1
    report = rig.scaling.report(PLACE, rig.fleet.configured)
    assert report is not None
    assert (report.desired, report.acted_at) == (4, NOW + 3 * LOOK_SECONDS)


def test_a_hindrance_is_shown_once_it_lasts_and_goes_when_it_is_gone_for_as_long() -> None:
    rig = Rig()
    rig.scaling.replicas(rig.run(), 2)

    def shown() -> Verdict | None:
        report = rig.scaling.report(PLACE, rig.fleet.configured)
        assert report is not None
        return report.hindrance

    lasting = round(LASTING_SECONDS / LOOK_SECONDS)
    rig.fleet.bear(50, None)
    rig.looks(lasting)
    assert (shown(), len(rig.queue)) == (None, 0)
    rig.looks(2)
    assert (shown(), len(rig.queue)) == (Verdict.MISSING, 1)
    rig.fleet.bear(50, 50)
    rig.looks(lasting)
    assert shown() is Verdict.MISSING
    rig.looks(2)
    assert shown() is None


def test_who_is_not_asked_any_more_forgets() -> None:
    rig = Rig()
    rig.scaling.replicas(rig.run(), 2)
    external = {"scaling": {"enabled": True, "mode": "External"}}
    assert rig.scaling.replicas(rig.run(spec=external), 2) is None
    assert rig.scaling.pools == 0
    report = rig.scaling.report(PLACE, effective_pool(external))
    assert report is not None
    assert report.desired is None
    assert rig.scaling.report(PLACE, effective_pool()) is None


async def test_crowded_pods_are_asked_and_one_that_refuses_is_asked_again() -> None:
    rig = Rig()
    rig.scaling.replicas(rig.run(), 2)
    rig.fleet.bear(10, 10, residents=30)
    link = rig.fleet.links["uid-p0"]
    link.refuses = True
    rig.looks(1)
    await asyncio.sleep(0.01)
    asked = len(link.asked)
    assert 0 < asked <= 4
    # Not asked twice while it is under way, and again once it said no.
    rig.looks(1)
    rig.looks(1)
    await asyncio.sleep(0.01)
    assert len(link.asked) == 2 * asked
    assert rig.fleet.links["uid-p1"].asked == []


def test_a_tier_that_takes_nobody_is_left_alone() -> None:
    rig = Rig()
    rig.scaling.replicas(rig.run(), 2)
    rig.fleet.configured = effective_pool({**SPEC, "tiers": {"warm": {"maxInstances": 0}}})
    rig.fleet.bear(99, 99)
    rig.looks(5)
    assert (rig.seen, len(rig.queue)) == ([], 0)
