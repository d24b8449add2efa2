# SPDX-License-Identifier: Apache-2.0
"""Can this machine run the one-node cluster? Every reason why not is named at once, with what to do."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tools.devcluster import packages
from tools.devcluster import topology as t
from tools.devcluster.capabilities import CAP_NET_ADMIN, CAP_SYS_ADMIN, holds
from tools.devcluster.shell import find

GIB = 1 << 30
# Kubernetes itself takes 1 GiB; the rest is for the pods.
MEMORY_NEEDED_BYTES = 3 * GIB
# Go's build cache takes 3 GiB, programs and images 2.
DISK_NEEDED_BYTES = 6 * GIB
# From linux/in.h; Python has no name for it.
IP_FREEBIND = 15


@dataclass(frozen=True)
class Lack:
    """One thing in the way, and what to do about it."""

    what: str
    remedy: str


@dataclass(frozen=True)
class Facts:
    """What was seen of the machine."""

    platform: str
    uid: int
    capable: bool
    has_apt: bool
    programs_missing: tuple[str, ...]
    memory_bytes: int
    disk_free_bytes: int
    overlay: bool
    cgroup_controllers: frozenset[str]
    listeners_taken: tuple[tuple[str, int], ...]


def lacks(facts: Facts) -> list[Lack]:
    """Everything that keeps the cluster from starting here; empty when nothing does. Pure."""
    if facts.platform != "linux":
        return [
            Lack(f"the one-node cluster needs Linux, this is {facts.platform}", "install Docker and kind")
        ]
    return [lack for lack in (*_rights(facts), *_resources(facts), *_kernel(facts)) if lack is not None]


def _rights(facts: Facts) -> Iterable[Lack | None]:
    yield Lack("not root", "run it with sudo, or install Docker and kind") if facts.uid != 0 else None
    if facts.uid == 0 and not facts.capable:
        yield Lack("root here may not mount or change the network", "use a machine or a privileged container")
    if facts.programs_missing and not facts.has_apt:
        names = ", ".join(facts.programs_missing)
        yield Lack(f"missing {names}, and no apt to install them", "install them yourself and try again")


def _resources(facts: Facts) -> Iterable[Lack | None]:
    if facts.memory_bytes < MEMORY_NEEDED_BYTES:
        yield Lack(f"{facts.memory_bytes / GIB:.1f} GiB of memory, 3 are needed", "use a larger machine")
    if facts.disk_free_bytes < DISK_NEEDED_BYTES:
        yield Lack(
            f"{facts.disk_free_bytes / GIB:.1f} GiB of disk are free, 6 are needed", "free some of /var"
        )


def _kernel(facts: Facts) -> Iterable[Lack | None]:
    if not facts.overlay:
        yield Lack("the kernel has no overlay file system", "run `modprobe overlay`")
    without = sorted({"cpu", "memory", "pids"} - facts.cgroup_controllers)
    if without:
        yield Lack(f"no cgroup controllers {', '.join(without)}", "mount cgroups, or enable them at boot")
    for address, port in facts.listeners_taken:
        remedy = "end the program that listens there (`ss -ltnp`), or point AGENTPOOL_CONTEXT at its cluster"
        yield Lack(f"{address}:{port} is taken by another program", remedy)


def observe(*, running: bool) -> Facts:
    """Look at this machine. `running`: our own cluster is up, so its ports are rightly taken."""
    linux = sys.platform == "linux"
    return Facts(
        platform=sys.platform,
        uid=os.getuid(),
        capable=linux and holds(CAP_SYS_ADMIN) and holds(CAP_NET_ADMIN),
        has_apt=find("apt-get") is not None,
        programs_missing=tuple(sorted(packages.missing_for_cluster())),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        disk_free_bytes=shutil.disk_usage("/var").free,
        overlay=linux and "overlay" in _filesystems(),
        cgroup_controllers=_controllers() if linux else frozenset(),
        listeners_taken=() if running else tuple(one for one in t.LISTENERS if _taken(*one)),
    )


def _filesystems() -> set[str]:
    return {line.split()[-1] for line in Path("/proc/filesystems").read_text().splitlines()}


def _controllers() -> frozenset[str]:
    rows = [line.split() for line in Path("/proc/cgroups").read_text().splitlines() if line[0] != "#"]
    unified = Path("/sys/fs/cgroup/cgroup.controllers")
    version_2 = unified.read_text().split() if unified.exists() else []
    return frozenset([*version_2, *(row[0] for row in rows if row[3] == "1")])


def _taken(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # An address that is not there yet cannot be taken, except by who listens on all of them.
        probe.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return True
    return False
