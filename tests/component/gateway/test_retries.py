# SPDX-License-Identifier: Apache-2.0
"""What a client sees when hosts break, refuse or move instances: before `accepted` nothing, after it the
truth."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from agentpool_core import errors
from agentpool_core.config import EffectivePool
from agentpool_core.lifecycle import Tier
from agentpool_core.names import Incarnation
from agentpool_core.placement import Candidate, Role, choose_shared
from agentpool_proto.v1 import host_pb2, types_pb2
from support.callers import body
from support.fake_host import Context, FakeHost, Ownership, done, echo
from support.gateways import CallKeys, running_gateway

Events = AsyncIterator[types_pb2.InvokeEvent]
KEY = {"Idempotency-Key": "once"}


def first_choice(host: FakeHost, other: FakeHost, project: str = "project") -> tuple[FakeHost, FakeHost]:
    """The two hosts, the one that a new instance goes to first."""
    warm = frozenset({Tier.WARM})
    candidates = [Candidate(one.pod_uid, Role.SHARED, warm, 50, 0) for one in (host, other)]
    chosen = choose_shared(host.key_id("tenant", project), Tier.WARM, candidates)
    return (host, other) if chosen == host.pod_uid else (other, host)


async def break_before_accepted(
    host: FakeHost, request: host_pb2.HostInvokeRequest, context: Context
) -> Events:
    """The connection breaks before the host accepts."""
    await host.stop()
    yield done(b"never seen")


async def break_after_accepted(
    host: FakeHost, request: host_pb2.HostInvokeRequest, context: Context
) -> Events:
    """The connection breaks after the host accepted."""
    yield host.accept(request)
    await asyncio.sleep(0.05)
    await host.stop()
    await asyncio.sleep(1)


async def end_without_done(host: FakeHost, request: host_pb2.HostInvokeRequest, context: Context) -> Events:
    """The stream ends orderly, with no final event."""
    yield host.accept(request)


async def invoke(client: httpx.AsyncClient, project: str = "project", **headers: str) -> httpx.Response:
    """One request."""
    return await client.post("/api/v1/pool/invoke", json=body(project), headers=headers)


async def test_a_break_before_accepted_is_retried_at_another_host(
    tmp_path: Path, keys: CallKeys, pool: EffectivePool, start_host: Any
) -> None:
    store = Ownership()
    first, second = first_choice(
        await start_host("pod-a", store=store), await start_host("pod-b", store=store)
    )
    async with running_gateway(tmp_path, keys, [(pool, [first, second])]) as gateway:
        await gateway.sees(2)
        first.script = break_before_accepted
        answer = await invoke(gateway.client())
    assert (answer.status_code, answer.json()["pod"]) == (200, second.pod)
    assert len(first.invoked) == len(second.invoked) == 1


async def test_a_break_after_accepted_without_key_is_outcome_unknown(
    tmp_path: Path, keys: CallKeys, pool: EffectivePool, start_host: Any
) -> None:
    store = Ownership()
    first, second = first_choice(
        await start_host("pod-a", store=store), await start_host("pod-b", store=store)
    )
    first.script = break_after_accepted
    async with running_gateway(tmp_path, keys, [(pool, [first, second])]) as gateway:
        await gateway.sees(2)
        answer = await invoke(gateway.client())
    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["retryable"]) == (502, "OutcomeUnknown", False)
    assert not second.invoked


async def test_a_break_after_accepted_with_key_is_retried_with_proof_that_the_owner_ended(
    tmp_path: Path, keys: CallKeys, pool: EffectivePool, start_host: Any
) -> None:
    store = Ownership()
    first, second = first_choice(
        await start_host("pod-a", store=store), await start_host("pod-b", store=store)
    )
    first.script = break_after_accepted
    async with running_gateway(tmp_path, keys, [(pool, [first, second])]) as gateway:
        await gateway.sees(2)
        answer = await invoke(gateway.client(), **KEY)
    assert (answer.status_code, answer.json()["pod"]) == (200, second.pod)
    assert first.incarnation in second.claims[-1].ended
    assert second.invoked[-1].idempotency_key == "once"


async def test_a_stream_that_ends_without_its_final_event_is_a_break(
    tmp_path: Path, keys: CallKeys, pool: EffectivePool, start_host: Any
) -> None:
    host = await start_host()
    host.script = end_without_done
    async with running_gateway(tmp_path, keys, [(pool, [host])]) as gateway:
        await gateway.sees(1)
        answer = await invoke(gateway.client())
    assert answer.json()["code"] == "OutcomeUnknown"


async def test_a_dead_owner_is_replaced_by_the_next_request(
    tmp_path: Path, keys: CallKeys, pool: EffectivePool, start_host: Any
) -> None:
    store = Ownership()
    first, second = first_choice(
        await start_host("pod-a", store=store), await start_host("pod-b", store=store)
    )
    async with running_gateway(tmp_path, keys, [(pool, [first, second])]) as gateway:
        await gateway.sees(2)
        client = gateway.client()
        assert (await invoke(client)).json()["pod"] == first.pod
        await first.stop()
        began = asyncio.get_running_loop().time()
        answer = await invoke(client)
        seconds = asyncio.get_running_loop().time() - began
    assert (answer.status_code, answer.json()["pod"]) == (200, second.pod)
    assert seconds < 1.0


async def test_an_owner_that_is_unknown_but_dead_is_proven_so(
    tmp_path: Path, keys: CallKeys, pool: EffectivePool, start_host: Any
) -> None:
    store = Ownership()
    host = await start_host("pod-a", store=store)
    earlier = Incarnation.draw(host.pod_uid, 1, b"gone")
    store.owners[host.key_id("tenant", "project")] = earlier

    async def strict(host: FakeHost, request: host_pb2.HostInvokeRequest, context: Context) -> Events:
        if earlier not in host.claims[-1].ended and len(host.invoked) < 2:
            raise errors.NotOwner(str(earlier))
        async for event in echo(host, request, context):
            yield event

    host.script = strict
    async with running_gateway(tmp_path, keys, [(pool, [host])]) as gateway:
        await gateway.sees(1)
        answer = await invoke(gateway.client())
    assert answer.status_code == 200
    assert earlier in host.claims[-1].ended


async def test_not_owner_is_followed_to_the_owner(
    tmp_path: Path, keys: CallKeys, pool: EffectivePool, start_host: Any
) -> None:
    store = Ownership()
    first, second = first_choice(
        await start_host("pod-a", store=store), await start_host("pod-b", store=store)
    )
    second.silent = True
    second.hold("tenant", "project")
    second.instances.clear()
    store.owners[second.key_id("tenant", "project")] = second.incarnation
    async with running_gateway(tmp_path, keys, [(pool, [first, second])]) as gateway:
        await gateway.sees(2)
        answer = await invoke(gateway.client())
    assert answer.json()["pod"] == second.pod
    assert len(first.invoked) == 1


async def test_hosts_that_name_each_other_end_in_a_retryable_503(
    tmp_path: Path, keys: CallKeys, pool: EffectivePool, start_host: Any
) -> None:
    first, second = await start_host("pod-a"), await start_host("pod-b")
    first.refuse = errors.NotOwner(str(second.incarnation))
    second.refuse = errors.NotOwner(str(first.incarnation))
    async with running_gateway(tmp_path, keys, [(pool, [first, second])]) as gateway:
        await gateway.sees(2)
        answer = await invoke(gateway.client())
    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["retryable"]) == (503, "NotOwner", True)
    assert answer.headers["retry-after"] == "1"
    # It is looked for again with pauses, as if it were being moved, and given up in the end.
    assert 3 < len([call for call in first.calls + second.calls if call == "invoke"]) < 100


async def test_an_unknown_living_owner_is_waited_for_until_the_deadline(
    tmp_path: Path, keys: CallKeys, pool: EffectivePool, start_host: Any
) -> None:
    host = await start_host()
    host.refuse = errors.NotOwner("uid-elsewhere/0001")
    async with running_gateway(tmp_path, keys, [(pool, [host])]) as gateway:
        await gateway.sees(1)
        answer = await invoke(gateway.client(), **{"X-Request-Timeout": "1.5"})
    assert (answer.status_code, answer.json()["code"]) in ((503, "NotOwner"), (504, "DeadlineExceeded"))
    assert answer.headers["retry-after"] == "1"
    assert 3 < len(host.claims) < 40, "it asks again, with pauses"


@pytest.mark.parametrize(
    "refusal",
    [
        errors.Draining("drains"),
        errors.PodTaken("taken"),
        errors.NotConfigured("new"),
        errors.NoWorkers("gone"),
        errors.PoolExhausted("full"),
    ],
    ids=lambda one: one.code,
)
async def test_a_refusal_before_accepted_goes_elsewhere(
    tmp_path: Path, keys: CallKeys, pool: EffectivePool, start_host: Any, refusal: errors.AgentPoolError
) -> None:
    first, second = first_choice(await start_host("pod-a"), await start_host("pod-b"))
    first.refuse = refusal
    async with running_gateway(tmp_path, keys, [(pool, [first, second])]) as gateway:
        await gateway.sees(2)
        answer = await invoke(gateway.client())
    assert (answer.status_code, answer.json()["pod"]) == (200, second.pod)


async def test_a_draining_owner_is_waited_for(
    tmp_path: Path, keys: CallKeys, pool: EffectivePool, start_host: Any
) -> None:
    store = Ownership()
    first, second = first_choice(
        await start_host("pod-a", store=store), await start_host("pod-b", store=store)
    )
    async with running_gateway(tmp_path, keys, [(pool, [first, second])]) as gateway:
        await gateway.sees(2)
        client = gateway.client()
        assert (await invoke(client)).json()["pod"] == first.pod
        first.refuse = errors.Draining("drains")
        first.report_status(draining=True)
        waiting = asyncio.create_task(invoke(client))
        await asyncio.sleep(0.3)
        assert not waiting.done()
        first.drop(first.key_id("tenant", "project"))
        answer = await waiting
    assert (answer.status_code, answer.json()["pod"]) == (200, second.pod)


async def test_a_host_that_restarts_is_used_again_at_once(
    tmp_path: Path, keys: CallKeys, pool: EffectivePool, start_host: Any
) -> None:
    store = Ownership()
    host = await start_host("pod-a", store=store)
    async with running_gateway(tmp_path, keys, [(pool, [host])]) as gateway:
        await gateway.sees(1)
        client = gateway.client()
        assert (await invoke(client)).status_code == 200
        port = host.port
        await host.stop()
        waiting = asyncio.create_task(invoke(client))
        await asyncio.sleep(0.2)
        again = await start_host("pod-a", port=port, store=store)
        answer = await waiting
        assert answer.status_code == 200
        assert again.invoked


async def test_without_any_host_the_answer_is_no_host(
    tmp_path: Path, keys: CallKeys, pool: EffectivePool
) -> None:
    async with running_gateway(tmp_path, keys, [(pool, [])]) as gateway:
        answer = await invoke(gateway.client())
    assert (answer.status_code, answer.json()["code"]) == (503, "NoHost")
    assert int(answer.headers["retry-after"]) >= 1


async def test_the_deadline_is_one_over_all_attempts(
    tmp_path: Path, keys: CallKeys, pool: EffectivePool, start_host: Any
) -> None:
    host = await start_host()

    async def hang(host: FakeHost, request: host_pb2.HostInvokeRequest, context: Context) -> Events:
        await asyncio.sleep(10)
        yield done(b"late")

    host.script = hang
    async with running_gateway(tmp_path, keys, [(pool, [host])]) as gateway:
        await gateway.sees(1)
        answer = await invoke(gateway.client(), **{"X-Request-Timeout": "0.3"})
    assert (answer.status_code, answer.json()["code"]) == (504, "DeadlineExceeded")


async def test_cold_goes_to_a_waiting_generic_host_and_each_takes_one(
    tmp_path: Path, keys: CallKeys, pool: EffectivePool, start_host: Any
) -> None:
    store = Ownership()
    generic = [
        await start_host(f"generic-{n}", store=store, role="Generic", tiers=("HOT", "COLD")) for n in range(2)
    ]
    async with running_gateway(tmp_path, keys, [(pool, generic)]) as gateway:
        await gateway.sees(2)
        client = gateway.client()
        answers = [
            await client.post("/api/v1/pool/invoke", json=body(f"cold-{n}", tier="COLD")) for n in range(3)
        ]
    assert {answer.json().get("pod") for answer in answers[:2]} == {"generic-0", "generic-1"}
    assert (answers[2].status_code, answers[2].json()["code"]) == (503, "PoolExhausted")


async def test_two_gateways_use_one_owner(
    tmp_path: Path, keys: CallKeys, pool: EffectivePool, start_host: Any
) -> None:
    store = Ownership()
    hosts = [await start_host("pod-a", store=store), await start_host("pod-b", store=store)]
    async with (
        running_gateway(tmp_path / "one", keys, [(pool, hosts)]) as one,
        running_gateway(tmp_path / "two", keys, [(pool, list(reversed(hosts)))]) as two,
    ):
        await one.sees(2)
        await two.sees(2)
        clients = [one.client(), two.client()]
        answers = await asyncio.gather(*(invoke(clients[n % 2]) for n in range(40)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["pod"] for answer in answers}) == 1
