# SPDX-License-Identifier: Apache-2.0
"""Crash points and API errors: the operator dies, or is refused, at each of its writes in turn.

After every one of them the world must end in the state in which it ends without.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from faults.findings import Findings
from faults.lane import Lane, until
from faults.scripts import ARRIVE_SECONDS, PHASES, Learned, Phase
from faults.state import first_difference
from support.faultplan import ERRORS, Drop, Rule

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


def sample(all_lives: Sequence[Life], most: int) -> list[Life]:
    """At most that many, evenly spread, the first and the last among them."""
    if len(all_lives) <= most:
        return list(all_lives)
    step = (len(all_lives) - 1) / (most - 1) if most > 1 else 0
    return [all_lives[round(number * step)] for number in range(most)]


async def crash_life(lane: Lane, learned: Learned, life: Life, findings: Findings) -> bool:
    """One life; whether every phase ended as it should."""
    for phase in PHASES:
        wanted = learned.states[phase.name]
        point = life.get(phase.name)
        if point is None:
            await _act(lane, phase)
        else:
            reached = await _crash(lane, phase, point, wanted)
            findings.tried["crash points"] += reached
            findings.tried["crash points not reached"] += not reached
        found = await lane.becomes(wanted)
        if found != wanted:
            where = f"crash {point} of {phase.name}"
            findings.violate(where, first_difference(wanted, found))
            return False
    return True


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


async def error_life(lane: Lane, learned: Learned, error: str, offset: int, findings: Findings) -> bool:
    """One life in which every fifth write is refused once."""
    for phase in PHASES:
        lane.proxy.reset_count()
        rule = Rule(lambda call: call.write > 0 and call.write % STRIDE == offset, ERRORS[error], count=None)
        # The write in which the refused one is tried again has another number.
        if call_count(learned, phase) > offset:
            lane.proxy.rules.append(rule)
        await phase.act(lane)
        wanted = learned.states[phase.name]
        found = await lane.becomes(wanted, ARRIVE_SECONDS)
        findings.tried["API errors at writes"] += rule.applied
        lane.proxy.rules.clear()
        if found != wanted:
            findings.violate(
                f"{error} at write {offset} mod {STRIDE} of {phase.name}", first_difference(wanted, found)
            )
            return False
    return True


def call_count(learned: Learned, phase: Phase) -> int:
    """Writes of a phase without faults."""
    return len(learned.writes[phase.name])


async def afresh(lane: Lane) -> None:
    """Begin again from nothing, after a life that did not end well."""
    await lane.clear()
    await lane.start()
    await until(lambda: any(one.alive for one in lane.operators), ARRIVE_SECONDS)
    await lane.ready()
    await lane.watches()
