# SPDX-License-Identifier: Apache-2.0
"""`make scale-step`: ten times as many requests from one second to the next, on a pool that scales by itself.

Pods are held to a fifth of a core, so that more of them do more on one node. Requests use CPU, come in an
open loop, and are repeated as an application repeats them; latency counts from when a request was due.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agentpool_cli.simulation.model import LOOK_SECONDS, Look, percentile
from agentpool_cli.simulation.report import back_after
from chaos.application import Application
from chaos.campaign import application_of
from chaos.console import say
from chaos.history import Check, End, Operation, Sent
from chaos.pools import UNLIMITED, pool_of, release
from support.e2e import Installed, Pool
from support.kubernetes import Object

BEFORE_SECONDS, AFTER_SECONDS = 75.0, 240.0
PER_SECOND, FACTOR = 2.2, 10
WORK_SECONDS = 0.02
"""CPU of a request: two pods bear less than twenty a second."""
LATE = "DeadlineExceeded"
"""Of a request whose attempt took longer than an application waits: late, as latency says, and not lost."""
PROJECTS = 24
TARGET_SECONDS = 1.0
PATIENCE_SECONDS = 30.0
POLL_SECONDS = 2.0
SCALING: Mapping[str, Any] = {
    "enabled": True,
    "minReplicas": 2,
    "maxReplicas": 8,
    "cooldownSeconds": 60,
    "stabilizationSeconds": 60,
    "targetLatencyMilliseconds": 1000 * TARGET_SECONDS,
}
TIERS = {
    "warm": {
        "instancesPerReplica": 50,
        "quota": UNLIMITED,
        "resources": {"requests": {"cpu": "20m"}, "limits": {"cpu": "200m", "memory": "1Gi"}},
    }
}
RUNS = {"with forecast": True, "without forecast": False}


@dataclass
class Step:
    """One run; times in seconds since it began.

    Attributes:
        seen: the status whenever `desiredReplicas` or the ready pods changed.
        events: what the operator told.
    """

    name: str
    began: float
    sent: list[Sent] = field(default_factory=list)
    seen: list[tuple[float, int, int]] = field(default_factory=list)
    events: list[str] = field(default_factory=list)

    @property
    def looks(self) -> list[Look]:
        """The run in stretches of five seconds, by when requests ended."""
        total = BEFORE_SECONDS + AFTER_SECONDS
        times: list[list[float]] = [[] for _ in range(round(total / LOOK_SECONDS))]
        for one in self.sent:
            number = int((one.attempts[-1].ended - self.began) / LOOK_SECONDS)
            if number < len(times):
                times[number].append(one.attempts[-1].ended - one.due)
        return [
            Look((number + 1) * LOOK_SECONDS, 0, 0, 0, 0.0, len(part), tuple(part), ())
            for number, part in enumerate(times)
        ]

    @property
    def back_after(self) -> float | None:
        """Seconds from the step until latency is back under its target; None: it never was."""
        return back_after(self.looks, BEFORE_SECONDS, TARGET_SECONDS)


def run(seed: int, only: str = "") -> list[Step]:
    """The step with and without forecast, each on a new pool."""
    found = []
    with release() as installed:
        for name, forecast in RUNS.items():
            if only not in name:
                continue
            scaling = {**SCALING, "forecast": {"enabled": forecast, "horizonSeconds": 30}}
            more = {"tiers": TIERS, "warmup": {"enabled": False}, "scaling": scaling}
            with pool_of(installed, "step", **more) as pool:
                say(name)
                found.append(asyncio.run(_run(installed, pool, name, seed)))
                found[-1].events = events_of(pool)
    return found


async def _run(installed: Installed, pool: Pool, name: str, seed: int) -> Step:
    async with application_of(pool, installed.url, seed, PATIENCE_SECONDS) as application:
        step = Step(name, time.monotonic())
        watching = asyncio.create_task(_watch(pool, step))
        try:
            await _send(application, step, random.Random(seed))
        finally:
            watching.cancel()
    return step


async def _send(application: Application, step: Step, rng: random.Random) -> None:
    due, until = step.began, step.began + BEFORE_SECONDS + AFTER_SECONDS
    async with asyncio.TaskGroup() as tasks:
        while due < until:
            late = due >= step.began + BEFORE_SECONDS
            due += rng.expovariate(PER_SECOND * (FACTOR if late else 1))
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            project = f"step-{rng.randrange(PROJECTS)}"
            one = Sent(len(step.sent) + 1, project, "WARM", Operation.WORK, due, WORK_SECONDS)
            step.sent.append(one)
            tasks.create_task(application.carry_out(one))


async def _watch(pool: Pool, step: Step) -> None:
    while True:
        status = (await asyncio.to_thread(lambda: pool.body)).get("status") or {}
        desired = int((status.get("scaling") or {}).get("desiredReplicas") or 0)
        ready = int(status.get("readyReplicas") or 0)
        if not step.seen or step.seen[-1][1:] != (desired, ready):
            step.seen.append((time.monotonic() - step.began, desired, ready))
            say(f"{step.seen[-1][0]:5.0f} s  {desired} pods are wanted, {ready} ready")
        await asyncio.sleep(POLL_SECONDS)


def events_of(pool: Pool) -> list[str]:
    """What the operator told of the pool's scaling."""
    events: list[Object] = pool.kube.list("events", pool.namespace)
    told = [one for one in events if one["reason"] in ("ScaledUp", "ScaledDown")]
    return [f"{one['reason']}: {one['message']}" for one in sorted(told, key=lambda one: one["eventTime"])]


def checks(runs: Sequence[Step]) -> list[Check]:
    """What has to hold: nothing is lost, and latency comes back."""
    found = []
    for step in runs:
        bad = Counter(
            f"{one.end.value}: {one.attempts[-1].code}"
            for one in step.sent
            if one.end not in (None, End.ANSWERED)
        )
        lost = [
            one
            for one in step.sent
            if one.end in (End.LOST, End.FAILED, End.UNKNOWN) and one.attempts[-1].code != LATE
        ]
        back = step.back_after
        found += [
            Check(f"{step.name}: nothing is lost", not lost, str(dict(bad) or "every request was answered")),
            Check(f"{step.name}: latency comes back", back is not None, again(back)),
            Check(f"{step.name}: the operator says why", bool(step.events), f"{len(step.events)} Events"),
        ]
    return found


def again(seconds: float | None) -> str:
    """In words."""
    return "never" if seconds is None else f"after {seconds:.0f} s"


def table(runs: Sequence[Step]) -> str:
    """Markdown that is readable as it is."""
    lines = [
        f"{PER_SECOND:g} requests/s for {BEFORE_SECONDS:g} s, then {PER_SECOND * FACTOR:g}; each uses"
        f" {1000 * WORK_SECONDS:g} ms of CPU; target: 99 of 100 within {1000 * TARGET_SECONDS:g} ms.",
        "",
        "| run | under target again | requests | not answered | p50 ms | p99 ms | most pods |",
        "|---|---|---|---|---|---|---|",
    ]
    for step in runs:
        times = sorted(one.attempts[-1].ended - one.due for one in step.sent if one.end is End.ANSWERED)
        missing = len(step.sent) - len(times)
        most = max((ready for _, _, ready in step.seen), default=0)
        lines.append(
            f"| {step.name} | {again(step.back_after)} | {len(step.sent)} | {missing}"
            f" | {1000 * percentile(times, 0.5):.0f} | {1000 * percentile(times, 0.99):.0f} | {most} |"
        )
    for step in runs:
        lines += ["", f"Decisions, {step.name}:", "", "| s | wanted | ready |", "|---|---|---|"]
        lines += [f"| {at:.0f} | {desired} | {ready} |" for at, desired, ready in step.seen]
        lines += ["", *(f"- {text}" for text in step.events)]
    lines += ["", "| demand | held | |", "|---|---|---|"]
    lines += [f"| {one.name} | {'yes' if one.held else 'NO'} | {one.detail} |" for one in checks(runs)]
    return "\n".join(lines) + "\n"
