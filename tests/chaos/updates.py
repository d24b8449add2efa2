# SPDX-License-Identifier: Apache-2.0
"""What an administrator does to a pool in use: a new configuration, a new image, a drain of its node.

The application repeats nothing here: every request has to be answered at its first attempt.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from chaos import images
from chaos.campaign import application_of, ledgers_of, projects
from chaos.console import say
from chaos.evictions import drain
from chaos.history import Check, End, Ledgers, Sent, compare
from chaos.pools import READY_SECONDS, pool_of, release, start_all
from chaos.traffic import Traffic
from support.e2e import Pool
from support.kubernetes import until

SHOWN = 10
BEFORE_SECONDS, AFTER_SECONDS = 5.0, 10.0
LONGEST_SECONDS = 900.0


@dataclass(frozen=True, slots=True)
class Update:
    """One change under load.

    Attributes:
        seconds: from the change until the pool was ready as it is wanted.
    """

    name: str
    seconds: float
    sent: Sequence[Sent]
    ledgers: Ledgers


def _configuration(pool: Pool) -> None:
    pool.change(agent={"config": {"revision": "2"}})
    pool.ready(READY_SECONDS)


def _image(pool: Pool) -> None:
    new = images.built(pool.kube, "b")
    pool.change(agent={"image": new})
    pool.ready(READY_SECONDS)
    until(lambda: not images.behind(pool, new), "pods have the new image", READY_SECONDS)
    pool.ready(READY_SECONDS)


def _drain(pool: Pool) -> None:
    refused = drain(pool, [pod["metadata"]["name"] for pod in pool.pods()])
    say(f"the disruption budget said {refused} times that a pod has to wait")
    pool.ready(READY_SECONDS)


CHANGES: dict[str, Callable[[Pool], None]] = {
    "new configuration": _configuration,
    "new image": _image,
    "drain of every pod": _drain,
}


def run(factor: float, seed: int, only: str = "") -> list[Update]:
    """Each change under load, one after another on one pool."""
    with release() as installed, pool_of(installed, "updates") as pool:
        images.built(installed.kube, "b")
        start_all(pool, projects())
        return [
            asyncio.run(_under_load(pool, installed.url, name, change, factor, seed + number))
            for number, (name, change) in enumerate(CHANGES.items())
            if only in name
        ]


async def _under_load(
    pool: Pool, url: str, name: str, change: Callable[[Pool], None], factor: float, seed: int
) -> Update:
    async with application_of(pool, url, seed, 0.0) as application:
        known = await ledgers_of(application, projects())
        traffic = Traffic(application.carry_out, seed, factor=factor)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(traffic.run(LONGEST_SECONDS))
            await asyncio.sleep(BEFORE_SECONDS)
            began = time.monotonic()
            try:
                await asyncio.to_thread(change, pool)
                seconds = time.monotonic() - began
                await asyncio.sleep(AFTER_SECONDS)
            finally:
                traffic.stopped = True
        found = await ledgers_of(application, {one.project: one.tier for one in traffic.sent})
    new = {project: added(known.get(project, []), numbers) for project, numbers in found.items()}
    for text in examples(traffic.sent):
        say(text)
    say(f"{name}: {seconds:.0f} s, {Counter(one.end for one in traffic.sent)}")
    return Update(name, seconds, traffic.sent, compare(traffic.sent, new))


def examples(sent: Sequence[Sent]) -> list[str]:
    """What was said to attempts that failed, each text once, with how often."""
    told = Counter(
        f"{one.tier}: {try_.code}: {try_.detail}" for one in sent for try_ in one.attempts if try_.code
    )
    return [f"{count} x {text}" for text, count in told.most_common(SHOWN)]


def added(known: Sequence[int], found: Sequence[int]) -> Sequence[int]:
    """What came to a list. Raises ValueError when it does not begin with what was known before."""
    if list(found[: len(known)]) != list(known):
        raise ValueError(f"{len(known)} entries were known and are not there as they were")
    return found[len(known) :]


def checks(update: Update) -> list[Check]:
    """Every demand on one change."""
    bad = Counter(try_.code for one in update.sent for try_ in one.attempts if try_.code)
    ledgers = update.ledgers
    return [
        Check(
            f"{update.name}: every answer 2xx",
            all(one.end is End.ANSWERED for one in update.sent),
            f"{len(update.sent)} requests, {sum(bad.values())} not: {dict(bad)}",
        ),
        Check(
            f"{update.name}: state intact",
            not ledgers.missing and not ledgers.doubled,
            f"{ledgers.acknowledged} increments, {len(ledgers.missing)} missing,"
            f" {len(ledgers.doubled)} found twice",
        ),
    ]


def table(updates: Sequence[Update]) -> str:
    """Markdown that is readable as it is."""
    lines = ["| change under load | s | longest answer in s |", "|---|---|---|"]
    lines += [
        f"| {one.name} | {one.seconds:.0f} | {max(sent.seconds for sent in one.sent):.2f} |"
        for one in updates
    ]
    lines += ["", "| demand | held | |", "|---|---|---|"]
    lines += [
        f"| {check.name} | {'yes' if check.held else 'NO'} | {check.detail} |"
        for one in updates
        for check in checks(one)
    ]
    return "\n".join(lines) + "\n"
