# SPDX-License-Identifier: Apache-2.0
"""The work queue: each key once, paced, bounded, and with a growing pause after failures."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from agentpool_operator.queue import (
    PACE_SECONDS,
    PASSING_SECONDS,
    Key,
    Outcome,
    Subject,
    WorkQueue,
    backoff_seconds,
    work,
)

A = Key(Subject.POOL, "default", "a")
B = Key(Subject.POOL, "default", "b")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def make(max_keys: int = 10) -> tuple[WorkQueue, Clock]:
    clock = Clock()
    return WorkQueue(clock, max_keys), clock


async def taken(queue: WorkQueue) -> Key | None:
    try:
        async with asyncio.timeout(0):
            return await queue.take()
    except TimeoutError:
        return None


async def test_a_key_added_often_runs_once() -> None:
    queue, _ = make()
    for _ in range(3):
        queue.add(A)
    assert await taken(queue) == A
    assert await taken(queue) is None


async def test_the_key_that_is_due_first_comes_first() -> None:
    queue, clock = make()
    queue.add(A, 5.0)
    queue.add(B, 1.0)
    clock.now += 10
    assert [await taken(queue), await taken(queue)] == [B, A]


async def test_news_brings_a_waiting_key_forward() -> None:
    queue, _ = make()
    queue.add(A, 60.0)
    queue.add(A)
    assert await taken(queue) == A


async def test_a_key_under_way_is_not_taken_twice_and_runs_again_after() -> None:
    queue, clock = make()
    queue.add(A)
    assert await taken(queue) == A
    queue.add(A)
    assert await taken(queue) is None
    queue.done(A)
    assert await taken(queue) is None
    clock.now += PACE_SECONDS
    assert await taken(queue) == A


async def test_a_key_that_is_done_is_forgotten() -> None:
    queue, _ = make()
    queue.add(A)
    await taken(queue)
    queue.done(A)
    assert len(queue) == 0


async def test_a_key_comes_again_when_its_run_asked_for_it() -> None:
    queue, clock = make()
    queue.add(A)
    await taken(queue)
    queue.done(A, 5.0)
    assert await taken(queue) is None
    clock.now += 5
    assert await taken(queue) == A


async def test_failures_wait_longer_and_longer_and_news_does_not_cut_that_short() -> None:
    queue, clock = make()
    queue.add(A)
    pauses = []
    for _ in range(8):
        assert await taken(queue) == A
        pauses.append(queue.failed(A))
        queue.add(A)
        assert await taken(queue) is None
        clock.now += pauses[-1]
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]
    assert backoff_seconds(10_000) == 60


async def test_trouble_of_the_server_is_waited_out_for_less_long() -> None:
    queue, clock = make()
    queue.add(A)
    pauses = []
    for _ in range(6):
        assert await taken(queue) == A
        pauses.append(queue.failed(A, PASSING_SECONDS))
        clock.now += pauses[-1]
    assert pauses == [1, 2, 4, 8, 8, 8]


async def test_a_success_ends_the_back_off() -> None:
    queue, clock = make()
    queue.add(A)
    await taken(queue)
    queue.failed(A)
    clock.now += 1
    await taken(queue)
    queue.done(A)
    queue.add(A)
    clock.now += 1
    await taken(queue)
    assert queue.failed(A) == 1


async def test_a_full_queue_refuses_new_keys_and_says_so() -> None:
    queue, _ = make(max_keys=1)
    queue.add(A)
    queue.add(B)
    assert (len(queue), queue.overflowed) == (1, True)


async def test_the_probe_sees_keys_that_nobody_takes() -> None:
    queue, clock = make()
    assert queue.stuck_seconds == 0
    queue.add(A)
    clock.now += 7
    assert queue.stuck_seconds == 7
    await taken(queue)
    assert queue.stuck_seconds == 0


async def test_a_long_queue_that_moves_is_not_stuck() -> None:
    queue, clock = make()
    queue.add(A)
    queue.add(B)
    clock.now += 50
    await taken(queue)
    clock.now += 3
    assert queue.stuck_seconds == 3


@pytest.mark.parametrize("error", [ConnectionError("away"), ZeroDivisionError("a bug")])
async def test_a_failed_run_is_tried_again(error: Exception) -> None:
    queue, clock = make()
    queue.add(A)
    runs: list[Key] = []
    seen: list[Outcome] = []

    async def reconcile(key: Key) -> float | None:
        runs.append(key)
        if len(runs) == 1:
            raise error
        return None

    def observe(_key: Key, outcome: Outcome, _seconds: float) -> None:
        seen.append(outcome)
        if len(seen) == 1:
            clock.now += 1
            queue.add(B)
        if len(seen) == 3:
            done.set()

    done = asyncio.Event()
    with capture_logs() as logs:
        task = asyncio.create_task(work(queue, reconcile, (ConnectionError,), 1.0, observe))
        await done.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert sorted(runs) == [A, A, B]
    assert seen == [Outcome.FAILED, Outcome.DONE, Outcome.DONE]
    # A bug is logged with its place, trouble of others is not.
    assert logs[0]["exc_info"] is isinstance(error, ZeroDivisionError)
