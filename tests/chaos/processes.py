# SPDX-License-Identifier: Apache-2.0
"""Processes of a pod, found by the pod's uid in their cgroup: nothing else on the machine can be meant."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

POLL_SECONDS = 0.005
GONE_SECONDS = 20.0


def of_pod(uid: str) -> list[psutil.Process]:
    """Every process of a pod's containers, by their numbers."""
    found = []
    for process in psutil.process_iter():
        try:
            groups = Path(f"/proc/{process.pid}/cgroup").read_text()
            if (uid in groups or uid.replace("-", "_") in groups) and process.cmdline() != ["/pause"]:
                found.append(process)
        except (OSError, psutil.Error):
            continue
    return sorted(found, key=lambda process: process.pid)


def running(uid: str, word: str) -> list[psutil.Process]:
    """Those with a word in their command line."""
    found = []
    for process in of_pod(uid):
        with contextlib.suppress(psutil.NoSuchProcess):
            if any(word in part for part in process.cmdline()):
                found.append(process)
    return found


def zygote(uid: str) -> list[psutil.Process]:
    """The zygote. Workers are forks of it and have its command line."""
    return [process for process, parent in _forks(uid) if not parent]


def workers(uid: str) -> list[psutil.Process]:
    """The zygote's children: each runs an instance, or waits for one."""
    return [process for process, parent in _forks(uid) if parent]


def _forks(uid: str) -> list[tuple[psutil.Process, bool]]:
    found = running(uid, "agentpool_agent.zygote")
    numbers = {process.pid for process in found}
    pairs = []
    for process in found:
        with contextlib.suppress(psutil.NoSuchProcess):
            pairs.append((process, process.ppid() in numbers))
    return pairs


def sigkill(process: psutil.Process) -> None:
    """End it without a word; psutil refuses a number that has passed to another process."""
    process.send_signal(signal.SIGKILL)


def wait_until_gone(processes: Sequence[psutil.Process]) -> None:
    """Return once they have ended. Raises TimeoutError."""
    deadline = time.monotonic() + GONE_SECONDS
    while any(_runs(process) for process in processes):
        if time.monotonic() > deadline:
            raise TimeoutError(f"still there: {[process.pid for process in processes if _runs(process)]}")
        time.sleep(POLL_SECONDS)


def cpu_seconds(processes: Sequence[psutil.Process]) -> float:
    """User and system time of them all."""
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return False
