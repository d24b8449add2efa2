# SPDX-License-Identifier: Apache-2.0
"""`make faults`: every campaign, with progress and a table at the end; FULL=1 for more of everything.

Names of campaigns as arguments run only those.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack

from agentpool_core.crd import KINDS, definition
from agentpool_operator.kube.client import KubeClient, connect
from agentpool_operator.kube.kinds import KubeError
from faults import campaigns
from faults.campaigns import Job, World
from faults.evidence import keep
from faults.findings import Findings, table
from faults.lane import Lane, open_lane
from faults.schema import RUNTIMES
from faults.scripts import Learned, learn
from faults.suites import regressions
from support.apiserver import ApiServer, api_server

DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
ESTABLISH_SECONDS = 30.0
JOB_SECONDS = 900.0
REQUEST_SECONDS = 60.0
"""The harness waits for a busy machine; the operators have their own bound."""
LANES = 5
"""A lane mostly waits: two processors do for so many."""

ON_LANES: Mapping[str, Callable[[World, deque[Job]], Awaitable[None]]] = {
    "specs": campaigns.specs,
    "planted": campaigns.planted,
    "stale": campaigns.stale,
    "crashes": campaigns.crashes,
}
"""What takes longest comes first."""
CAMPAIGNS = ("regressions", "redis", *ON_LANES)


def define(api: ApiServer) -> None:
    """Make the project's definitions and some runtimes known; raises TimeoutError when the former are not
    served in time."""
    for kind in KINDS:
        api.create(DEFINITIONS, definition(kind)).raise_for_status()
    for name in RUNTIMES:
        body = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "handler": "runc"}
        api.create(
            "/apis/node.k8s.io/v1/runtimeclasses", {**body, "metadata": {"name": name}}
        ).raise_for_status()
    deadline = time.monotonic() + ESTABLISH_SECONDS
    for kind in KINDS:
        while not api.client.get(f"/apis/agentpool.dev/v1alpha1/{kind.plural}").is_success:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{kind.name} was not established")
            time.sleep(0.05)


async def learnt(api: ApiServer, client: KubeClient) -> Learned:
    """What a run without faults shows."""
    async with open_lane(api, client) as lane:
        return await learn(lane)


async def on_lanes(world: World, jobs: deque[Job]) -> None:
    """Do all jobs, and those that they add, each on the first lane that is free."""
    busy = 0

    async def take(lane: Lane) -> None:
        nonlocal busy
        while jobs or busy:
            if not jobs:
                # One that is under way may add another.
                await asyncio.sleep(0.5)
                continue
            busy += 1
            try:
                await _do(world, lane, jobs.popleft())
            finally:
                busy -= 1
        world.findings.injected.update(lane.proxy.injected)

    async with AsyncExitStack() as stack:
        lanes = [
            await stack.enter_async_context(open_lane(world.api, world.client))
            for _ in range(min(LANES, len(jobs)))
        ]
        async with asyncio.TaskGroup() as tasks:
            for lane in lanes:
                tasks.create_task(take(lane))


async def _do(world: World, lane: Lane, job: Job) -> None:
    lane.forget_log()
    before = len(world.findings.violations)
    try:
        async with asyncio.timeout(JOB_SECONDS):
            words = await job.do(lane)
    except (TimeoutError, AssertionError, KubeError) as exc:
        # Nothing was shown, which is as bad as something wrong.
        words = f"was not tried to its end: {type(exc).__name__} {exc}"
        world.findings.violate(job.name, words)
        lane.clean = False
    world.say(f"{job.name}: {words}")
    # One that another lane found meanwhile leaves a file too many, and none is missing.
    if new := world.findings.violations[before:]:
        path = await keep(lane, job.name, new)
        world.say(f"{job.name}: the operator's log and the objects are in {path}")


async def run(api: ApiServer, names: list[str], full: bool) -> Findings:
    """The campaigns of these names."""
    os.environ["KUBECONFIG"] = str(api.kubeconfig)
    client = KubeClient(await connect(), seconds=REQUEST_SECONDS)
    findings = Findings()
    world = World(api, client, findings, full)
    try:
        if "regressions" in names:
            # Processes with deadlines of their own: nothing runs beside them.
            await regressions(findings, full, world.say)
        chosen = [ON_LANES[name] for name in ON_LANES if name in names]
        async with asyncio.TaskGroup() as tasks:
            if "redis" in names:
                tasks.create_task(campaigns.redis(world))
            if chosen:
                tasks.create_task(_lanes(world, chosen))
    finally:
        await client.close()
    return findings


async def _lanes(world: World, chosen: list[Callable[[World, deque[Job]], Awaitable[None]]]) -> None:
    world.learned = await learnt(world.api, world.client)
    counts = ", ".join(f"{name} {len(writes)}" for name, writes in world.learned.writes.items())
    world.say(f"learnt: writes {counts}")
    jobs: deque[Job] = deque()
    for campaign in chosen:
        await campaign(world, jobs)
    await on_lanes(world, jobs)


def main() -> int:
    """Run; 0 when nothing was violated and every planted bug was found."""
    names = sys.argv[1:] or list(CAMPAIGNS)
    unknown = [name for name in names if name not in CAMPAIGNS]
    if unknown:
        print(f"faults: no campaign {unknown[0]}; there are {', '.join(CAMPAIGNS)}", file=sys.stderr)  # noqa: T201
        return 2
    began = time.monotonic()
    with api_server() as api:
        define(api)
        findings = asyncio.run(run(api, names, bool(os.environ.get("FULL"))))
    print(table(findings))  # noqa: T201
    print(f"  {time.monotonic() - began:.0f} s")  # noqa: T201
    return 0 if findings.passed else 1


if __name__ == "__main__":
    sys.exit(main())
