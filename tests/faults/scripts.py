# SPDX-License-Identifier: Apache-2.0
"""The four scripts of a pool's life, and the states that they end in when nothing goes wrong."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from agentpool_operator.kube.kinds import INSTANCES, POOLS
from faults.lane import Lane, until

CREATED: Mapping[str, Any] = {"warmup": {"count": 2}, "tiers": {"warm": {"replicas": 2}}}
SCALED: Mapping[str, Any] = {"warmup": {"count": 3}, "tiers": {"warm": {"replicas": 3}}}
UPDATED: Mapping[str, Any] = {
    "agent": {"entrypoint": "package.module:Agent", "image": "registry.test/agent:2"},
    **SCALED,
}
ARRIVE_SECONDS = 90.0
LEARN_QUIET_SECONDS = 7.0
"""Longer than everything that the operator puts off: late counts, and pods that may turn up by themselves."""


async def _create(lane: Lane) -> None:
    lane.node.forget()
    await lane.pool(CREATED)
    await lane.instance("vip", tier="HOT")
    await lane.instance("shared", tier="WARM", state="Running")
    await lane.instance("cool", tier="COLD")


async def _scale(lane: Lane) -> None:
    await lane.pool(SCALED)


async def _update(lane: Lane) -> None:
    await lane.pool(UPDATED)


async def _delete(lane: Lane) -> None:
    await lane.remove()


@dataclass(frozen=True, slots=True)
class Phase:
    """A script: what a user does."""

    name: str
    act: Callable[[Lane], Awaitable[None]]


PHASES = (
    Phase("create", _create),
    Phase("scale", _scale),
    Phase("update", _update),
    Phase("delete", _delete),
)


@dataclass(frozen=True, slots=True)
class Learned:
    """What a run without faults showed.

    Attributes:
        states: after each phase, by its name.
        writes: the operator's writes in each phase, as text, in order.
    """

    states: Mapping[str, tuple[str, ...]]
    writes: Mapping[str, tuple[str, ...]]

    def longest(self) -> int:
        """Most writes of any phase."""
        return max(len(writes) for writes in self.writes.values())


async def ready(lane: Lane) -> bool:
    """Whether all pools and instances say that they are what their users want now."""
    for kind in (POOLS, INSTANCES):
        for body in await lane.mirror.list(kind, lane.name):
            status = body.get("status") or {}
            if status.get("observedGeneration") != body["metadata"]["generation"]:
                return False
            told = {one["type"]: one["status"] for one in status.get("conditions") or ()}
            generic = status.get("generic") or {}
            if told.get("Ready") != "True" or generic.get("ready") != generic.get("wanted"):
                return False
    return True


async def learn(lane: Lane) -> Learned:
    """Have an operator lead, and run all phases without a fault."""
    await lane.start()
    await lane.ready()
    await lane.watches()
    states, writes = {}, {}
    for phase in PHASES:
        lane.proxy.reset_count()
        await phase.act(lane)
        await until(lambda: ready(lane), ARRIVE_SECONDS)
        states[phase.name] = await lane.settle(LEARN_QUIET_SECONDS)
        writes[phase.name] = tuple(str(call) for call in lane.proxy.writes)
    return Learned(states, writes)
