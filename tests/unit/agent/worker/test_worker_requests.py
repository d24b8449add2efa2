# SPDX-License-Identifier: Apache-2.0
"""The requests of one instance, with the real commits behind them: what one that fails does to the others."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from agentpool_agent.authoring import Answer, Context, Event, Identity, Rejected, Request
from agentpool_agent.wire.frames import Commit, Failed, Handle, ToHost
from agentpool_agent.worker.commits import Commits, Terms
from agentpool_agent.worker.context import InstanceContext
from agentpool_agent.worker.gate import Gate
from agentpool_agent.worker.requests import HandlerRuns
from support.waiting import eventually


class Counter:
    """Counts, and waits, fails or cleans up as a request says."""

    def __init__(self) -> None:
        self.count = 0
        self.served: list[int] = []
        self.on_reject: Callable[[], object] = bool

    async def setup(self, context: Context) -> None:
        """Nothing to make ready."""

    def snapshot(self) -> Mapping[str, bytes]:
        """The count."""
        return {"count": str(self.count).encode()}

    def restore(self, parts: Mapping[str, bytes]) -> None:
        """The same, back."""
        self.count = int(parts.get("count", b"0"))

    async def handle(self, request: Request, context: Context) -> AsyncIterator[Event]:
        """See the class."""
        asked: dict[str, Any] = request.input
        self.served.append(int(request.id))
        if asked.get("unchanged"):
            context.unchanged()
        self.count += asked.get("add", 0)
        try:
            await asyncio.sleep(asked.get("wait", 0))
            if asked.get("reject"):
                asyncio.get_running_loop().call_soon(self.on_reject)
                raise Rejected("no")
            yield Answer(self.count)
        finally:
            if "clean" in asked:
                await asyncio.sleep(asked["clean"])


class FakeHost:
    """Answers commits in the next turn, as a store that is near."""

    congested = False

    def __init__(self) -> None:
        self.outputs: dict[int, int] = {}
        self.failures: dict[int, str] = {}
        self.commits: Commits | None = None
        self.store_is_there = True
        self.on_answer: Callable[[], object] = bool

    def send(self, frame: ToHost) -> None:
        """A frame of the worker."""
        match frame:
            case Commit():
                if self.store_is_there or not frame.parts:
                    self.outputs |= {one.id: int(one.output) for one in frame.finished}
                if frame.parts:
                    asyncio.get_running_loop().call_soon(self.answer, frame.seq)
            case Failed():
                self.failures[frame.id] = frame.code

    def answer(self, seq: int) -> None:
        """The verdict on a commit."""
        assert self.commits is not None
        self.commits.committed(seq, ok=self.store_is_there)
        self.on_answer()

    async def drained(self) -> None:
        """Nothing waits."""


class Bench:
    """A worker's requests and commits between a real agent and a host that is played."""

    def __init__(self) -> None:
        self.agent = Counter()
        self.host = FakeHost()
        self.ended: list[str] = []
        self.tasks: set[asyncio.Future[None]] = set()
        gate = Gate(lambda: self.commits.freed())
        context = InstanceContext(Identity("n", "pool", "t", "p", "i"), {}, Path("/"), gate)
        channel: Any = self.host
        agent: Any = self.agent
        self.commits = Commits(agent, channel, Terms(True, 1000), {}, lambda: gate.held, self._spawn)
        self.runs = HandlerRuns(agent, context, channel, self.commits, 1000, self.ended.append)
        self.commits.requests = self.runs
        self.host.commits = self.commits

    def _spawn(self, work: Awaitable[None]) -> None:
        self.tasks.add(asyncio.ensure_future(work))

    def start(self, number: int, deadline: float = 5.0, **asked: object) -> None:
        """A request arrives."""
        self.runs.start(Handle(number, json.dumps(asked).encode(), deadline))

    async def until(self, *numbers: int) -> None:
        """Requests have their answers or errors."""

        def all_there() -> bool:
            return set(numbers) <= self.host.outputs.keys() | self.host.failures.keys()

        await eventually(all_there, 5)


async def test_who_comes_after_a_caller_went_away_is_not_taken_back_with_it() -> None:
    bench = Bench()
    bench.start(1, add=1, wait=60)
    await asyncio.sleep(0.01)
    bench.runs.cancel(1)
    bench.start(2)
    await bench.until(2)
    assert (bench.host.outputs, bench.host.failures) == ({2: 0}, {})


async def test_who_comes_while_a_stopped_one_cleans_up_waits_for_the_state_to_be_sure() -> None:
    bench = Bench()
    bench.start(1, add=1, wait=60, clean=0.05)
    await asyncio.sleep(0.01)
    bench.runs.cancel(1)
    await asyncio.sleep(0.01)
    bench.start(2)
    await asyncio.sleep(0.01)
    assert bench.agent.served == [1]
    await bench.until(2)
    assert (bench.host.outputs, bench.host.failures) == ({2: 0}, {})


async def test_a_stopped_one_that_changes_nothing_holds_nobody_up() -> None:
    bench = Bench()
    bench.start(1, unchanged=True, wait=60, clean=60)
    await asyncio.sleep(0.01)
    bench.runs.cancel(1)
    bench.start(2)
    await bench.until(2)
    assert bench.host.outputs == {2: 0}
    bench.runs._running[1].task.cancel()


async def test_two_that_are_stopped_are_both_waited_for() -> None:
    bench = Bench()
    bench.start(1, wait=60)
    bench.start(2, add=1, wait=60, clean=0.03)
    await asyncio.sleep(0.01)
    bench.runs.cancel(1)
    bench.runs.cancel(2)
    bench.start(3)
    await bench.until(3)
    assert (bench.host.outputs, bench.host.failures) == ({3: 0}, {})


async def test_who_comes_as_a_change_is_refused_is_served_from_the_state_before() -> None:
    bench = Bench()
    bench.host.store_is_there = False
    bench.host.on_answer = lambda: bench.start(2)
    bench.start(1, add=1)
    await bench.until(2)
    assert (bench.host.outputs, bench.host.failures) == ({2: 0}, {})


async def test_who_comes_in_the_turn_of_a_failure_is_served() -> None:
    bench = Bench()
    bench.agent.on_reject = lambda: bench.start(2)
    bench.start(1, add=1, reject=True)
    await bench.until(1, 2)
    assert (bench.host.outputs, bench.host.failures) == ({2: 0}, {1: "InputRejected"})


async def test_one_that_had_begun_beside_a_failure_is_taken_back() -> None:
    bench = Bench()
    bench.start(1, add=1, wait=0.02, reject=True)
    bench.start(2, wait=60)
    await bench.until(1, 2)
    assert bench.host.failures == {1: "InputRejected", 2: "InstanceRolledBack"}


async def test_one_that_goes_away_before_its_first_turn_leaves_nothing_behind() -> None:
    bench = Bench()
    bench.start(1, deadline=-4.99)
    bench.runs.cancel(1)
    bench.start(2, add=1)
    await bench.until(2)
    await asyncio.sleep(0.05)
    assert (bench.agent.served, bench.host.outputs, bench.ended) == ([2], {2: 1}, [])
    assert not bench.runs.others_may_change()
