# SPDX-License-Identifier: Apache-2.0
"""Counters under SIGKILL of hosts, workers and gateways: every acknowledged increment is there once.

Each increment carries an Idempotency-Key and is sent again with the same key until it is acknowledged, to
whichever gateway answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from dataclasses import dataclass, field

import httpx
import psutil
import pytest

from support.hosts import COUNTER, pool_config
from support.spine import Spine, running_spine

PROJECTS = 4
CALLERS = 3
SECONDS_OF_KILLING = 25.0
SECONDS_PER_REQUEST = 60.0


@dataclass
class Tally:
    """What the callers saw."""

    acknowledged: dict[str, list[int]] = field(default_factory=dict)
    retries: int = 0
    kills: dict[str, int] = field(default_factory=dict)


async def increment(spine: Spine, project: str, key: str, tally: Tally) -> None:
    """Send one increment until it is acknowledged."""
    async with asyncio.timeout(SECONDS_PER_REQUEST):
        attempt = 0
        while True:
            try:
                response = await spine.invoke(project, "add", key=key, gateway=attempt % len(spine.gateways))
            except httpx.TransportError:
                response = None
            if response is not None and response.status_code == 200:
                tally.acknowledged.setdefault(project, []).append(response.json()["output"])
                return
            if response is not None:
                assert response.json()["code"] != "OutcomeUnknown", "a keyed request has a known outcome"
                assert response.json()["retryable"], response.text
            attempt += 1
            tally.retries += 1
            await asyncio.sleep(0.05)


async def caller(spine: Spine, project: str, name: str, stop: asyncio.Event, tally: Tally) -> None:
    """Increments one after the other."""
    number = 0
    while not stop.is_set():
        await increment(spine, project, f"{name}-{number}", tally)
        number += 1


async def kill_something(spine: Spine, rng: random.Random, tally: Tally) -> None:
    """One random fault, and its repair as a cluster would do it."""
    what = rng.choice(["host", "worker", "worker", "gateway"])
    tally.kills[what] = tally.kills.get(what, 0) + 1
    number = rng.randrange(2)
    if what == "host":
        await spine.restart_host(number)
    elif what == "gateway":
        await spine.kill_gateway(number)
        await spine.start_gateway(number)
    elif workers := spine.workers(number):
        with contextlib.suppress(psutil.NoSuchProcess):
            rng.choice(workers).kill()


@pytest.mark.timeout(300)
async def test_every_acknowledged_increment_appears_exactly_once() -> None:
    rng = random.Random(20)
    tally = Tally()
    config = pool_config(agent=COUNTER, storage="Redis")
    async with running_spine(config, hosts=2, gateways=2) as spine:
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            for number in range(PROJECTS):
                for name in range(CALLERS):
                    tasks.create_task(caller(spine, f"counter-{number}", f"caller-{name}", stop, tally))
            loop = asyncio.get_running_loop()
            end = loop.time() + SECONDS_OF_KILLING
            while loop.time() < end:
                await asyncio.sleep(rng.uniform(0.1, 0.6))
                await kill_something(spine, rng, tally)
            stop.set()
        for project, seen in sorted(tally.acknowledged.items()):
            # An increment that was applied twice leaves a gap, one that was lost a double.
            assert sorted(seen) == list(range(1, len(seen) + 1)), (project, tally.kills)
            assert (await spine.answer(project, "get"))["output"] == len(seen)
        assert len(tally.acknowledged) == PROJECTS
        assert min(tally.kills.get(what, 0) for what in ("host", "worker", "gateway")) > 0
