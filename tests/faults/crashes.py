# SPDX-License-Identifier: Apache-2.0
"""Crash points and API errors: the operator dies, or is refused, at each of its writes in turn.

After every one of them the world must end in the state in which it ends without.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from faults.findings import Findings
from faults.lane import Lane
from faults.scripts import ARRIVE_SECONDS, PHASES, Learned, Phase
from faults.state import first_difference
from support.faultplan import ERRORS, Drop, Rule

SWEEP_SECONDS = 15.0
STRIDE = 5
"""An error life refuses every fifth write: in five lives each write is refused once."""


@dataclass(frozen=True, slots=True)
class Point:
    """Where the operator dies: at its n-th write of a phase, before or after the server carried it out."""

    write: int
    committed: bool

    def __str__(self) -> str:
        return f"{'after' if self.committed else 'before'} write {self.write}"


Life = Mapping[str, Point]
"""The crash points of one life of a pool, by phase."""


def lives(writes: Mapping[str, int]) -> list[Life]:
    """Lives that have a crash at every point: one in each phase of each life, as long as there are some."""
    longest = max(writes.values(), default=0)
    return [
        {phase: Point(number, committed) for phase, count in writes.items() if number <= count}
        for number in range(1, longest + 1)
        for committed in (False, True)
    ]


@dataclass(slots=True)
class Lived:
    """How a life went.

    Attributes:
        missed: phases in which the operator did not come as far as its point.
    """

    violations: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)


async def crash_life(lane: Lane, learned: Learned, life: Life, findings: Findings) -> Lived:
    """One life, as far as every phase ends as it should; at its end nothing of it is left in Redis."""
    lived = Lived()
    await _begin(lane)
    for phase in PHASES:
        wanted = learned.states[phase.name]
        point = life.get(phase.name)
        if point is None:
            await _act(lane, phase)
        elif await _crash(lane, phase, point, wanted):
            findings.tried["crash points"] += 1
        else:
            lived.missed.append(phase.name)
        found = await lane.becomes(wanted)
        if found != wanted:
            where = f"crash {point} of {phase.name}" if point else f"{phase.name} after {_words(life)}"
            lived.violations.append(f"{where}: {first_difference(wanted, found)}")
            break
    else:
        lived.violations += await _unswept(lane, life)
    findings.violations += lived.violations
    lane.clean = not lived.violations
    return lived


async def _unswept(lane: Lane, life: Life) -> list[str]:
    """What the first full look of an operator leaves in Redis of the pool that is gone."""
    await lane.kill()
    await lane.start()
    await lane.watches()
    left = await lane.swept(SWEEP_SECONDS)
    return [f"{_words(life)}: a full look leaves {left[:3]}"] if left else []


def _words(life: Life) -> str:
    return ", ".join(f"crash {point} of {phase}" for phase, point in life.items())


async def _begin(lane: Lane) -> None:
    """Begin from nothing, unless the last life ended in just that."""
    if not lane.clean:
        await lane.clear()
        await lane.start()
        await lane.ready()
        await lane.watches()
    lane.clean = False


async def _act(lane: Lane, phase: Phase) -> None:
    lane.proxy.reset_count()
    await phase.act(lane)


async def _crash(lane: Lane, phase: Phase, point: Point, wanted: tuple[str, ...]) -> bool:
    """Do what the phase does, and have the operator die at the point; whether it was reached."""
    lane.proxy.reset_count()
    crashed = asyncio.Event()

    async def crash() -> None:
        await lane.kill()
        crashed.set()

    rule = Rule(lambda call: call.write == point.write, Drop(point.committed, crash))
    lane.proxy.rules.append(rule)
    await phase.act(lane)
    arrived = asyncio.create_task(lane.becomes(wanted, ARRIVE_SECONDS))
    died = asyncio.create_task(crashed.wait())
    await asyncio.wait({arrived, died}, return_when=asyncio.FIRST_COMPLETED)
    if rule.applied:
        await crashed.wait()
    for task in (arrived, died):
        task.cancel()
    await asyncio.gather(arrived, died, return_exceptions=True)
    lane.proxy.rules.clear()
    if rule.applied:
        await lane.start()
        await lane.watches()
    return bool(rule.applied)


async def error_life(lane: Lane, learned: Learned, error: str, offset: int, findings: Findings) -> list[str]:
    """One life in which every fifth write is refused once; what it did not end in as it should."""
    await _begin(lane)
    for phase in PHASES:
        lane.proxy.reset_count()
        rule = Rule(lambda call: call.write > 0 and call.write % STRIDE == offset, ERRORS[error], count=None)
        # The write in which the refused one is tried again has another number.
        lane.proxy.rules.append(rule)
        await phase.act(lane)
        wanted = learned.states[phase.name]
        found = await lane.becomes(wanted, ARRIVE_SECONDS)
        findings.tried["writes refused with an error"] += rule.applied
        lane.proxy.rules.clear()
        if found != wanted:
            where = f"{error} at write {offset} mod {STRIDE} of {phase.name}"
            findings.violate(where, first_difference(wanted, found))
            return findings.violations[-1:]
    lane.clean = True
    return []
