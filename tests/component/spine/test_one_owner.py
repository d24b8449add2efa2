# SPDX-License-Identifier: Apache-2.0
"""However many ask at once and wherever, one host runs an instance, once."""

from __future__ import annotations

import asyncio

from agentpool_proto.v1 import host_pb2
from support.hosts import COUNTER, HostPod, instance_id, pool_config
from support.spine import running_spine


async def created(pod: HostPod) -> int:
    """Instances that a host activated since its start."""
    async for status in pod.statuses():
        return int(status.counters.created)
    raise AssertionError("the host says nothing")


async def test_a_hundred_first_requests_at_once_activate_once() -> None:
    config = pool_config(agent=COUNTER, storage="Redis")
    async with running_spine(config) as spine:
        answers = await asyncio.gather(*(spine.answer("crowd", "add") for _ in range(100)))
        assert sorted(answer["output"] for answer in answers) == list(range(1, 101))
        assert await created(spine.pods[0]) == 1


async def test_two_gateways_and_two_hosts_agree_on_one_owner() -> None:
    config = pool_config(agent=COUNTER, storage="Redis")
    async with running_spine(config, hosts=2, gateways=2) as spine:
        for project in range(5):
            answers = await asyncio.gather(
                *(spine.answer(f"shared-{project}", "add", gateway=number % 2) for number in range(20))
            )
            assert len({answer["pod"] for answer in answers}) == 1
            assert sorted(answer["output"] for answer in answers) == list(range(1, 21))


async def test_two_hosts_asked_for_one_instance_at_the_same_time_leave_it_to_one() -> None:
    # As if two gateways had opposite views: each goes to another host, at once.
    config = pool_config(agent=COUNTER, storage="Redis")
    async with running_spine(config, hosts=2) as spine:
        calls = [pod.client.invoke("acme", "torn", "add") for pod in spine.pods for _ in range(10)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        refused = [result for result in results if isinstance(result, BaseException)]
        answered = [result for result in results if not isinstance(result, BaseException)]
        assert len(answered) == 10
        assert {getattr(error, "code", "") for error in refused} == {"NotOwner"}
        owners = {answer.accepted.incarnation for answer in answered}
        assert len(owners) == 1
        request = host_pb2.InstanceRequest(instance_id=instance_id("acme", "torn"))
        states = [
            (await pod.client.call("Get", request)).state
            for pod in spine.pods
            if pod.client.incarnation in owners
        ]
        assert states == ["READY"]
