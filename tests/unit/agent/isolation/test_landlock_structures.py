# SPDX-License-Identifier: Apache-2.0
"""Structures handed to Landlock, and the paths in them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from agentpool_agent.wire.frames import Limits
from agentpool_agent.worker.isolation import Report, landlock, limits, readable_paths


@pytest.mark.parametrize(
    ("ruleset", "size"),
    [
        pytest.param(landlock.Ruleset(1, 0, 0), 8, id="files alone, for the oldest kernels"),
        pytest.param(landlock.Ruleset(1, 1, 0), 16, id="with the network"),
        pytest.param(landlock.Ruleset(0, 0, 1), 24, id="with scopes"),
    ],
)
def test_a_ruleset_is_as_long_as_its_fields_need(ruleset: landlock.Ruleset, size: int) -> None:
    assert len(ruleset.pack()) == size


@pytest.mark.parametrize(("abi", "rights"), [(1, 0x1FFF), (2, 0x3FFF), (3, 0x7FFF), (5, 0xFFFF), (7, 0xFFFF)])
def test_each_kernel_is_asked_for_the_rights_it_knows(abi: int, rights: int) -> None:
    assert landlock.file_rights(abi) == rights


def test_a_path_rule_is_packed_without_a_gap() -> None:
    assert landlock.pack_path_rule(5, 3) == b"\5" + bytes(7) + b"\3" + bytes(3)


def test_neither_the_root_nor_a_relative_path_is_readable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", ["", "relative", "/", "/opt/agent"])
    readable_paths.cache_clear()
    found = readable_paths(subprocesses=False)
    readable_paths.cache_clear()
    assert Path("/opt/agent") in found
    assert Path("/") not in found
    assert all(path.is_absolute() for path in found)


def test_memory_is_limited_above_what_there_was_at_the_fork() -> None:
    status = b"Name:\tpython\nVmData:\t   2048 kB\n"
    wanted = {name: value for name, _, value in limits.wanted(Limits(100), limits.data_bytes(status))}
    assert wanted["limit-memory"] == 2048 * 1024 + 100


def test_a_guard_that_the_kernel_refuses_is_missing_with_the_reason() -> None:
    def refuse() -> None:
        raise OSError("not here")

    report = Report()
    report.attempt(["a", "b"], frozenset({"b"}), refuse)
    report.attempt(["c"], frozenset(), lambda: None)
    assert report.guards == ["c"]
    assert report.missing == {"a": "not here", "b": "left out by a test"}
