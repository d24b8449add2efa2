# SPDX-License-Identifier: Apache-2.0
"""Who wants an answer alone of an instance that is there gets it by a unary call, with the same promises."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from agentpool_core import errors
from agentpool_core.config import EffectivePool
from agentpool_gateway.dispatch.host_call import QUICK_MS
from agentpool_proto.v1 import host_pb2, types_pb2
from support.callers import body
from support.fake_host import Context, FakeHost, Ownership, Script, done
from support.gateways import CallKeys, running_gateway

Events = AsyncIterator[types_pb2.InvokeEvent]
Invoke = Callable[..., Coroutine[Any, Any, httpx.Response]]
KEY = {"Idempotency-Key": "once"}
STREAM = {"accept": "text/event-stream"}


@asynccontextmanager
async def resident(
    tmp_path: Path, keys: CallKeys, pool: EffectivePool, start_host: Any, **first: Any
) -> AsyncIterator[tuple[FakeHost, FakeHost, Invoke]]:
    """The host that holds an instance, another one, and how to call it. `first` is set at both before."""
    store = Ownership()
    hosts = [await start_host("pod-a", store=store), await start_host("pod-b", store=store)]
    for host in hosts:
        for name, value in first.items():
            setattr(host, name, value)
    async with running_gateway(tmp_path, keys, [(pool, hosts)]) as gateway:
        await gateway.sees(2)

        async def invoke(**headers: str) -> httpx.Response:
            return await gateway.client().post("/api/v1/pool/invoke", json=body("project"), headers=headers)

        pod = (await invoke()).json()["pod"]
        holder, other = hosts if pod == hosts[0].pod else reversed(hosts)
        yield holder, other, invoke


def breaks(accepted: bool) -> Script:
    """The connection breaks before or after the host accepts."""

    async def script(host: FakeHost, request: host_pb2.HostInvokeRequest, context: Context) -> Events:
        if accepted:
            yield host.accept(request)
            await asyncio.sleep(0.05)
        await host.stop()
        await asyncio.sleep(1)
        yield done(b"never seen")

    return script


def fails(error: errors.AgentPoolError) -> Script:
    """The request fails after it was accepted."""

    async def script(host: FakeHost, request: host_pb2.HostInvokeRequest, context: Context) -> Events:
        yield host.accept(request)
        raise error

    return script


async def hang(host: FakeHost, request: host_pb2.HostInvokeRequest, context: Context) -> Events:
    """No answer ever."""
    yield host.accept(request)
    await asyncio.Event().wait()


async def hang_before(host: FakeHost, request: host_pb2.HostInvokeRequest, context: Context) -> Events:
    """Not even accepted."""
    await asyncio.Event().wait()
    yield host.accept(request)


async def silent(host: FakeHost, request: host_pb2.HostInvokeRequest, context: Context) -> Events:
    """An answer without its end."""
    yield host.accept(request)


async def slow(host: FakeHost, request: host_pb2.HostInvokeRequest, context: Context) -> Events:
    """By its own account it takes long."""
    yield host.accept(request)
    yield types_pb2.InvokeEvent(
        done=types_pb2.Done(output=b"1", timing=types_pb2.Timing(done_ms=2 * QUICK_MS))
    )


async def test_the_first_request_is_told_of_and_later_ones_are_answered(
    tmp_path: Path, keys: CallKeys, pool: EffectivePool, start_host: Any
) -> None:
    async with resident(tmp_path, keys, pool, start_host) as (holder, _, invoke):
        first, second = (await invoke()).json(), (await invoke()).json()
        streamed = await invoke(**STREAM)
        assert holder.methods == ["Invoke", "InvokeUnary", "InvokeUnary", "Invoke"]
        for answer in (first, second):
            timing = answer.pop("timing")
            assert 0 <= timing["placed_ms"] <= timing["accepted_ms"] <= timing["done_ms"]
        assert first == second
        assert streamed.status_code == 200


async def test_a_host_of_an_earlier_release_is_asked_for_events(
    tmp_path: Path, keys: CallKeys, pool: EffectivePool, start_host: Any
) -> None:
    async with resident(tmp_path, keys, pool, start_host, unary=False) as (holder, _, invoke):
        answers = [await invoke() for _ in range(2)]
        assert [answer.status_code for answer in answers] == [200, 200]
        assert holder.methods == ["Invoke"] * 3


async def test_a_host_with_slow_agents_is_asked_for_events(
    tmp_path: Path, keys: CallKeys, pool: EffectivePool, start_host: Any
) -> None:
    async with resident(tmp_path, keys, pool, start_host, script=slow) as (holder, _, invoke):
        await invoke()
        assert holder.methods == ["Invoke"] * 2


@pytest.mark.parametrize(
    ("accepted", "headers"), [(False, {}), (True, KEY)], ids=["before it is accepted", "after it, with a key"]
)
async def test_a_break_goes_to_another_host_with_the_proof(
    tmp_path: Path,
    keys: CallKeys,
    pool: EffectivePool,
    start_host: Any,
    accepted: bool,
    headers: dict[str, str],
) -> None:
    async with resident(tmp_path, keys, pool, start_host) as (holder, other, invoke):
        holder.script = breaks(accepted)
        answer = await invoke(**headers)
        assert (answer.status_code, answer.json()["pod"]) == (200, other.pod)
        assert holder.methods[-1] == "InvokeUnary"
        assert holder.incarnation in other.claims[-1].ended


async def test_a_break_after_it_was_accepted_leaves_the_outcome_unknown(
    tmp_path: Path, keys: CallKeys, pool: EffectivePool, start_host: Any
) -> None:
    async with resident(tmp_path, keys, pool, start_host) as (holder, other, invoke):
        holder.script = breaks(accepted=True)
        answer = await invoke()
        assert (answer.status_code, answer.json()["code"]) == (502, "OutcomeUnknown")
        assert (holder.methods[-1], other.invoked) == ("InvokeUnary", [])


@pytest.mark.parametrize(
    ("script", "outcome"), [(hang, "unknown"), (hang_before, None)], ids=["accepted", "not accepted"]
)
async def test_a_deadline_says_whether_it_was_accepted(
    tmp_path: Path,
    keys: CallKeys,
    pool: EffectivePool,
    start_host: Any,
    script: Script,
    outcome: str | None,
) -> None:
    async with resident(tmp_path, keys, pool, start_host) as (holder, _, invoke):
        holder.script = script
        problem = (await invoke(**{"x-request-timeout": "0.3"})).json()
        assert holder.methods[-1] == "InvokeUnary"
        assert problem["code"] == "DeadlineExceeded"
        assert problem.get("details", {}).get("outcome") == outcome


async def test_an_answer_without_its_end_is_a_break(
    tmp_path: Path, keys: CallKeys, pool: EffectivePool, start_host: Any
) -> None:
    async with resident(tmp_path, keys, pool, start_host) as (holder, _, invoke):
        holder.script = silent
        assert (await invoke()).json()["code"] == "OutcomeUnknown"


@pytest.mark.parametrize(
    "error",
    [errors.InstanceCrashed("It crashed."), errors.AgentFailure("It raised.")],
    ids=lambda error: str(error.code),
)
async def test_the_error_of_an_accepted_request_is_the_callers(
    tmp_path: Path, keys: CallKeys, pool: EffectivePool, start_host: Any, error: errors.AgentPoolError
) -> None:
    async with resident(tmp_path, keys, pool, start_host) as (holder, other, invoke):
        holder.script = fails(error)
        assert (await invoke()).json()["code"] == error.code
        assert not other.invoked
