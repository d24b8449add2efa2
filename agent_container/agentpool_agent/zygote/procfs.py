# SPDX-License-Identifier: Apache-2.0
"""What `/proc` tells of a worker. The parsers are pure; one reading costs about 20 microseconds."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Reading:
    """One look at a process.

    Attributes:
        anonymous_bytes: resident memory that is not file pages, shared-memory pages left out.
        resident_bytes: all resident memory, an upper bound of what it can have taken.
        cpu_seconds: user and system time since its start.
    """

    anonymous_bytes: int
    resident_bytes: int
    cpu_seconds: float
    threads: int


def parse(statm: str, stat: str) -> Reading:
    """Read the texts of `/proc/PID/statm` and `/proc/PID/stat`."""
    _, resident, shared, *_ = statm.split()
    # The command's name is in parentheses and may hold anything, blanks and parentheses included.
    fields = stat[stat.rindex(")") + 2 :].split()
    user, system, threads = int(fields[11]), int(fields[12]), int(fields[17])
    return Reading(
        anonymous_bytes=(int(resident) - int(shared)) * _PAGE_BYTES,
        resident_bytes=int(resident) * _PAGE_BYTES,
        cpu_seconds=(user + system) / _TICKS_PER_SECOND,
        threads=threads,
    )


def read(pid: int) -> Reading | None:
    """Look at a process; None when it is gone."""
    try:
        return parse(_text(f"/proc/{pid}/statm"), _text(f"/proc/{pid}/stat"))
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return None


MOST_TASKS = 8


def parse_schedstat(text: str) -> tuple[float, float]:
    """Of a `/proc/PID/task/TID/schedstat` text the seconds on a core, and those of waiting for one."""
    computed, waited, *_ = text.split()
    return int(computed) / 1e9, int(waited) / 1e9


def efforts(pid: int) -> tuple[float, float] | None:
    """`parse_schedstat` of a process, its first threads together; None when it is gone, or its kernel does
    not tell."""
    try:
        tasks = os.listdir(f"/proc/{pid}/task")[:MOST_TASKS]
        found = [parse_schedstat(_text(f"/proc/{pid}/task/{task}/schedstat")) for task in tasks]
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return None
    return sum(computed for computed, _ in found), sum(waited for _, waited in found)


def parse_own_bytes(status: str) -> int:
    """RssAnon and RssShmem of a `/proc/PID/status` text, in bytes: memory that no file stands behind."""
    found = re.findall(r"^Rss(?:Anon|Shmem):\s+(\d+) kB", status, re.MULTILINE)
    return sum(map(int, found)) * 1024


def read_own_bytes(pid: int) -> int:
    """Anonymous and shared memory of a process in bytes; 0 when it is gone. Dearer than `read`."""
    try:
        return parse_own_bytes(_text(f"/proc/{pid}/status"))
    except (FileNotFoundError, ProcessLookupError):
        return 0


def own_threads() -> int:
    """How many threads this process has."""
    return len(os.listdir("/proc/self/task"))


def children(pid: int) -> list[int]:
    """Process ids of the children of this process's main thread; none where the kernel does not tell."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _text(path: str) -> str:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, 4096).decode(errors="replace")
    finally:
        os.close(descriptor)
