# SPDX-License-Identifier: Apache-2.0
"""The program itself: quick to start, and the demonstration runs to its end."""

from __future__ import annotations

import subprocess
import sys
import time

import psutil

HELP_SECONDS = 0.15
"""A person notices more than this; shell completion calls the program at each press of the key."""


def test_help_is_there_at_once() -> None:
    command = [sys.executable, "-m", "agentpool_cli", "--help"]
    times = []
    for _ in range(5):
        started = time.monotonic()
        subprocess.run(command, check=True, capture_output=True, timeout=30)
        times.append(time.monotonic() - started)
    assert min(times) < HELP_SECONDS, f"the quickest of five took {min(times):.3f} s"


def test_the_demonstration_answers_again_after_its_host_was_killed_and_leaves_nothing() -> None:
    before = redis_servers()
    done = subprocess.run(
        [sys.executable, "-m", "tools.demo_local"], capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("acme/handbook  WARM") >= 6
    assert "by SIGKILL" in done.stdout
    assert "every answer is the same as before" in done.stdout
    assert "sachet of citric powder" in " ".join(done.stdout.split())
    assert redis_servers() == before


def redis_servers() -> set[int]:
    """Process ids of the servers that the demonstration has started."""
    return {
        process.pid
        for process in psutil.process_iter(["name", "cwd"])
        if process.info["name"] == "redis-server" and "agentpool-demo-" in (process.info["cwd"] or "")
    }
