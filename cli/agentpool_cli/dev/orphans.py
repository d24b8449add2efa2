# SPDX-License-Identifier: Apache-2.0
"""Processes whose parent died: found and ended, so that nothing of a pool outlives `agentpool dev`."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Iterable
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
INNER_MODULES = frozenset({"agentpool_agent.host", "agentpool_agent.zygote"})
"""What a pod starts. As a direct child of ours, such a process has lost its pod."""
PROC = Path("/proc")


def adopt_orphans() -> None:
    """Become the parent of every process below us whose own parent dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def parents() -> dict[int, int]:
    """Every process of this machine that can be seen, with its parent."""
    found: dict[int, int] = {}
    for entry in PROC.iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                found[int(entry.name)] = parent_in((entry / "stat").read_text())
    return found


def parent_in(stat: str) -> int:
    """The parent's id in the text of /proc/PID/stat; the process's name in it may hold anything."""
    return int(stat.rpartition(")")[2].split()[1])


def tree(root: int, parent_of: dict[int, int]) -> list[int]:
    """`root` and every process below it."""
    children: dict[int, list[int]] = {}
    for pid, parent in parent_of.items():
        children.setdefault(parent, []).append(pid)
    found = [root]
    for pid in found:
        found.extend(children.get(pid, ()))
    return found


def users_below(root: int) -> set[int]:
    """The real user ids of the processes below `root`."""
    found = set[int]()
    for pid in tree(root, parents())[1:]:
        with contextlib.suppress(OSError):
            found.add(user_in((PROC / str(pid) / "status").read_text()))
    return found


def user_in(status: str) -> int:
    """The real user id in the text of /proc/PID/status."""
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("Uid:"))


def orphans() -> list[int]:
    """Direct children of ours that a pod has left behind."""
    return [
        pid for pid, parent in parents().items() if parent == os.getpid() and _module(pid) in INNER_MODULES
    ]


def _module(pid: int) -> str:
    with contextlib.suppress(OSError):
        words = (PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace").split("\0")
        if "-m" in words[:-1]:
            return words[words.index("-m") + 1]
    return ""


def end_orphans() -> None:
    """Kill what a pod has left behind, and take note of its end."""
    for orphan in orphans():
        kill(tree(orphan, parents()))
        with contextlib.suppress(ChildProcessError):
            os.waitpid(orphan, 0)


def kill(pids: Iterable[int]) -> None:
    """SIGKILL to each, if it still is there."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
