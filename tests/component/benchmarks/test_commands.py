# SPDX-License-Identifier: Apache-2.0
"""Every measuring command runs and reports what it should; the numbers of so short runs say nothing."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from benchmarks.metering import PARTS
from support.repository import ROOT

LIMIT_SECONDS = 200
pytestmark = pytest.mark.timeout(LIMIT_SECONDS + 20)
"""Each of them starts several systems; alone on the machine they take a tenth of this."""


def measure(*arguments: str) -> tuple[int, str]:
    """Exit code and output of one command; fails with what it wrote when it crashed."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        output, told = process.communicate(timeout=LIMIT_SECONDS)
    finally:
        # It ends the systems that it has started.
        process.terminate()
        process.wait()
    assert "Traceback" not in told, told
    return process.returncode, output


def demands(output: str) -> set[str]:
    """Names of the demands in a table; each says whether it was held."""
    return set(re.findall(r"^\| ([^|]+) \| (?:yes|NO) \|", output, flags=re.MULTILINE))


def run_of(tmp_path: Path, *groups: str) -> dict[str, Any]:
    """The JSON of a run of some groups; its pictures and its page are there, too."""
    only = [word for group in groups for word in ("--only", group)]
    code, output = measure("run", "--scale", "tiny", "--to", str(tmp_path), "--name", "part", *only)
    assert code == 0, output
    assert output == (tmp_path / "part.md").read_text()
    found: dict[str, Any] = json.loads((tmp_path / "part.json").read_text())
    assert {"processor", "cores", "command", "shared"} <= found["facts"].keys()
    return found


def test_a_run_by_schedule_through_two_gateways_and_the_old_way(tmp_path: Path) -> None:
    found = run_of(tmp_path, "path", "pair", "oldway")
    rows = {row["name"]: row for row in found["rows"]}
    assert rows["first request of a new instance, 10/s"]["milestones"]["activated"]["p50"] > 0
    assert rows["200/s, 3 % to new instances: hits"]["milestones"]["activated"]["max"] == 0
    assert rows["two gateways, gRPC, 500/s: gateway 2"]["times"]["count"] > 0
    assert rows["spare workers"]["figure"] > 0
    assert rows["fresh process, Echo"]["times"]["p50"] > rows["direct, one caller"]["times"]["p50"]
    assert {one["part"] for one in found["usage"]} == set(PARTS)
    assert {one["id"] for one in found["headlines"]} >= {"A90", "A91", "A92", "A93"}
    for name in ("milestones", "windows", "oldway"):
        assert (tmp_path / f"part-{name}.svg").read_text().startswith("<svg")


def test_a_run_of_many_instances_evictions_and_a_pool_that_is_switched_off(tmp_path: Path) -> None:
    found = run_of(tmp_path, "curve", "evicted", "libraries", "oneshot")
    assert [point["instances"] for point in found["costs"]] == [1, 3]
    rows = {row["name"]: row for row in found["rows"]}
    assert rows["first request after eviction, host full"]["milestones"]["activated"]["p50"] > 0
    assert rows["private memory of an instance, an agent with libraries"]["figure"] > 0
    assert rows["one-shot instance, one caller"]["milestones"]["activated"]["p50"] > 0
    assert {one["id"] for one in found["headlines"]} >= {"A94", "A96"}
    assert (tmp_path / "part-costs.svg").read_text().startswith("<svg")


def test_overload_by_rest() -> None:
    code, output = measure(
        *("overload", "--seconds", "2", "--step", "1", "--work", "wait", "--protocol", "rest", "--name", "")
    )
    assert code in (0, 1, 2), output
    assert {
        "accepted throughput",
        "refusals say when to come back",
        "as before after the overload",
    } <= demands(output)
    assert "| 5 times |" in output


def test_neighbours() -> None:
    code, output = measure(
        *(
            "neighbours",
            "--seconds",
            "2",
            "--rounds",
            "1",
            "--per-second",
            "20",
            "--bad",
            "raising",
            "--name",
            "",
        )
    )
    assert code in (0, 1, 2), output
    assert demands(output) == {"raising: p99 of the others", "raising: the others are answered"}


def test_soak_by_grpc() -> None:
    code, output = measure(
        *("soak", "--seconds", "5", "--per-second", "20", "--protocol", "grpc", "--name", "")
    )
    assert code in (0, 1), output
    assert "memory of the host after warm-up" in demands(output)
    assert re.search(r"^\| 10 \| \d+ ", output, flags=re.MULTILINE), "ten slices"


def test_compare_with_the_last_commit_leaves_no_worktree() -> None:
    before = subprocess.run(["git", "worktree", "list"], cwd=ROOT, capture_output=True, text=True).stdout
    code, output = measure("compare", "--base", "HEAD", "--scale", "tiny", "--rounds", "1", "--only", "state")
    assert code == 0, output
    assert "| answer, unchanged, p50, ms |" in output
    assert "nothing can be said of 1 rounds" in output
    after = subprocess.run(["git", "worktree", "list"], cwd=ROOT, capture_output=True, text=True).stdout
    assert after == before


def test_a_base_that_is_no_revision_is_refused() -> None:
    assert measure("compare", "--base", "no-such-revision") == (1, "")


def test_a_command_that_is_ended_ends_what_it_started() -> None:
    command = [sys.executable, "-m", "benchmarks", "soak", "--seconds", "60", "--name", ""]
    with psutil.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        process.stderr.readline()  # the first slice is done
        started = process.children(recursive=True)
        assert "redis-server" in {one.name() for one in started}
        process.terminate()
        assert process.wait(60) != 0
    _, alive = psutil.wait_procs(started, timeout=20)
    assert alive == []
