# SPDX-License-Identifier: Apache-2.0
"""The campaigns of `make faults`: what is tried, on how many lanes, how much of it in CI and in full."""

from __future__ import annotations

import asyncio
import sys
import time
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from agentpool_operator.kube.client import KubeClient
from faults import crashes as crash_points
from faults import stores
from faults.findings import Findings
from faults.lane import Lane, open_lane
from faults.observer import observed
from faults.planted import PLANTS
from faults.regressions import KNOWN_BUGS, RACES, missing, named_tests
from faults.schema import Mutation, draw, spec_schema
from faults.scripts import Learned, learn, prepare
from faults.specs import MISTAKES, SEED, Live, admit, live_steps
from faults.stale import CASES, Scene, run_case
from support.apiserver import ApiServer
from support.faultplan import ERRORS
from support.repository import ROOT

LANES = 2
CI_LIVES, CI_MUTATIONS, CI_LIVE = 24, 300, 36
FULL_MUTATIONS, FULL_LIVE = 1000, 180
HYPOTHESIS_SEED = 20
REGRESSION_SECONDS = 1800.0
STEPS = 6
"""Changes of one pool, before it is compared with a new one."""


@dataclass(slots=True)
class World:
    """What all campaigns share."""

    api: ApiServer
    client: KubeClient
    findings: Findings
    full: bool
    began: float = field(default_factory=time.monotonic)
    learned: Learned | None = None

    def say(self, words: str) -> None:
        """A line of progress."""
        print(f"[{time.monotonic() - self.began:5.0f} s] {words}", flush=True)  # noqa: T201

    async def know(self, lane: Lane) -> Learned:
        """What a run without faults shows; learnt once."""
        if self.learned is None:
            await prepare(lane)
            self.learned = await learn(lane)
            counts = ", ".join(f"{name} {len(writes)}" for name, writes in self.learned.writes.items())
            self.say(f"learnt: writes {counts}")
            await lane.kill()
        return self.learned


async def _on_lanes(
    world: World, jobs: Sequence[Callable[[Lane], Awaitable[None]]], lanes: int = LANES
) -> None:
    """Do all jobs, each on the first lane that is free."""
    waiting = list(reversed(jobs))

    async def take(lane: Lane) -> None:
        while waiting:
            await waiting.pop()(lane)
        world.findings.injected.update(lane.proxy.injected)

    async with AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(open_lane(world.api, world.client)) for _ in range(lanes)]
        await world.know(opened[0])
        async with asyncio.TaskGroup() as tasks:
            for lane in opened:
                tasks.create_task(take(lane))


def _how(well: bool, findings: Findings) -> str:
    return "ok" if well or not findings.violations else findings.violations[-1][:400]


async def crashes(world: World) -> None:
    """SIGKILL before and after each write; an API error at each write."""
    findings = world.findings

    def life(number: int, points: crash_points.Life) -> Callable[[Lane], Awaitable[None]]:
        async def one(lane: Lane) -> None:
            learned = await world.know(lane)
            if not lane.operators:
                await crash_points.afresh(lane)
            well = await crash_points.crash_life(lane, learned, points, findings)
            world.say(f"crashes: life {number}: {_how(well, findings)}")
            if not well:
                await lane.clear()

        return one

    def refused(error: str, offset: int) -> Callable[[Lane], Awaitable[None]]:
        async def one(lane: Lane) -> None:
            learned = await world.know(lane)
            if not lane.operators:
                await crash_points.afresh(lane)
            well = await crash_points.error_life(lane, learned, error, offset, findings)
            words = f"{error} at each write {offset} mod {crash_points.STRIDE}"
            world.say(f"crashes: {words}: {_how(well, findings)}")
            if not well:
                await lane.clear()

        return one

    async with open_lane(world.api, world.client) as lane:
        learned = await world.know(lane)
    every = crash_points.lives({name: len(writes) for name, writes in learned.writes.items()})
    chosen = every if world.full else crash_points.sample(every, CI_LIVES)
    findings.of["crash points"] = sum(len(one) for one in every)
    jobs = [life(number, points) for number, points in enumerate(chosen, 1)]
    jobs += [refused(error, offset) for error in ERRORS for offset in range(crash_points.STRIDE)]
    await _on_lanes(world, jobs)


async def stale(world: World) -> None:
    """Everything about views that are old or incomplete."""

    def case(name: str) -> Callable[[Lane], Awaitable[None]]:
        async def one(lane: Lane) -> None:
            learned = await world.know(lane)
            async with observed(lane, world.api) as observer:
                well = await run_case(name, Scene(lane, learned, observer), world.findings)
            world.findings.tried["stale and unobserved states"] += 1
            world.say(f"stale: {name}: {_how(well, world.findings)}")

        return one

    await _on_lanes(world, [case(name) for name in CASES])


def _drawn(world: World) -> tuple[list[Mutation], list[Mutation]]:
    """All mutations, and those of them that are applied live."""
    drawn = draw(FULL_MUTATIONS if world.full else CI_MUTATIONS, HYPOTHESIS_SEED, spec_schema())
    admitted = [one for one in drawn if admit(world.api, one, SEED, world.findings)]
    lawful = [one for one in admitted if one.lawful]
    return drawn, lawful[: FULL_LIVE if world.full else CI_LIVE]


async def specs(world: World) -> None:
    """Mutations of the spec: all of them against admission, a share of them live."""
    _, live = await asyncio.to_thread(_drawn, world)
    world.say(f"specs: {world.findings.tried['spec mutations']} against admission")

    def steps(number: int) -> Callable[[Lane], Awaitable[None]]:
        async def one(lane: Lane) -> None:
            await live_steps(lane, live[number : number + STEPS], number // STEPS, world.findings)
            world.say(f"specs: {world.findings.tried['mutations applied live']} applied live")

        return one

    await _on_lanes(world, [steps(number) for number in range(0, len(live), STEPS)])


async def redis(world: World) -> None:
    """Redis in trouble under a whole pool."""
    for name in stores.TROUBLES:
        before = len(world.findings.violations)
        await stores.suffer(name, world.findings)
        new = world.findings.violations[before:]
        world.say(f"redis: {name}: {new[0][:160] if new else 'ok'}")
    await stores.unsaved_answers(world.findings)


async def regressions(world: World) -> None:
    """The tables of known bugs and races: their tests, whole files of them in full only."""
    world.findings.tried["regressions and races"] = len(KNOWN_BUGS) + len(RACES)
    for one in missing():
        world.findings.violate("regressions", f"there is no test {one}")
    tests = sorted({test for _, test in named_tests() if not test.startswith("tests/e2e/")})
    chosen = [test.removesuffix("::*") for test in tests if world.full or not test.endswith("::*")]
    world.findings.tried["tests run for them"] = len(chosen)
    world.findings.of["tests run for them"] = len({test for _, test in named_tests()})
    command = (sys.executable, "-m", "pytest", "-q", *chosen)
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=PIPE, stderr=STDOUT)
    try:
        async with asyncio.timeout(REGRESSION_SECONDS):
            output, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        world.findings.violate("regressions", f"not done in {REGRESSION_SECONDS:g} s")
        return
    for line in output.decode(errors="replace").splitlines():
        if line.startswith(("FAILED", "ERROR")):
            world.findings.violate("regressions", line[:200])
    if process.returncode and not world.findings.violations:
        world.findings.violate("regressions", f"pytest ends with {process.returncode}")


async def planted(world: World) -> None:
    """Each oracle finds the bug that was put into the operator for it."""
    async with open_lane(world.api, world.client) as lane:
        learned = await world.know(lane)
        for name, plant in PLANTS.items():
            await lane.clear()
            lane.plant = name
            try:
                found = await _finds(world, lane, learned, name)
            finally:
                lane.plant = ""
            world.findings.planted[plant.oracle] = (name, found)
            world.say(f"planted: {name}: {'found' if found else 'NOT FOUND'} by {plant.oracle}")


async def _finds(world: World, lane: Lane, learned: Learned, name: str) -> bool:
    """Whether the oracle of a planted bug complains."""
    found = Findings()
    cases = {"zombie leader": "frozen leader", "edges only": "frozen watch", "hot loop": "at rest"}
    if name in cases:
        async with observed(lane, world.api) as observer:
            await run_case(cases[name], Scene(lane, learned, observer), found)
        return bool(found.violations)
    if name == "half done":
        await crash_points.afresh(lane)
        for write in range(1, len(learned.writes["create"])):
            life = {"create": crash_points.Point(write, True)}
            if not await crash_points.crash_life(lane, learned, life, found):
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


_SHOWS: Mapping[str, tuple[Mutation, ...]] = {
    "ignored field": (Mutation(("limits", "maxInstances"), 7),),
    "made once": (Mutation(("agent", "image"), "registry.test/other:1"),),
    "waits for start": (),
    "crash on a field": (Mutation(("defaultTier",), "HOT"),),
}
"""What brings each planted bug to light."""
