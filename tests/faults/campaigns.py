# SPDX-License-Identifier: Apache-2.0
"""The campaigns of `make faults`: what is tried, and how much of it in CI and in full."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from agentpool_operator.kube.client import KubeClient
from faults import crashes as crash_points
from faults import stores
from faults.findings import Findings
from faults.lane import Lane
from faults.observer import observed
from faults.planted import PLANTS
from faults.schema import Mutation, draw, spec_schema
from faults.scripts import Learned
from faults.specs import MISTAKES, SEED, Live, admit, live_steps
from faults.stale import CASES, Scene, run_case
from support.apiserver import ApiServer
from support.faultplan import ERRORS

CI_MUTATIONS, CI_LIVE = 300, 36
FULL_MUTATIONS, FULL_LIVE = 1000, 180
HYPOTHESIS_SEED = 20
STEPS = 6
"""Changes of one pool, before it is compared with a new one."""
CRASH_TRIES = 6
"""Lives that may try to reach a point: the operator does not write as often in each of them."""


@dataclass(slots=True)
class World:
    """What all campaigns share.

    Attributes:
        learned: what a run without faults shows; there before any job is.
    """

    api: ApiServer
    client: KubeClient
    findings: Findings
    full: bool
    learned: Learned = field(default_factory=lambda: Learned({}, {}))
    began: float = field(default_factory=time.monotonic)

    def say(self, words: str) -> None:
        """A line of progress."""
        print(f"[{time.monotonic() - self.began:5.0f} s] {words}", flush=True)  # noqa: T201


@dataclass(frozen=True, slots=True)
class Job:
    """Something to do on a lane; what it finds wrong it tells the findings, and returns how it went."""

    name: str
    do: Callable[[Lane], Awaitable[str]]


def _how(violations: Sequence[str]) -> str:
    return violations[-1][:400] if violations else "ok"


async def crashes(world: World, jobs: deque[Job]) -> None:
    """SIGKILL before and after each write; an API error at each write."""
    findings, learned = world.findings, world.learned
    writes = {name: len(one) for name, one in learned.writes.items()}
    every = crash_points.lives(writes)
    findings.of["crash points"] = sum(map(len, every))

    def life(number: int, points: crash_points.Life, tries: int) -> Job:
        async def one(lane: Lane) -> str:
            lived = await crash_points.crash_life(lane, learned, points, findings)
            missed = {phase: points[phase] for phase in lived.missed}
            if missed and tries < CRASH_TRIES and not lived.violations:
                jobs.append(life(number, missed, tries + 1))
            else:
                findings.tried["crash points not reached"] += len(missed)
                findings.notes += [
                    f"not reached in {CRASH_TRIES} lives: {point} of {phase}"
                    for phase, point in missed.items()
                ]
            return _how(lived.violations)

        return Job(f"crashes: life {number}", one)

    def refused(error: str, offset: int) -> Job:
        async def one(lane: Lane) -> str:
            return _how(await crash_points.error_life(lane, learned, error, offset, findings))

        return Job(f"crashes: {error} at each write {offset} mod {crash_points.STRIDE}", one)

    jobs.extend(refused(error, offset) for error in ERRORS for offset in range(crash_points.STRIDE))
    jobs.extend(life(number, points, 1) for number, points in enumerate(every, 1))


async def stale(world: World, jobs: deque[Job]) -> None:
    """Everything about views that are old or incomplete."""
    world.findings.of["stale and unobserved states"] = len(CASES)

    def case(name: str) -> Job:
        async def one(lane: Lane) -> str:
            async with observed(lane, world.api) as observer:
                found = await run_case(name, Scene(lane, world.learned, observer), world.findings)
            world.findings.tried["stale and unobserved states"] += 1
            return _how(found)

        return Job(f"stale: {name}", one)

    jobs.extend(map(case, CASES))


def _drawn(world: World) -> list[Mutation]:
    """Try all mutations against admission; those that are to be applied live."""
    count = FULL_MUTATIONS if world.full else CI_MUTATIONS
    world.findings.of["spec mutations"] = count
    drawn = draw(count, HYPOTHESIS_SEED, spec_schema())
    lawful = [one for one in drawn if admit(world.api, one, SEED, world.findings) and one.lawful]
    return lawful[: FULL_LIVE if world.full else CI_LIVE]


async def specs(world: World, jobs: deque[Job]) -> None:
    """Mutations of the spec: all of them against admission, a share of them live."""
    live = await asyncio.to_thread(_drawn, world)
    world.say(f"specs: {world.findings.tried['spec mutations']} against admission")

    def steps(number: int) -> Job:
        async def one(lane: Lane) -> str:
            await live_steps(lane, live[number : number + STEPS], number // STEPS, world.findings)
            return f"{world.findings.tried['mutations applied live']} applied live so far"

        return Job(f"specs: sequence {number // STEPS + 1}", one)

    jobs.extend(steps(number) for number in range(0, len(live), STEPS))


async def planted(world: World, jobs: deque[Job]) -> None:
    """Each oracle finds the bug that was put into the operator for it."""

    def bug(name: str) -> Job:
        async def one(lane: Lane) -> str:
            lane.plant, lane.clean = name, False
            try:
                found = await _finds(world, lane, name)
            finally:
                lane.plant, lane.clean = "", False
            world.findings.planted[PLANTS[name].oracle] = (name, found)
            return f"{'found' if found else 'NOT FOUND'} by {PLANTS[name].oracle}"

        return Job(f"planted: {name}", one)

    for name, plant in PLANTS.items():
        world.findings.planted[plant.oracle] = (name, False)
        jobs.append(bug(name))


async def _finds(world: World, lane: Lane, name: str) -> bool:
    """Whether the oracle of a planted bug complains."""
    found, learned = Findings(), world.learned
    cases = {"zombie leader": "frozen leader", "edges only": "frozen watch", "hot loop": "at rest"}
    if name in cases:
        async with observed(lane, world.api) as observer:
            await run_case(cases[name], Scene(lane, learned, observer), found)
        return bool(found.violations)
    if name == "half done":
        for write in range(1, len(learned.writes["create"])):
            life = {"create": crash_points.Point(write, True)}
            lived = await crash_points.crash_life(lane, learned, life, found)
            if lived.violations:
                return True
        return False
    live = Live(lane, found)
    await live.begin()
    for mutation in _SHOWS[name]:
        await live.step(mutation)
    if PLANTS[name].oracle == "differential":
        await live.compare()
    if PLANTS[name].oracle == "recovery":
        await live.recover(MISTAKES[0])
    return any(one.startswith(PLANTS[name].oracle) for one in found.violations)


async def redis(world: World) -> None:
    """Redis in trouble under a whole pool."""
    world.findings.of["Redis faults"] = len(stores.TROUBLES)
    for name in stores.TROUBLES:
        before = len(world.findings.violations)
        await stores.suffer(name, world.findings)
        new = [one for one in world.findings.violations[before:] if one.startswith(name)]
        world.say(f"redis: {name}: {new[0][:160] if new else 'ok'}")
    world.findings.planted["acknowledged increments"] = ("unsaved answers", False)
    await stores.unsaved_answers(world.findings)


_SHOWS: Mapping[str, tuple[Mutation, ...]] = {
    "ignored field": (Mutation(("limits", "maxInstances"), 7),),
    "made once": (Mutation(("agent", "image"), "registry.test/other:1"),),
    "waits for start": (),
    "crash on a field": (Mutation(("defaultTier",), "HOT"),),
}
"""What brings each planted bug to light."""
