# SPDX-License-Identifier: Apache-2.0
"""Following a host: order, pauses, and an end that is always heeded."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from random import Random
from typing import Any

import grpc
import pytest
from grpc.aio import AioRpcError, Metadata

from agentpool_proto.v1 import host_pb2
from agentpool_rpc.tokens import TokenSigner, generate_keypair
from agentpool_rpc.watching import Backoff, BrokenWatch, follow_host

UID = "pod-uid"
BACKOFF = Backoff(first_seconds=0.0005, last_seconds=0.004)
BROKEN = AioRpcError(grpc.StatusCode.UNAVAILABLE, Metadata(), Metadata())
Script = Sequence[host_pb2.WatchEvent | BaseException]


def snapshot(sequence: int = 1, pod: str = UID) -> host_pb2.WatchEvent:
    status = host_pb2.HostStatus(incarnation=f"{pod}/0001")
    return host_pb2.WatchEvent(sequence=sequence, snapshot=host_pb2.WatchSnapshot(host=status))


def delta(sequence: int) -> host_pb2.WatchEvent:
    return host_pb2.WatchEvent(sequence=sequence, delta=host_pb2.WatchDelta())


class Call:
    """One Watch call that plays a script and then ends in good order."""

    def __init__(self, script: Script) -> None:
        self._script = list(script)
        self.cancelled = False

    async def read(self) -> Any:
        await asyncio.sleep(0)
        if not self._script:
            return grpc.aio.EOF
        found = self._script.pop(0)
        if isinstance(found, BaseException):
            raise found
        return found

    def cancel(self) -> None:
        self.cancelled = True


class Host:
    """A stub that plays one script after the other, the last one for ever; and who follows it."""

    def __init__(self, *scripts: Script) -> None:
        self.scripts = scripts
        self.calls: list[Call] = []
        self.events: list[int] = []
        self.losses: list[tuple[str, bool]] = []
        self.enough = asyncio.Event()
        self.wanted = len(scripts)
        self.refuse: Exception | None = None

    def Watch(self, request: Any, metadata: Any) -> Call:
        call = Call(self.scripts[min(len(self.calls), len(self.scripts) - 1)])
        self.calls.append(call)
        return call

    def told(self, event: host_pb2.WatchEvent) -> None:
        if self.refuse is not None:
            raise self.refuse
        self.events.append(event.sequence)

    async def lost(self, reason: str, told: bool) -> None:
        self.losses.append((reason, told))
        if len(self.losses) >= self.wanted:
            self.enough.set()

    async def followed(self, backoff: Backoff = BACKOFF) -> None:
        """Follow until every script was played."""
        signer = TokenSigner(generate_keypair()[0], "test", time.time)
        task = asyncio.create_task(follow_host(self, UID, signer, self, backoff, Random(1)))
        try:
            async with asyncio.timeout(5):
                await self.enough.wait()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
        assert all(call.cancelled for call in self.calls[: len(self.losses)])


@pytest.mark.parametrize(
    ("script", "events", "reason", "told"),
    [
        pytest.param([snapshot(), delta(2)], [1, 2], "ended by the host", True, id="a stream that ends"),
        pytest.param([snapshot(), BROKEN], [1], "UNAVAILABLE", True, id="a stream that breaks"),
        pytest.param([BROKEN], [], "UNAVAILABLE", False, id="a host that is not there"),
        pytest.param([delta(1)], [], "event 1 (delta) where 1 was due", False, id="no snapshot first"),
        pytest.param(
            [snapshot(), delta(3)], [1], "event 3 (delta) where 2 was due", True, id="a gap in the numbers"
        ),
        pytest.param(
            [snapshot(), snapshot(2)], [1], "event 2 (snapshot) where 2 was due", True, id="a second snapshot"
        ),
        pytest.param(
            [snapshot(pod="other")], [], "the host is of pod other", False, id="the host of another pod"
        ),
    ],
)
async def test_what_is_told_and_why_it_ended(
    script: Script, events: list[int], reason: str, told: bool
) -> None:
    host = Host(script)
    await host.followed()
    assert host.losses[0] == (reason, told)
    assert host.events[: len(events)] == events


@pytest.mark.parametrize("refusal", [BrokenWatch("no"), ValueError("no")], ids=["BrokenWatch", "ValueError"])
async def test_a_follower_that_cannot_take_an_event_ends_the_watch(refusal: Exception) -> None:
    host = Host([snapshot()])
    host.refuse = refusal
    await host.followed()
    assert host.losses[0] == ("no", False)


async def test_it_goes_on_after_every_loss() -> None:
    host = Host([BROKEN], [snapshot(), BROKEN], [snapshot(), delta(2)])
    await host.followed()
    assert [told for _, told in host.losses] == [False, True, True]


async def test_a_host_that_breaks_each_time_is_asked_ever_more_seldom() -> None:
    host = Host([snapshot(), BROKEN])
    host.wanted = 12
    began = asyncio.get_running_loop().time()
    await host.followed(Backoff(first_seconds=0.001, last_seconds=0.02))
    seconds = asyncio.get_running_loop().time() - began
    # 1 + 2 + 4 + 8 + 16 ms, then 20 ms each, all of them halved at most.
    assert seconds > (0.031 + 6 * 0.02) / 2


async def test_a_cancellation_that_a_failure_hides_still_ends_it() -> None:
    host = Host([snapshot()])
    signer = TokenSigner(generate_keypair()[0], "test", time.time)

    class Hiding(Call):
        async def read(self) -> Any:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                raise BROKEN from None

    def watch(request: Any, metadata: Any) -> Call:
        host.calls.append(Hiding([]))
        return host.calls[-1]

    host.Watch = watch  # type: ignore[method-assign]
    task = asyncio.create_task(follow_host(host, UID, signer, host, BACKOFF, Random(1)))
    await asyncio.sleep(0.01)
    task.cancel()
    async with asyncio.timeout(1):
        await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
    assert not host.losses
