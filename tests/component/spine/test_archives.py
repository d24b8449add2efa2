# SPDX-License-Identifier: Apache-2.0
"""State that users take out and put back, through gateway, hosts and store as they are."""

from __future__ import annotations

import asyncio
import gzip
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from agentpool_core.archive import MEDIA_TYPE, Source, pack, unpack
from agentpool_core.lifecycle import Tier
from support.hosts import COUNTER, instance_id, pool_config
from support.spine import Spine, running_spine

LIBRARIAN = "agentpool_agent.agents.librarian:Librarian"
LESSON = {
    "documents": [
        {"id": "returns", "text": "An order may be returned within thirty days of delivery."},
        {"id": "shipping", "text": "Parcels leave the warehouse every weekday at noon."},
    ]
}
POOL = "/api/v1/pool"
STATE_BYTES = 64 * 1024


@pytest.fixture
async def spine() -> AsyncIterator[Spine]:
    config = pool_config(agent=COUNTER, storage="Redis", limits={"state_bytes": STATE_BYTES})
    async with running_spine(config, hosts=2) as running:
        yield running


def rest(spine: Spine) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=spine.gateways[0].url + POOL, timeout=30)


async def export(client: httpx.AsyncClient, project: str, tenant: str = "acme") -> bytes:
    answer = await client.get(f"/instances/{instance_id(tenant, project)}/checkpoint")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == MEDIA_TYPE
    return answer.content


async def put(client: httpx.AsyncClient, archive: bytes, project: str, **more: str) -> httpx.Response:
    params = {"tenant_id": "acme", "project_id": project, **more}
    return await client.put("/checkpoints", params=params, content=archive)


def refused(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    document: dict[str, Any] = answer.json()
    assert (answer.status_code, document["code"]) == (status, code), answer.text
    assert document["remedy"]
    return document


async def test_what_an_agent_was_taught_is_known_in_another_project_and_pool_after_its_end() -> None:
    first = pool_config(agent=LIBRARIAN, storage="Redis")
    async with running_spine(first) as spine, rest(spine) as client:
        await spine.answer("shop", LESSON)
        archive = await export(client, "shop")
        assert (await client.delete(f"/instances/{instance_id('acme', 'shop')}")).status_code == 200
        planted = await put(client, archive, "moved")
        assert (planted.status_code, planted.json()["state"]) == (201, "PAUSED")
        for question, word in (
            ("How long may an order be returned?", "thirty"),
            ("When do parcels leave?", "noon"),
        ):
            assert word in (await spine.answer("moved", question))["output"]["answer"]
    async with running_spine(first.model_copy(update={"uid": "another"})) as other, rest(other) as client:
        assert (await put(client, archive, "shop")).status_code == 201
        assert "noon" in (await other.answer("shop", "When do parcels leave?"))["output"]["answer"]


async def test_a_resident_an_evicted_and_a_paused_instance_give_the_same_state(spine: Spine) -> None:
    for _ in range(3):
        made = await spine.answer("one", "add")
    async with rest(spine) as client:
        resident = unpack(await export(client, "one"), STATE_BYTES)
        assert (resident.manifest.tenant_id, resident.manifest.project_id) == ("acme", "one")
        assert (resident.manifest.tier, resident.manifest.agent) == (Tier.WARM, COUNTER)
        await client.post(f"/instances/{made['instance_id']}/pause")
        assert unpack(await export(client, "one"), STATE_BYTES).parts == resident.parts


async def test_with_intervals_an_export_holds_what_was_answered_a_moment_ago() -> None:
    config = pool_config(agent=COUNTER, storage="Redis", durability="Interval", interval_seconds=3600)
    async with running_spine(config, hosts=2) as spine, rest(spine) as client:
        for _ in range(5):
            await spine.answer("one", "add")
        assert (await put(client, await export(client, "one"), "copy")).status_code == 201
        assert (await spine.answer("copy", "get"))["output"] == 5


async def test_a_pool_that_keeps_state_in_memory_exports_and_imports_too() -> None:
    async with running_spine(pool_config(agent=COUNTER)) as spine, rest(spine) as client:
        await spine.answer("one", "add")
        assert (await put(client, await export(client, "one"), "copy")).status_code == 201
        assert (await spine.answer("copy", "get"))["output"] == 1


async def test_state_that_is_there_is_replaced_only_on_request_and_never_under_a_running_instance(
    spine: Spine,
) -> None:
    await spine.answer("old", "add")
    for _ in range(4):
        await spine.answer("new", "add")
    async with rest(spine) as client:
        archive = await export(client, "new")
        refused(await put(client, archive, "old"), 409, "InstanceExists")
        held = refused(await put(client, archive, "old", replace="true"), 409, "InstanceExists")
        assert "Pause it" in held["remedy"]
        assert (await spine.answer("old", "get"))["output"] == 1
        await client.post(f"/instances/{instance_id('acme', 'old')}/pause")
        refused(await put(client, archive, "old"), 409, "InstanceExists")
        assert (await put(client, archive, "old", replace="true")).status_code == 201
        assert (await spine.answer("old", "get"))["output"] == 4


@pytest.mark.parametrize("back", [True, False], ids=["which is back", "which is gone for good"])
async def test_an_import_over_what_a_killed_host_held_is_taken(spine: Spine, back: bool) -> None:
    made = await spine.answer("old", "add")
    async with rest(spine) as client:
        archive = await export(client, "old")
        await spine.answer("old", "add")
        number = [pod.name for pod in spine.pods].index(made["pod"])
        if back:
            await spine.restart_host(number)
        else:
            await spine.pods[number].kill_host()
        answer = await put(client, archive, "old", replace="true")
        assert answer.status_code == 201, answer.text
        assert (await spine.answer("old", "get"))["output"] == 1


def too_large() -> bytes:
    source = Source("default", "support", "acme", "one", Tier.WARM, COUNTER)
    return pack(source, datetime(2026, 1, 1, tzinfo=UTC), {"blob": os.urandom(STATE_BYTES)})


BAD: dict[str, tuple[bytes, dict[str, str], int, str]] = {
    "nothing": (b"", {}, 422, "ValidationFailed"),
    "text": (b"hello", {}, 422, "ValidationFailed"),
    "a bomb": (gzip.compress(bytes(40_000_000)), {}, 413, "PayloadTooLarge"),
    "a state over the limit": (too_large(), {}, 413, "PayloadTooLarge"),
    "no tenant": (b"x", {"tenant_id": ""}, 422, "ValidationFailed"),
    "an unknown tier": (b"x", {"tier": "LUKEWARM"}, 422, "ValidationFailed"),
    "neither yes nor no": (b"x", {"replace": "maybe"}, 422, "ValidationFailed"),
    "an unknown parameter": (b"x", {"extra": "1"}, 422, "ValidationFailed"),
}


async def test_bad_archives_change_nothing(spine: Spine) -> None:
    async with rest(spine) as client:
        for body, params, status, code in BAD.values():
            answer = await put(client, body, "fresh", **params)
            refused(answer, status, code)
        longest = await client.put(
            "/checkpoints",
            params={"tenant_id": "acme", "project_id": "fresh"},
            content=bytes(STATE_BYTES + 17 * 1024 * 1024),
        )
        refused(longest, 413, "PayloadTooLarge")
        refused(await client.get(f"/instances/{instance_id('acme', 'fresh')}"), 404, "InstanceNotFound")
        refused(
            await client.get(f"/instances/{instance_id('acme', 'fresh')}/checkpoint"), 404, "InstanceNotFound"
        )


async def test_a_tenant_of_thirty_instances_some_busy_some_paused_is_forgotten_and_its_neighbour_is_not() -> (
    None
):
    config = pool_config(agent=COUNTER, storage="Redis", instances_per_host=10)
    async with running_spine(config, hosts=2) as spine, rest(spine) as client:
        for number in range(30):
            await spine.answer(f"p-{number}", "add", tenant="gone/soon")
        await spine.answer("kept", "add", tenant="other")
        paused = instance_id("gone/soon", "p-29")
        assert (await client.post(f"/instances/{paused}/pause")).status_code == 200
        busy = [
            asyncio.create_task(spine.invoke(f"p-{number}", {"sleep": 2}, tenant="gone/soon"))
            for number in (27, 28)
        ]
        await asyncio.sleep(0.5)
        answer = await client.delete("/tenants/gone%2Fsoon", headers={"x-request-timeout": "25"})
        assert answer.status_code == 200, answer.text
        document = answer.json()
        assert (document["complete"], document["erased"], document["remaining"]) == (True, 30, 0)
        assert {response.status_code for response in await asyncio.gather(*busy)} == {200}
        listed = (await client.get("/instances", params={"limit": "1000"})).json()["instances"]
        assert [one["tenant_id"] for one in listed] == ["other"]
        again = await client.delete("/tenants/gone%2Fsoon")
        assert (again.status_code, again.json()["erased"]) == (200, 0)
        assert (await spine.answer("p-0", "get", tenant="gone/soon"))["output"] == 0
        assert (await spine.answer("kept", "get", tenant="other"))["output"] == 1


async def test_a_busy_instance_that_outlasts_the_call_is_told_and_gone_after_the_next(spine: Spine) -> None:
    busy = asyncio.create_task(spine.invoke("slow", {"sleep": 3}))
    async with rest(spine) as client:
        await asyncio.sleep(0.7)
        first = await client.delete("/tenants/acme", headers={"x-request-timeout": "0.5"})
        assert (first.status_code, first.json()["busy"]) == (202, 1)
        assert (await busy).status_code == 200
        second = await client.delete("/tenants/acme")
        assert (second.status_code, second.json()["complete"]) == (200, True)
