# SPDX-License-Identifier: Apache-2.0
"""Instances are sent away from a host under load: no request fails, nothing is lost or done twice."""

from __future__ import annotations

import asyncio
from typing import Any

from agentpool_core.errors import Conflict
from agentpool_proto.v1 import host_pb2
from support.hosts import COUNTER, HostPod, instance_id, pool_config
from support.spine import Spine, running_spine
from support.waiting import eventually

PROJECTS = [f"p{number}" for number in range(6)]


async def send_away(pod: HostPod, project: str) -> bool:
    """Whether it went."""
    request = host_pb2.MoveRequest(instance_id=instance_id("acme", project), elsewhere=True)
    try:
        await pod.client.call("Move", request)
    except Conflict:
        return False
    return True


async def add_until(spine: Spine, project: str, stop: asyncio.Event, answers: list[dict[str, Any]]) -> None:
    """A caller that adds with hardly a pause; every request must be answered."""
    while not stop.is_set():
        answers.append(await spine.answer(project, "add", gateway=len(answers) % 2))
        await asyncio.sleep(0.01)


async def test_busy_instances_go_to_the_other_host_and_stay_there() -> None:
    config = pool_config(agent=COUNTER, storage="Redis")
    async with running_spine(config, hosts=2, gateways=2) as spine:
        stop = asyncio.Event()
        answers: dict[str, list[dict[str, Any]]] = {project: [] for project in PROJECTS}
        callers = [
            asyncio.create_task(add_until(spine, project, stop, answers[project])) for project in PROJECTS
        ]
        try:
            await eventually(lambda: all(answers.values()), 20)
            before = {project: str(told[-1]["pod"]) for project, told in answers.items()}
            went = await asyncio.gather(
                *(send_away(spine.pod(before[project]), project) for project in PROJECTS)
            )
            assert all(went)
            await eventually(lambda: all(told[-1]["pod"] != before[p] for p, told in answers.items()), 20)
            await asyncio.sleep(1)
        finally:
            stop.set()
            await asyncio.gather(*callers)
    for project, told in answers.items():
        assert [one["output"] for one in told] == list(range(1, len(told) + 1))
        pods = [str(one["pod"]) for one in told]
        # From one to the other, once.
        assert pods == sorted(pods, key=lambda pod: pod != before[project])
