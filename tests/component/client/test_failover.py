# SPDX-License-Identifier: Apache-2.0
"""Hosts and gateways break while requests go to hosts themselves: none is lost, none is done twice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agentpool_client import Answer, RetryPolicy
from agentpool_core import errors
from agentpool_core.config import EffectivePool
from agentpool_proto.v1 import host_pb2, types_pb2
from support.callers import TokenIssuer
from support.clients import Side, client
from support.fake_host import Context, FakeHost, Ownership, chunk, done, echo
from support.gateways import CallKeys, HostEntry, running_gateway, write_membership
from support.hosts import COUNTER, pool_config
from support.spine import running_spine
from support.tcpproxy import open_tcp_proxy
from support.waiting import eventually

LEASES = {"direct_access": True}
CONFIG = pool_config(agent=COUNTER, storage="Redis")
Events = AsyncIterator[types_pb2.InvokeEvent]


class Stream:
    """Increments of one instance, one after another, for as long as it runs."""

    def __init__(self, side: Side, project: str) -> None:
        self.answers: list[Answer] = []
        self._side = side
        self._project = project
        self._stop = False
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while not self._stop:
            self.answers.append(await self._side.invoke("acme", self._project, "add"))
            await asyncio.sleep(0.02)

    async def grown(self, more: int = 20, seconds: float = 60.0) -> None:
        """Wait for more answers; raises what ended the stream."""
        wanted = len(self.answers) + more
        await eventually(lambda: len(self.answers) >= wanted or self._task.done(), seconds)
        if self._task.done():
            self._task.result()

    async def end(self) -> list[int]:
        """Stop it; what was counted."""
        self._stop = True
        await self._task
        return [one.output for one in self.answers]


def exactly_once(outputs: list[int]) -> None:
    assert outputs == list(range(1, len(outputs) + 1))


async def test_an_instance_of_a_killed_host_is_followed_and_no_request_is_lost(kind: str) -> None:
    async with running_spine(CONFIG, hosts=2, settings=LEASES) as spine:
        async with client(kind, spine.gateways[0].grpc_address) as side:
            stream = Stream(side, "p")
            await stream.grown()
            victim = spine.pod(stream.answers[-1].pod)
            assert stream.answers[-1].direct
            await victim.kill_host()
            await stream.grown()
            await stream.grown()
            exactly_once(await stream.end())
            assert stream.answers[-1].pod != victim.name
            assert stream.answers[-1].direct, "it has a lease at the new host"


async def test_a_draining_host_is_left_without_an_error(kind: str) -> None:
    async with running_spine(CONFIG, hosts=2, settings=LEASES) as spine:
        async with client(kind, spine.gateways[0].grpc_address) as side:
            stream = Stream(side, "p")
            await stream.grown()
            victim = spine.pod(stream.answers[-1].pod)
            await victim.drain_host()
            await stream.grown()
            exactly_once(await stream.end())
            assert stream.answers[-1].pod != victim.name


async def test_a_host_that_restarts_does_not_know_the_token_and_gets_another(kind: str) -> None:
    async with running_spine(CONFIG, settings=LEASES) as spine:
        async with client(kind, spine.gateways[0].grpc_address) as side:
            stream = Stream(side, "p")
            await stream.grown()
            await spine.restart_host(0)
            await stream.grown()
            exactly_once(await stream.end())


async def test_an_instance_that_is_moved_is_followed(kind: str) -> None:
    async with running_spine(CONFIG, generic=1, settings=LEASES) as spine:
        async with client(kind, spine.gateways[0].grpc_address) as side:
            stream = Stream(side, "p")
            await stream.grown()
            before = stream.answers[-1]
            await side.operate("move", before.instance_id, "HOT")
            await stream.grown()
            exactly_once(await stream.end())
            assert (before.tier, stream.answers[-1].tier) == ("WARM", "HOT")


async def test_leased_requests_go_on_while_no_gateway_is_there(kind: str) -> None:
    async with running_spine(CONFIG, settings=LEASES) as spine:
        async with client(kind, spine.gateways[0].grpc_address, timeout_seconds=5) as side:
            stream = Stream(side, "p")
            await stream.grown()
            await spine.kill_gateway(0)
            await stream.grown(50)
            exactly_once(await stream.end())
            with pytest.raises((errors.Unavailable, errors.DeadlineExceeded)):
                await side.invoke("acme", "never-leased", "add", timeout_seconds=1)


async def break_off(host: FakeHost, request: host_pb2.HostInvokeRequest, context: Context) -> Events:
    """The connection breaks before the host accepts."""
    await host.stop()
    yield done(b"never seen")


async def break_later(host: FakeHost, request: host_pb2.HostInvokeRequest, context: Context) -> Events:
    """It breaks in the middle of the answer."""
    yield host.accept(request)
    yield chunk(b"1")
    await asyncio.sleep(0.05)
    await host.stop()
    await asyncio.sleep(1)


async def leased(side: Side, first: FakeHost, second: FakeHost) -> tuple[FakeHost, FakeHost]:
    """Lease an instance; the host that has it, and the other one."""
    used = await side.use("tenant", "project", ["x"])
    pod = used.answers[0].pod
    assert used.answers[0].direct
    return (first, second) if pod == first.pod else (second, first)


@pytest.mark.parametrize("keys_on", [True, False])
async def test_a_break_before_accepted_is_repeated_with_and_without_a_key(
    kind: str, keys_on: bool, tmp_path: Path, keys: CallKeys, pool: EffectivePool, start_host: Any
) -> None:
    store = Ownership()
    hosts = await start_host("pod-a", store=store), await start_host("pod-b", store=store)
    async with running_gateway(tmp_path, keys, [(pool, hosts)], **LEASES) as gateway:
        await gateway.sees(2)
        async with client(kind, gateway.grpc_address, retries=RetryPolicy(keys=keys_on)) as side:
            holder, other = await leased(side, *hosts)
            holder.script = break_off
            answer = await side.invoke("tenant", "project", "y")
            assert (answer.output, answer.pod, answer.attempts) == ("y", other.pod, 1)
    assert [one.input for one in holder.invoked] == [b'"x"', b'"y"']
    assert [one.input for one in other.invoked] == [b'"y"']


async def test_a_break_after_accepted_without_a_key_is_an_unknown_outcome(
    kind: str, tmp_path: Path, keys: CallKeys, pool: EffectivePool, start_host: Any
) -> None:
    store = Ownership()
    hosts = await start_host("pod-a", store=store), await start_host("pod-b", store=store)
    async with running_gateway(tmp_path, keys, [(pool, hosts)], **LEASES) as gateway:
        await gateway.sees(2)
        async with client(kind, gateway.grpc_address, retries=RetryPolicy(keys=False)) as side:
            holder, other = await leased(side, *hosts)
            holder.script = break_later
            with pytest.raises(errors.OutcomeUnknown):
                await side.invoke("tenant", "project", "y")
    assert not other.invoked


async def test_a_break_after_accepted_with_a_key_is_repeated_under_the_same_key(
    kind: str, tmp_path: Path, keys: CallKeys, pool: EffectivePool, start_host: Any
) -> None:
    store = Ownership()
    hosts = await start_host("pod-a", store=store), await start_host("pod-b", store=store)
    async with running_gateway(tmp_path, keys, [(pool, hosts)], **LEASES) as gateway:
        await gateway.sees(2)
        async with client(kind, gateway.grpc_address) as side:
            holder, other = await leased(side, *hosts)
            holder.script = break_later
            events = await side.events("tenant", "project", "y")
    names = [type(one).__name__ for one in events]
    assert names == ["Accepted", "Chunk", "Accepted", "Answer"], "the second Accepted voids the chunk"
    assert holder.invoked[-1].idempotency_key == other.invoked[-1].idempotency_key != ""


async def test_a_host_out_of_reach_is_reached_through_the_gateway(
    kind: str, tmp_path: Path, keys: CallKeys, pool: EffectivePool, start_host: Any
) -> None:
    host = await start_host()
    async with open_tcp_proxy("127.0.0.1", host.port) as proxy:
        entry = HostEntry(host.pod, host.pod_uid, f"127.0.0.1:{proxy.port}")
        async with running_gateway(tmp_path, keys, [(pool, [entry])], **LEASES) as gateway:
            await gateway.sees(1)
            proxy.refuse = True
            async with client(kind, gateway.grpc_address) as side:
                used = await side.use("tenant", "project", ["a", "b"])
                answers = [*used.answers, await side.invoke("tenant", "project", "c")]
                refused = gateway.log.count('"acquire_lease"')
    assert [(one.output, one.direct) for one in answers] == [("a", False), ("b", False), ("c", False)]
    assert refused == 1, "that hosts are out of reach is remembered"


async def test_a_token_that_was_replaced_is_read_again_when_it_is_refused(
    kind: str, tmp_path: Path, keys: CallKeys, pool: EffectivePool, start_host: Any
) -> None:
    host, issuer, file = await start_host(), TokenIssuer(), tmp_path / "token"
    auth = {
        "mode": "jwt",
        "issuers": [{"issuer": "https://issuer.test", "jwks_file": str(issuer.write(tmp_path / "jwks"))}],
        "grants": [{"subject": "app", "verbs": ["invoke", "get"]}],
    }
    ended = issuer.token("app", exp=time.time() - 3600)
    async with running_gateway(tmp_path / "gateway", keys, [(pool, [host])], auth=auth, **LEASES) as gateway:
        await gateway.sees(1)
        file.write_text(ended)
        async with client(kind, gateway.grpc_address, token_file=file) as side:
            with pytest.raises(errors.Unauthenticated):
                await side.invoke("tenant", "one", "a")
            file.write_text(issuer.token("app"))
            assert (await side.invoke("tenant", "one", "a")).output == "a"
        file.write_text(ended)
        async with client(kind, gateway.grpc_address, token_file=file) as side:
            file.write_text(issuer.token("app"))
            assert (await side.use("tenant", "two", ["b"])).answers[0].direct


async def test_a_host_that_joins_again_under_another_address_is_found(
    kind: str, tmp_path: Path, keys: CallKeys, pool: EffectivePool, start_host: Any
) -> None:
    store = Ownership()
    first = await start_host("pod-a", store=store)
    async with running_gateway(tmp_path, keys, [(pool, [first])], **LEASES) as gateway:
        await gateway.sees(1)
        async with client(kind, gateway.grpc_address) as side:
            await side.use("tenant", "project", ["x"])
            second = await start_host("pod-b", store=store)
            second.script = echo
            await first.stop()
            store.owners.clear()
            write_membership(gateway.membership_file, [(pool, [second])])
            answer = await side.invoke("tenant", "project", "y", timeout_seconds=30)
    assert (answer.output, answer.pod) == ("y", "pod-b")
