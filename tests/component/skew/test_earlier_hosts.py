# SPDX-License-Identifier: Apache-2.0
"""Hosts of an earlier revision, with residents, under the gateway and the operator of this one."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from random import Random

import httpx
import pytest

from agentpool_client import AgentPool
from agentpool_core.errors import HostTooOld
from agentpool_core.lifecycle import State
from agentpool_operator.hosts.link import HostLink, SentConfig
from agentpool_proto.v1 import host_pb2, types_pb2
from agentpool_rpc.tokens import TokenSigner
from support.earlier import RevisionMissing, unpack
from support.gateways import write_membership
from support.hosts import COUNTER, PRIVATE_KEY, HostPod, host_pod, instance_id, pool_config
from support.redis import redis_server
from support.spine import Spine, running_spine
from support.traffic import Traffic
from support.waiting import eventually

CONFIG = pool_config(agent=COUNTER, storage="Redis")
PROJECTS = [f"project-{number}" for number in range(4)]


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """The import paths of the earlier revision."""
    try:
        return unpack(tmp_path_factory.mktemp("earlier"))
    except RevisionMissing as exc:
        pytest.skip(str(exc))


async def replace(spine: Spine, number: int, sources: tuple[Path, ...] | None = None) -> HostPod:
    """Another pod in place of one, as a rolling update does it: it starts, then the old one drains."""
    options = {"sources": sources} if sources else {}
    pod = HostPod(CONFIG, {"redis_url": spine.redis.url, **options})
    old, spine.pods[number] = spine.pods[number], pod
    await pod.start_host()
    await pod.start_zygote()
    await pod.wait_ready()
    entries = spine.entries()
    for gateway in spine.gateways:
        write_membership(gateway.membership_file, [(spine.config, entries)])
        await gateway.sees(2)
    assert await old.drain_host() == 0
    return pod


async def test_earlier_hosts_serve_and_keep_their_residents(earlier: tuple[Path, ...]) -> None:
    async with running_spine(CONFIG, sources=earlier) as spine:
        for number in (1, 2, 3):
            for project in PROJECTS:
                answer = await spine.answer(project, "add", key=f"{project}-{number}")
                assert answer["output"] == number
        again = await spine.answer(PROJECTS[0], "add", key=f"{PROJECTS[0]}-3")
        assert again["output"] == 3, "a repeated key is answered from the store"
        async with httpx.AsyncClient(base_url=spine.gateways[0].url, timeout=20) as client:
            one = f"/api/v1/pool/instances/{instance_id('acme', PROJECTS[0])}"
            assert (await client.post(f"{one}/pause")).json()["state"] == "PAUSED"
            assert (await client.post(f"{one}/resume")).json()["state"] == "READY"
            assert len((await client.get("/api/v1/pool/instances")).json()["instances"]) == len(PROJECTS)
        assert (await spine.answer(PROJECTS[0], "get"))["output"] == 3


async def test_an_operation_that_earlier_hosts_do_not_know_is_refused_with_the_remedy(
    earlier: tuple[Path, ...],
) -> None:
    async with running_spine(CONFIG, generic=1, sources=earlier) as spine:
        await spine.answer(PROJECTS[0], "add")
        request = host_pb2.MoveRequest(instance_id=instance_id("acme", PROJECTS[0]), tier="COLD")
        with pytest.raises(HostTooOld) as caught:
            await spine.pods[0].client.call("Move", request)
        assert "agent image" in caught.value.hint
        async with httpx.AsyncClient(base_url=spine.gateways[0].url, timeout=20) as client:
            one = f"/api/v1/pool/instances/{instance_id('acme', PROJECTS[0])}"
            refusals = [
                await client.put(f"{one}/tier", json={"tier": "COLD"}),
                await client.get(f"{one}/checkpoint"),
            ]
        for refused in refusals:
            problem = refused.json()
            assert (refused.status_code, problem["code"], problem["retryable"]) == (503, "HostTooOld", True)
            assert refused.headers["retry-after"]
        assert (await spine.answer(PROJECTS[0], "add"))["output"] == 2, "nothing happened to the instance"


async def test_a_rolling_update_from_the_earlier_revision_loses_nothing_and_fails_nothing(
    earlier: tuple[Path, ...],
) -> None:
    async with running_spine(CONFIG, sources=earlier) as spine:
        traffic = Traffic([spine.gateways[0].url], keyed=False)
        old = spine.pods[0]
        new: HostPod | None = None
        try:
            async with traffic.running(PROJECTS, 0.4):
                await asyncio.sleep(1)
                new = await replace(spine, 0)
                await asyncio.sleep(1)
            assert not traffic.refused
            for project, seen in traffic.seen.items():
                assert sorted(seen.outputs) == list(range(1, len(seen.outputs) + 1)), project
            assert {one.pod for one in await new.client.listed()} == {new.name}
        finally:
            await old.close()
            if new is not None:
                await new.close()


async def test_earlier_hosts_take_a_lease_for_nothing_and_the_library_stays_with_the_gateway(
    earlier: tuple[Path, ...],
) -> None:
    settings = {"direct_access": True}
    async with running_spine(CONFIG, sources=earlier, settings=settings) as spine:
        async with AgentPool(f"grpc://{spine.gateways[0].grpc_address}") as pool:
            answers = [await pool.invoke("acme", PROJECTS[0], "add") for _ in range(4)]
    assert [(one.output, one.direct) for one in answers] == [(n, False) for n in (1, 2, 3, 4)]


async def test_earlier_hosts_take_the_operators_configuration_and_its_calls(
    earlier: tuple[Path, ...],
) -> None:
    signer = TokenSigner(PRIVATE_KEY, "operator", time.time)
    present = SentConfig(CONFIG.generation, CONFIG.model_dump_json().encode())
    with redis_server() as redis:
        async with host_pod(CONFIG, redis_url=redis.url, sources=earlier) as pod:
            link = HostLink(
                ("default", "support"),
                pod.uid,
                pod.address,
                True,
                signer,
                lambda: present,
                lambda link, instances, host: None,
                time.monotonic,
                Random(1),
            )
            running = asyncio.create_task(link.run())
            try:
                await eventually(lambda: link.view is not None and link.view.ready, 20)
                assert not link.refusal
                wanted = types_pb2.Instance(tenant_id="acme", project_id="p", tier="WARM")
                held = await link.activate(wanted, "declared-uid", frozenset())
                assert (held.state, held.declared_uid) == (State.READY, "declared-uid")
                assert (await link.pause(held.id, frozenset())).state == State.PAUSED
                assert (await link.resume(held.id, frozenset())).state == State.READY
                assert (await link.terminate(held.id, frozenset())).state == State.TERMINATED
            finally:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)
