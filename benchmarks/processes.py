# SPDX-License-Identifier: Apache-2.0
"""Memory and CPU of the processes under test, from the kernel's own accounting."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Process:
    """One process at one moment. `reaped_cpu_seconds` is the CPU time of its children that ended."""

    pid: int
    parent: int
    command: str
    cpu_seconds: float
    reaped_cpu_seconds: float = 0.0

    @property
    def part(self) -> str:
        """gateway, host, zygote or worker; "other" for supervisors and the CLI. A worker is a fork of the
        zygote and keeps its command line; `tree` tells them apart by their parent."""
        for part in ("gateway", "host", "zygote"):
            if f"agentpool_{part}" in self.command or f"agentpool_agent.{part}" in self.command:
                return part
        return "other"


def tree(root: int) -> dict[str, list[Process]]:
    """The descendants of `root` by part."""
    known = {process.pid: process for process in everything()}
    children: dict[int, list[Process]] = {}
    for process in known.values():
        children.setdefault(process.parent, []).append(process)
    found: dict[str, list[Process]] = {}
    waiting = [root]
    while waiting:
        for process in children.get(waiting.pop(), ()):
            waiting.append(process.pid)
            parent = known.get(process.parent)
            worker = process.part == "zygote" and parent is not None and parent.part == "zygote"
            found.setdefault("worker" if worker else process.part, []).append(process)
    return found


def everything() -> list[Process]:
    """Every process of this machine."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat = (entry / "stat").read_text()
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it ended meanwhile
        fields = stat.rpartition(")")[2].split()
        own, reaped = (sum(map(int, fields[at : at + 2])) / _TICKS for at in (11, 13))
        found.append(Process(int(entry.name), int(fields[1]), command, own, reaped))
    return found


def private_bytes(pid: int) -> int:
    """Memory that would be free if the process ended: private pages, clean and dirty."""
    total = 0
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(("Private_Clean:", "Private_Dirty:")):
            total += int(line.split()[1]) * 1024
    return total


def run_seconds(pid: int) -> float:
    """CPU time of a process in nanosecond steps, for processes that do next to nothing. Of threads that ended
    it knows nothing; idle ones do not end."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            total += int((task / "schedstat").read_text().split()[0])
        except OSError:
            continue  # the thread ended meanwhile
    return total / 1e9
