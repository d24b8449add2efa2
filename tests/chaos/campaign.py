# SPDX-License-Identifier: Apache-2.0
"""`make chaos`: load on three tiers while one part after another is killed at random."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from chaos.application import PATIENCE_SECONDS, Application
from chaos.console import say
from chaos.faults import Faults
from chaos.history import End, Fault, Ledgers, Sent, compare
from chaos.logs import Logs
from chaos.pools import pool_of, release, start_all
from chaos.traffic import STREAMS, Traffic
from support.e2e import SYSTEM, Pool
from support.repository import ROOT
from tools.devcluster.places import Places

LINE_SECONDS = 10.0
SETTLE_SECONDS = 15.0
"""After the last fault, before load ends."""
READERS = 4
EVIDENCE = ROOT / "build" / "chaos"
"""Where a run leaves the logs of its pods."""


@dataclass(frozen=True, slots=True)
class Run:
    """All that happened; `errors` are lines that a part of the release or an agent's pod logged as such."""

    seconds: float
    per_second: float
    seed: int
    sent: Sequence[Sent]
    faults: Sequence[Fault]
    ledgers: Ledgers
    errors: Sequence[str] = ()


def projects() -> dict[str, str]:
    """Those that ask all the time, with their tiers."""
    return {
        f"{stream.tier.lower()}-{number}": stream.tier
        for stream in STREAMS
        for number in range(stream.projects)
    }


def application_of(pool: Pool, url: str, seed: int, patience_seconds: float) -> Application:
    """An application with the right to do everything with the pool."""
    token = pool.client.headers["authorization"].removeprefix("Bearer ")
    return Application(url, pool.path, token, patience_seconds, seed)


def run(seconds: float, every_seconds: float, factor: float, seed: int, only: str = "") -> Run:
    """Set the pool up, break things for so long, compare, and take it down."""
    with release() as installed, pool_of(installed, "faults") as pool:
        say(f"pool {pool.namespace}/{pool.name} is ready; its instances start")
        start_all(pool, projects())
        faults = Faults(installed, pool, random.Random(seed), only)
        with Logs(Places().logs / "pods", (SYSTEM, pool.namespace), EVIDENCE) as logs:
            done = asyncio.run(_run(pool, faults, seconds, every_seconds, factor, seed))
    return replace(done, errors=logs.errors())


async def _run(
    pool: Pool, faults: Faults, seconds: float, every_seconds: float, factor: float, seed: int
) -> Run:
    async with application_of(pool, faults.installed.url, seed, PATIENCE_SECONDS) as application:
        traffic = Traffic(application.carry_out, seed, factor=factor)
        say(f"{traffic.per_second:g} requests a second for {seconds:g} s")
        async with asyncio.TaskGroup() as tasks:
            lines = tasks.create_task(_lines(traffic, faults))
            tasks.create_task(_break(faults, seconds - SETTLE_SECONDS, every_seconds, seed))
            await traffic.run(seconds)
            lines.cancel()
        say(line(seconds, traffic.sent, len(faults.done)))
        say("every agent is asked for what it has")
        found = await ledgers_of(application, {one.project: one.tier for one in traffic.sent})
        ledgers = compare(traffic.sent, found)
    if faults.only:
        for text in story(traffic.sent, traffic.sent[0].due):
            say(text)
    return Run(seconds, traffic.per_second, seed, traffic.sent, faults.done, ledgers)


async def _break(faults: Faults, seconds: float, every_seconds: float, seed: int) -> None:
    rng = random.Random(-seed)
    until = time.monotonic() + seconds
    while True:
        await asyncio.sleep(rng.uniform(0.6, 1.4) * every_seconds)
        if time.monotonic() > until:
            return
        fault = await asyncio.to_thread(faults.one)
        if fault is None:
            say("nothing may be broken now: a part that was is not back yet")
        else:
            say(f"{fault.name}: {fault.pod}, gone after {1000 * (fault.dead - fault.began):.0f} ms")


async def _lines(traffic: Traffic, faults: Faults) -> None:
    began = time.monotonic()
    while True:
        await asyncio.sleep(LINE_SECONDS)
        say(line(time.monotonic() - began, traffic.sent, len(faults.done)))


def line(at: float, sent: Sequence[Sent], faults: int) -> str:
    """How it stands."""
    ends = Counter(one.end for one in sent)
    tries: Counter[str] = Counter(attempt.code for one in sent for attempt in one.attempts if attempt.code)
    refused = sum(tries.values())
    return (
        f"{at:5.0f} s  sent {len(sent)}  answered {ends[End.ANSWERED]}  under way {ends[None]}"
        f"  faults {faults}  attempts that failed {refused}"
        + "".join(f"  {name} {count}" for name, count in tries.most_common(4))
    )


async def ledgers_of(application: Application, tiers: Mapping[str, str]) -> dict[str, list[int]]:
    """What projects, given with their tiers, have written down."""
    gate = asyncio.Semaphore(READERS)

    async def read(project: str, tier: str) -> tuple[str, list[int]]:
        async with gate:
            return project, await application.all_of(project, tier)

    return dict(await asyncio.gather(*(read(*one) for one in tiers.items())))


def story(sent: Sequence[Sent], since: float) -> list[str]:
    """Codes of failed attempts by second, for who looks for a cause."""
    seconds: dict[int, Counter[str]] = {}
    for one in sent:
        for attempt in one.attempts:
            seconds.setdefault(int(attempt.ended - since), Counter())[attempt.code or "answered"] += 1
    return [f"{second:5} s  {dict(counts)}" for second, counts in sorted(seconds.items())]
