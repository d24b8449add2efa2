# SPDX-License-Identifier: Apache-2.0
"""Threads beside a busy loop: when it is busy, and what the kernel is told of them."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Iterator

import pytest

from agentpool_rpc import yielding
from support.waiting import eventually


@pytest.fixture
def beside() -> Iterator[int]:
    """A thread that waits: its id."""
    over, started = threading.Event(), threading.Event()

    def wait() -> None:
        started.set()
        over.wait()

    thread = threading.Thread(target=wait)
    thread.start()
    started.wait()
    assert thread.native_id is not None
    yield thread.native_id
    over.set()
    thread.join()


@pytest.mark.parametrize(
    ("was_busy", "share", "now"),
    [(False, 0.0, False), (False, 0.29, False), (False, 0.3, True), (True, 0.2, True), (True, 0.19, False)],
)
def test_a_loop_is_busy_from_a_share_on_and_calm_below_a_lower_one(
    was_busy: bool, share: float, now: bool
) -> None:
    assert yielding.busy(was_busy, share) is now


def test_others_give_way_and_the_caller_does_not(beside: int) -> None:
    yielding.give_way(True, threading.get_native_id())
    try:
        assert os.sched_getscheduler(beside) == os.SCHED_BATCH
        assert os.sched_getscheduler(threading.get_native_id()) == os.SCHED_OTHER
    finally:
        yielding.give_way(False, threading.get_native_id())
    assert os.sched_getscheduler(beside) == os.SCHED_OTHER


async def test_they_do_so_while_the_loop_works(beside: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yielding, "LOOK_SECONDS", 0.05)
    looking = asyncio.create_task(yielding.yielding())

    def works_and(policy: int, seconds: float) -> bool:
        until = time.thread_time() + seconds
        while time.thread_time() < until:
            pass
        return os.sched_getscheduler(beside) == policy

    try:
        await eventually(lambda: works_and(os.SCHED_BATCH, 0.05), 20)
        await eventually(lambda: works_and(os.SCHED_OTHER, 0.0), 20)
    finally:
        looking.cancel()
        await asyncio.to_thread(yielding.give_way, False, threading.get_native_id())


async def test_where_the_kernel_refuses_they_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(others: bool, loop_thread: int) -> None:
        raise PermissionError("no")

    monkeypatch.setattr(yielding, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(yielding, "busy", lambda *_: True)
    monkeypatch.setattr(yielding, "give_way", refuse)
    async with asyncio.timeout(5):
        await yielding.yielding()
