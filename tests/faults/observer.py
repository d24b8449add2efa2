# SPDX-License-Identifier: Apache-2.0
"""Records what the API server tells of a namespace, past every fault proxy, and what hosts hold."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from agentpool_operator.kube.client import path_of
from agentpool_operator.kube.kinds import BUDGETS, DEPLOYMENTS, INSTANCES, PODS, POOLS, SERVICES, Kind
from faults.history import Bounds, Entry, Held, Rest, Seen, Wrote, check
from faults.lane import Lane
from faults.mirror import open_session
from support.apiserver import ApiServer

KINDS = (POOLS, INSTANCES, PODS, DEPLOYMENTS, SERVICES, BUDGETS)
LOOK_SECONDS = 0.1


class Observer:
    """The history of a lane."""

    def __init__(self, lane: Lane, session: aiohttp.ClientSession) -> None:
        self.history: list[Entry] = []
        self._lane = lane
        self._session = session
        self._held: dict[tuple[str, str], Held] = {}

    async def watch(self, kind: Kind) -> None:
        """Note every event of a kind, for ever."""
        path = path_of(kind, self._lane.name)
        async with self._session.get(path, params={"watch": "true"}) as answer:
            async for line in answer.content:
                event = json.loads(line)
                if event["type"] in ("ADDED", "MODIFIED", "DELETED"):
                    self.history.append(Seen(time.monotonic(), event["type"], event["object"]))

    async def look(self) -> None:
        """Note who holds what, and what operators wrote, for ever."""
        written = 0
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self._look()
            writes = self._lane.proxy.writes
            # The proxy begins its count anew with each phase.
            written = 0 if len(writes) < written else written
            self.history += [Wrote(time.monotonic(), one.agent, str(one)) for one in writes[written:]]
            written = len(writes)

    def _look(self) -> None:
        now = time.monotonic()
        held = {
            (one.id, host.pod): Held(now, one.id, host.pod, one.tenant_id)
            for host in self._lane.node.hosts.values()
            for one in host.instances.values()
        }
        for key in self._held.keys() - held.keys():
            before = self._held.pop(key)
            self.history.append(Held(now, before.instance, before.host, before.tenant, ended=True))
        for key in held.keys() - self._held.keys():
            self._held[key] = held[key]
            self.history.append(held[key])

    async def rest(self, seconds: float) -> None:
        """Note that from now on nothing is to be done, and wait."""
        began = time.monotonic()
        await asyncio.sleep(seconds)
        self.history.append(Rest(began, time.monotonic()))

    def violations(self) -> list[str]:
        """What the history so far does not keep; it begins anew with this."""
        found = check(self.history, Bounds(time.monotonic()))
        self.history.clear()
        return found


@asynccontextmanager
async def observed(lane: Lane, api: ApiServer) -> AsyncIterator[Observer]:
    """Record until the end of the block."""
    async with open_session(api) as session:
        observer = Observer(lane, session)
        tasks = [asyncio.create_task(observer.watch(kind)) for kind in KINDS]
        tasks.append(asyncio.create_task(observer.look()))
        try:
            yield observer
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
