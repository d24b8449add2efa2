# SPDX-License-Identifier: Apache-2.0
"""`make scale`: the control plane with 1,000 declared and 1,000 undeclared instances, at rest and not."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import psutil

from benchmarks.processes import private_bytes
from chaos import processes
from chaos.application import Application
from chaos.campaign import application_of
from chaos.console import say
from chaos.history import Check, End, Operation, Sent
from chaos.pools import pool_of, release
from support.e2e import SYSTEM, Installed, Pool, declaration
from tools.devcluster.places import Places

REST_SECONDS = 60.0
SETTLE_SECONDS = 60.0
"""Counts in status follow within a minute."""
CHURN_SECONDS = 60.0
SETTLED_SECONDS = 600.0
CALLERS = 4
SAMPLE_SECONDS = 1.0
PER_POD = 500
TIERS = {
    "warm": {
        "replicas": 2,
        "instancesPerReplica": PER_POD,
        "idleSeconds": 3600,
        "quota": {"memory": "64Mi", "cpu": "100m", "concurrentRequests": 10, "requestsPerMinute": 100_000},
        "resources": {"requests": {"cpu": "100m", "memory": "512Mi"}},
    }
}
"""Half of the instances have room at a time: the others come back when they are asked."""
LIMITS = {"memory": 120.0, "cpu": 2.0}
"""The design's: MB, and percent of a core at rest."""


@dataclass
class Phase:
    """What the operator used and wrote in a span of time.

    Attributes:
        memory: private MB at the end, and the most.
        writes: objects that operator and gateways wrote, Leases and reviews left out.
    """

    name: str
    seconds: float = 0.0
    cpu_percent: float = 0.0
    memory: tuple[float, float] = (0.0, 0.0)
    writes: Counter[str] = field(default_factory=Counter)
    note: str = ""


@dataclass
class Meter:
    """Watches the operator's process and the audit log."""

    process: psutil.Process
    phases: list[Phase] = field(default_factory=list)

    async def during(self, name: str, act: Callable[[], Awaitable[str]]) -> Phase:
        """Measure while something is done; its words become the note."""
        log = Places().logs / "audit.log"
        began, cpu, offset = time.monotonic(), self._cpu(), log.stat().st_size
        work = asyncio.ensure_future(act())
        most = 0.0
        while not work.done():
            most = max(most, self._memory())
            await asyncio.wait([work], timeout=SAMPLE_SECONDS)
        seconds = time.monotonic() - began
        percent = 100 * (self._cpu() - cpu) / seconds
        phase = Phase(name, seconds, percent, (self._memory(), most), written(offset), work.result())
        self.phases.append(phase)
        say(row(phase))
        return phase

    def _cpu(self) -> float:
        return processes.cpu_seconds([self.process])

    def _memory(self) -> float:
        return private_bytes(self.process.pid) / 2**20


def written(offset: int) -> Counter[str]:
    """Objects that the release wrote after a place in the audit log, by verb and resource."""
    ours = tuple(f"system:serviceaccount:{SYSTEM}:agentpool-{part}" for part in ("operator", "gateway"))
    found: Counter[str] = Counter()
    with (Places().logs / "audit.log").open("rb") as log:
        log.seek(offset)
        for line in log:
            if ours[0].encode() not in line and ours[1].encode() not in line:
                continue
            event = json.loads(line)
            reference = event["objectRef"]
            name = "/".join(filter(None, (reference["resource"], reference.get("subresource"))))
            if (
                event["user"]["username"] in ours
                and reference["resource"] != "leases"
                and "review" not in name
            ):
                found[f"{event['verb']} {name}"] += 1
    return found


@dataclass
class Scale:
    """One pool with many instances."""

    pool: Pool
    application: Application
    rng: random.Random
    declared: int
    undeclared: int
    _numbers: int = 0

    async def declare(self) -> str:
        """Write the declarations, one of five of them as paused, and wait until each has a status."""
        began = time.monotonic()
        names = [(f"declared-{number}", number % 5 == 0) for number in range(self.declared)]
        await _each([partial(asyncio.to_thread, self._apply, name, paused) for name, paused in names])
        applied = time.monotonic() - began
        states = await self._settled()
        return f"written in {applied:.0f} s, all seen after {time.monotonic() - began:.0f} s: {dict(states)}"

    def _apply(self, name: str, paused: bool) -> None:
        wanted = {"tier": "WARM", "state": "Paused" if paused else "Running"}
        self.pool.kube.apply(
            "agentinstances", declaration(self.pool.namespace, name, self.pool.name, **wanted)
        )

    async def _settled(self) -> Counter[str]:
        deadline = time.monotonic() + SETTLED_SECONDS
        while True:
            found = await asyncio.to_thread(self.pool.kube.list, "agentinstances", self.pool.namespace)
            if all(_observed(one) for one in found):
                return Counter(
                    f"{one['status'].get('state')} {one['status'].get('reason', '')}".strip() for one in found
                )
            if time.monotonic() > deadline:
                left = [one["metadata"]["name"] for one in found if not _observed(one)]
                raise RuntimeError(f"{len(left)} declarations are not settled, such as {left[:3]}")
            await asyncio.sleep(2)

    async def ask(self) -> str:
        """One request to each undeclared instance, which makes it."""
        ends = await _each([partial(self._ask, f"asked-{number}") for number in range(self.undeclared)])
        return f"{ends.count(End.ANSWERED)} of {len(ends)} answered"

    async def _ask(self, project: str) -> End | None:
        self._numbers += 1
        one = Sent(self._numbers, project, "WARM", Operation.ADD, time.monotonic())
        await self.application.carry_out(one)
        return one.end

    async def churn(self) -> str:
        """Each second: five requests to any instance, two declarations that change, one new, one deleted."""
        until, ends = time.monotonic() + CHURN_SECONDS, list[End | None]()
        changed = 0
        while (begun := time.monotonic()) < until:
            asked = [f"asked-{self.rng.randrange(self.undeclared)}" for _ in range(5)]
            ends += await _each([partial(self._ask, project) for project in asked])
            for number in self.rng.sample(range(self.declared), 2):
                paused = self.rng.random() < 0.5
                await asyncio.to_thread(self._apply, f"declared-{number}", paused)
            await asyncio.to_thread(self._apply, f"brief-{changed}", False)
            if changed:
                await asyncio.to_thread(self._delete, f"brief-{changed - 1}")
            changed += 1
            await asyncio.sleep(max(0.0, begun + 1 - time.monotonic()))
        answered = ends.count(End.ANSWERED)
        return f"{answered} of {len(ends)} requests answered, {4 * changed} writes of declarations"

    def _delete(self, name: str) -> None:
        self.pool.kube.delete("agentinstances", self.pool.namespace, name)


def _observed(record: dict[str, object]) -> bool:
    meta, status = record["metadata"], record.get("status") or {}
    assert isinstance(meta, dict) and isinstance(status, dict)
    seen = status.get("observedGeneration") == meta["generation"]
    return seen and status.get("state") not in (None, "INITIALIZING")


async def _each(calls: Sequence[Callable[[], Awaitable[End | None]]]) -> list[End | None]:
    gate = asyncio.Semaphore(CALLERS)

    async def one(call: Callable[[], Awaitable[End | None]]) -> End | None:
        async with gate:
            return await call()

    return list(await asyncio.gather(*map(one, calls)))


async def rest(seconds: float) -> str:
    """Do nothing."""
    await asyncio.sleep(seconds)
    return ""


def operator_of(installed: Installed) -> psutil.Process:
    """The operator's process."""
    (pod,) = installed.parts("operator")
    return processes.running(pod["metadata"]["uid"], "agentpool_operator")[0]


def run(declared: int, undeclared: int, seed: int) -> list[Phase]:
    """All phases on a new pool."""
    with release() as installed:
        more = {"tiers": TIERS, "warmup": {"enabled": False}, "limits": {"maxInstances": 10_000}}
        with pool_of(installed, "scale", **more) as pool:
            return asyncio.run(_run(installed, pool, declared, undeclared, seed))


async def _run(installed: Installed, pool: Pool, declared: int, undeclared: int, seed: int) -> list[Phase]:
    meter = Meter(operator_of(installed))
    async with application_of(pool, installed.url, seed, 60.0) as application:
        scale = Scale(pool, application, random.Random(seed), declared, undeclared)
        await meter.during("an empty pool", partial(rest, SETTLE_SECONDS))
        await meter.during(f"{declared} declared", scale.declare)
        await meter.during(f"{undeclared} asked for the first time", scale.ask)
        await meter.during("settling", partial(rest, SETTLE_SECONDS))
        await meter.during("at rest", partial(rest, REST_SECONDS))
        await meter.during("churn", scale.churn)
        await meter.during("settling after churn", partial(rest, SETTLE_SECONDS))
        await meter.during("at rest after churn", partial(rest, REST_SECONDS))
    return meter.phases


def checks(phases: Sequence[Phase]) -> list[Check]:
    """The design's bounds on what rests."""
    found = []
    for phase in phases:
        if phase.name.startswith("at rest"):
            memory, writes = phase.memory[1], phase.writes.total()
            found += [
                Check(f"{phase.name}: no object written", writes == 0, str(dict(phase.writes))),
                Check(
                    f"{phase.name}: CPU",
                    phase.cpu_percent <= LIMITS["cpu"],
                    f"{phase.cpu_percent:.2f} % of a core, at most {LIMITS['cpu']:g}",
                ),
                Check(
                    f"{phase.name}: memory",
                    memory <= LIMITS["memory"],
                    f"{memory:.0f} MB, at most {LIMITS['memory']:g}",
                ),
            ]
    return found


def row(phase: Phase) -> str:
    """A line of the table."""
    writes = ", ".join(f"{name} {count}" for name, count in phase.writes.most_common()) or "none"
    return (
        f"| {phase.name} | {phase.seconds:.0f} | {phase.cpu_percent:.2f} | {phase.memory[0]:.0f} |"
        f" {phase.memory[1]:.0f} | {phase.writes.total()} | {writes} | {phase.note} |"
    )


def table(phases: Sequence[Phase]) -> str:
    """Markdown that is readable as it is."""
    lines = ["| phase | s | operator CPU, % of a core | MB at its end | MB at most | writes | of these | |"]
    lines += ["|---|---|---|---|---|---|---|---|", *map(row, phases), ""]
    lines += ["| demand | held | |", "|---|---|---|"]
    lines += [f"| {one.name} | {'yes' if one.held else 'NO'} | {one.detail} |" for one in checks(phases)]
    return "\n".join(lines) + "\n"
