# SPDX-License-Identifier: Apache-2.0
"""The commit protocol of the worker, against a fake host."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Any

import pytest

from agentpool_agent.wire.frames import Clean, Commit, Failed, ToHost
from agentpool_agent.worker.commits import Commits, Terms
from agentpool_agent.worker.ledger import BadSnapshot, OverSize, checked, difference


class FakeChannel:
    """Keeps what was sent."""

    congested = False

    def __init__(self) -> None:
        self.sent: list[ToHost] = []

    def send(self, frame: ToHost) -> None:
        self.sent.append(frame)

    async def drained(self) -> None:
        return

    @property
    def commits(self) -> list[Commit]:
        return [frame for frame in self.sent if isinstance(frame, Commit)]

    @property
    def failures(self) -> dict[int, str]:
        return {frame.id: frame.code for frame in self.sent if isinstance(frame, Failed)}


class FakeAgent:
    """State that a test changes by hand."""

    def __init__(self) -> None:
        self.state: Any = {}

    def snapshot(self) -> Mapping[str, bytes]:
        if isinstance(self.state, Exception):
            raise self.state
        return dict(self.state) if isinstance(self.state, dict) else self.state

    def restore(self, parts: Mapping[str, bytes]) -> None:
        self.state = dict(parts)


class FakeRequests:
    """Requests that run, by id."""

    def __init__(self) -> None:
        self.running: list[int] = []
        self.resumed = 0

    def others_may_change(self) -> bool:
        return bool(self.running)

    def hold(self) -> None:
        return

    async def stop_all(self) -> list[int]:
        stopped, self.running = self.running, []
        return stopped

    def resume(self) -> None:
        self.resumed += 1


class Bench:
    """Commits with fakes around them."""

    def __init__(self, durable: Mapping[str, bytes] | None = None, *, answers: bool = True) -> None:
        self.agent = FakeAgent()
        self.agent.state = dict(durable or {})
        self.channel = FakeChannel()
        self.requests = FakeRequests()
        self.exclusive = False
        self.tasks: list[asyncio.Future[None]] = []
        self.commits = Commits(
            self.agent,  # type: ignore[arg-type]
            self.channel,
            Terms(durable_answers=answers, state_bytes=100),
            durable or {},
            lambda: self.exclusive,
            self._spawn,
        )
        self.commits.requests = self.requests

    def _spawn(self, work: Awaitable[None]) -> None:
        self.tasks.append(asyncio.ensure_future(work))

    def finish(self, request: int, *, unchanged: bool = False) -> None:
        self.commits.finish(request, b"1", unchanged=unchanged)

    async def settle(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)


async def test_requests_that_finish_in_one_turn_share_a_commit() -> None:
    bench = Bench()
    bench.agent.state = {"a": b"2"}
    bench.finish(1)
    bench.finish(2)
    await bench.settle()
    (commit,) = bench.channel.commits
    assert [finished.id for finished in commit.finished] == [1, 2]
    assert commit.parts == {"a": b"2"}


async def test_requests_wait_while_a_commit_is_in_flight() -> None:
    bench = Bench()
    bench.agent.state = {"a": b"1"}
    bench.finish(1)
    await bench.settle()
    bench.finish(2, unchanged=True)
    await bench.settle()
    assert len(bench.channel.commits) == 1
    bench.commits.committed(1, ok=True)
    await bench.settle()
    assert [finished.id for finished in bench.channel.commits[1].finished] == [2]
    assert bench.channel.commits[1].parts == {}


async def test_only_changed_and_removed_parts_are_sent() -> None:
    bench = Bench({"same": b"1", "other": b"2", "gone": b"3"})
    bench.agent.state = {"same": b"1", "other": b"4"}
    bench.finish(1)
    await bench.settle()
    (commit,) = bench.channel.commits
    assert (commit.parts, commit.removed) == ({"other": b"4"}, ["gone"])


async def test_an_unchanged_request_takes_no_snapshot_when_it_is_alone() -> None:
    bench = Bench()
    bench.agent.state = ValueError("must not be called")
    bench.finish(1, unchanged=True)
    await bench.settle()
    assert len(bench.channel.commits) == 1


async def test_an_unchanged_request_beside_one_that_may_change_takes_a_snapshot() -> None:
    bench = Bench()
    bench.agent.state = {"a": b"half"}
    bench.requests.running = [2]
    bench.finish(1, unchanged=True)
    await bench.settle()
    assert bench.channel.commits[0].parts == {"a": b"half"}


async def test_a_failure_that_changed_nothing_fails_alone() -> None:
    bench = Bench({"a": b"1"})
    bench.requests.running = [2]
    bench.commits.fail(Failed(1, "AgentFailed", ""), unchanged=False)
    await bench.settle()
    assert bench.channel.failures == {1: "AgentFailed"}
    assert bench.requests.running == [2]


async def test_a_failure_that_changed_state_takes_everybody_back() -> None:
    bench = Bench({"a": b"1"})
    bench.agent.state = {"a": b"dirty"}
    bench.requests.running = [3]
    bench.finish(2)
    bench.commits.fail(Failed(1, "InputRejected", ""), unchanged=False)
    await bench.settle()
    assert bench.channel.failures == {1: "InputRejected", 2: "InstanceRolledBack", 3: "InstanceRolledBack"}
    assert bench.agent.state == {"a": b"1"}
    assert bench.requests.resumed == 1
    assert not bench.channel.commits


@pytest.mark.parametrize(
    ("ok", "state"),
    [
        pytest.param(True, {"a": b"2"}, id="to the commit in flight when that is accepted"),
        pytest.param(False, {"a": b"1"}, id="to the one before when it is refused"),
    ],
)
async def test_a_failure_during_a_commit_goes_back(ok: bool, state: dict[str, bytes]) -> None:
    bench = Bench({"a": b"1"})
    bench.agent.state = {"a": b"2"}
    bench.finish(1)
    await bench.settle()
    bench.agent.state = {"a": b"dirty"}
    bench.commits.fail(Failed(2, "AgentFailed", ""), unchanged=False)
    await bench.settle()
    assert bench.channel.failures == {}
    bench.commits.committed(1, ok=ok)
    await bench.settle()
    assert bench.agent.state == state
    assert bench.channel.failures == {2: "AgentFailed"}


async def test_a_refused_commit_leaves_its_own_requests_to_the_host() -> None:
    bench = Bench({"a": b"1"})
    bench.agent.state = {"a": b"2"}
    bench.finish(1)
    await bench.settle()
    bench.finish(2)
    bench.commits.committed(1, ok=False)
    await bench.settle()
    assert bench.channel.failures == {2: "InstanceRolledBack"}
    assert bench.agent.state == {"a": b"1"}


async def test_an_answer_that_comes_while_everything_is_taken_back_is_taken_back_too() -> None:
    bench = Bench({"a": b"1"})
    bench.agent.state = {"a": b"dirty"}
    bench.commits.fail(Failed(1, "AgentFailed", ""), unchanged=False)
    await asyncio.sleep(0)
    bench.finish(2)
    await bench.settle()
    assert bench.channel.failures == {1: "AgentFailed", 2: "InstanceRolledBack"}


async def test_nothing_is_committed_while_a_request_is_exclusive() -> None:
    bench = Bench()
    bench.exclusive = True
    bench.agent.state = {"a": b"half"}
    bench.finish(1)
    await bench.settle()
    assert not bench.channel.sent
    bench.exclusive = False
    bench.agent.state = {"a": b"whole"}
    bench.commits.freed()
    assert bench.channel.commits[0].parts == {"a": b"whole"}


@pytest.mark.parametrize(
    ("state", "code"),
    [
        pytest.param({"a": bytes(200)}, "StateTooLarge", id="a state over its limit"),
        pytest.param({"a": "text"}, "AgentFailed", id="a part that is not bytes"),
        pytest.param(["a"], "AgentFailed", id="no mapping"),
        pytest.param(ValueError("boom"), "AgentFailed", id="a snapshot that raises"),
    ],
)
async def test_a_wrong_state_is_not_kept(state: object, code: str) -> None:
    bench = Bench({"a": b"1"})
    bench.agent.state = state
    bench.finish(1)
    await bench.settle()
    assert bench.channel.failures == {1: code}
    assert bench.agent.state == {"a": b"1"}


async def test_a_snapshot_of_nothing_new_is_clean() -> None:
    bench = Bench({"a": b"1"})
    bench.commits.want_snapshot(full=False)
    await bench.settle()
    assert bench.channel.sent == [Clean()]


async def test_a_full_snapshot_sends_every_part_even_when_there_is_none() -> None:
    for state in ({"a": b"1", "b": b"2"}, {}):
        bench = Bench(state)
        bench.commits.want_snapshot(full=True)
        await bench.settle()
        assert bench.channel.sent == [Commit(1, parts=state, full=True)]


async def test_interval_answers_do_not_wait_and_a_refusal_keeps_the_change_for_the_next_time() -> None:
    bench = Bench(answers=False)
    bench.agent.state = {"a": b"1"}
    bench.finish(1)
    await bench.settle()
    assert bench.channel.commits[0].parts == {}
    bench.commits.want_snapshot(full=False)
    await bench.settle()
    bench.finish(2)
    await bench.settle()
    assert [commit.parts for commit in bench.channel.commits] == [{}, {"a": b"1"}, {}]
    bench.commits.committed(2, ok=False)
    bench.commits.want_snapshot(full=False)
    await bench.settle()
    assert bench.channel.commits[-1].parts == {"a": b"1"}
    assert bench.agent.state == {"a": b"1"}


async def test_a_verdict_on_no_commit_is_refused() -> None:
    with pytest.raises(ValueError, match="not in flight"):
        Bench().commits.committed(1, ok=True)


def test_an_equal_part_is_kept_once() -> None:
    known = b"x" * 50
    assert checked({"a": bytes(bytearray(known))}, {"a": known}, 100)["a"] is known


def test_names_count_toward_the_size_of_a_state() -> None:
    with pytest.raises(OverSize):
        checked({"n" * 101: b""}, {}, 100)
    with pytest.raises(BadSnapshot):
        checked({1: b""}, {}, 100)


def test_a_new_empty_part_is_a_change() -> None:
    assert difference({}, {"a": b""}).parts == {"a": b""}
