# SPDX-License-Identifier: Apache-2.0
"""The life of a worker that the zygote plays through before it forks any."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FrameType

import pytest

from agentpool_agent.worker.rehearsal import ANSWERS, rehearse
from agentpool_agent.worker.requests import HandlerRuns
from agentpool_agent.worker.runtime import Worker


class OtherPolicy(asyncio.DefaultEventLoopPolicy):
    """Stands for that of another library."""


@pytest.fixture
def other_policy() -> Iterator[None]:
    asyncio.set_event_loop_policy(OtherPolicy())
    yield
    asyncio.set_event_loop_policy(None)


def surroundings() -> tuple[object, ...]:
    """What a process hands on to its forks."""
    open_files = set(os.listdir("/proc/self/fd"))
    return open_files, threading.active_count(), os.getcwd(), dict(os.environ)


def test_it_leaves_nothing_behind(tmp_path: Path) -> None:
    rehearse(tmp_path)
    before = surroundings()
    assert rehearse(tmp_path)
    assert surroundings() == before
    assert list(tmp_path.iterdir()) == []


def test_a_worker_gets_state_and_answers_as_often_as_python_needs_to_specialise_it(tmp_path: Path) -> None:
    calls: dict[CodeType, int] = {}

    def count(frame: FrameType, event: str, _argument: object) -> None:
        if event == "call":
            calls[frame.f_code] = calls.get(frame.f_code, 0) + 1

    sys.setprofile(count)
    try:
        rehearse(tmp_path)
    finally:
        sys.setprofile(None)
    assert calls[Worker._make.__code__] >= 1
    assert calls[HandlerRuns.start.__code__] == ANSWERS > 8


@pytest.mark.usefixtures("other_policy")
def test_an_event_loop_of_another_kind_is_not_started_before_the_fork(tmp_path: Path) -> None:
    assert not rehearse(tmp_path)
