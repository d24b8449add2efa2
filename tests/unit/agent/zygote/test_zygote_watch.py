# SPDX-License-Identifier: Apache-2.0
"""What the zygote reads and decides."""

from __future__ import annotations

import os

import pytest

from agentpool_agent import pod_files
from agentpool_agent.wire.nursery import Sample, Watch
from agentpool_agent.zygote import procfs
from agentpool_agent.zygote.boot import CannotServe, check_may_fork, load_agent
from agentpool_agent.zygote.zygote import verdict

PAGE = os.sysconf("SC_PAGE_SIZE")
TICK = os.sysconf("SC_CLK_TCK")


def test_a_reading_survives_any_name_of_a_command() -> None:
    stat = f"12 (a) b (c)) S 1 1 1 0 -1 0 0 0 0 0 {3 * TICK} {TICK} 0 0 20 0 5 0 9 0 0"
    assert procfs.parse("100 50 20 1 0 1 0", stat) == procfs.Reading(30 * PAGE, 50 * PAGE, 4.0, 5)


def test_own_memory_is_anonymous_and_shared_memory() -> None:
    assert (
        procfs.parse_own_bytes("VmRSS:\t 9 kB\nRssAnon:\t 4 kB\nRssFile:\t 3 kB\nRssShmem:\t 2 kB\n") == 6144
    )


@pytest.mark.parametrize(
    ("sample", "over"),
    [
        pytest.param(Sample(1, 100, 0.0, 4), "", id="at its limits it lives"),
        pytest.param(Sample(1, 101, 0.0, 4), "memory", id="over its memory it ends"),
        pytest.param(Sample(1, 100, 0.0, 5), "threads", id="over its threads it ends"),
    ],
)
def test_a_verdict(sample: Sample, over: str) -> None:
    assert verdict(Watch(1, 100, 4), sample) == over


@pytest.mark.parametrize(
    ("entrypoint", "message"),
    [
        pytest.param("nothing", "package.module:Class", id="no colon"),
        pytest.param("agentpool_agent.nowhere:Agent", "cannot import", id="no such module"),
        pytest.param("agentpool_agent.agents.echo:Other", "no class Other", id="no such class"),
        pytest.param("pathlib:Path", "setup, handle", id="not an agent"),
    ],
)
def test_an_entrypoint_that_cannot_serve_says_why(entrypoint: str, message: str) -> None:
    with pytest.raises(CannotServe, match=message):
        load_agent(entrypoint)


def test_a_process_with_threads_may_not_fork() -> None:
    check_may_fork(1)
    with pytest.raises(CannotServe, match="2 threads"):
        check_may_fork(3)


@pytest.mark.parametrize(
    ("mode", "owner", "wanted", "allowed"),
    [
        pytest.param(0o700, (0, 0), 1, False, id="root's own directory is shut"),
        pytest.param(0o711, (0, 0), 1, True, id="others may pass"),
        pytest.param(0o700, (7, 0), 5, True, id="the owner may read"),
        pytest.param(0o070, (0, 7), 5, True, id="the group may read"),
        pytest.param(0o077, (7, 0), 4, False, id="the owner has only the owner's rights"),
    ],
)
def test_rights(mode: int, owner: tuple[int, int], wanted: int, allowed: bool) -> None:
    assert pod_files.may(mode, owner, 7, wanted) is allowed
