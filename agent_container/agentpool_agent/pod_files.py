# SPDX-License-Identifier: Apache-2.0
"""Directories and rights of a local pod (see `pod`)."""

from __future__ import annotations

import os
import stat
import sys
import sysconfig
from collections.abc import Iterable, Sequence
from pathlib import Path

import agentpool_agent
import agentpool_core

NURSERY = "nursery"
"""The host's: the zygote's socket. The zygote may enter it, nobody else."""

WORK = "work"
"""The zygote's: workers' own directories."""


def code_paths(app_dirs: Iterable[Path]) -> list[Path]:
    """What host and zygote must be able to read: interpreter, libraries, product, agent."""
    packages = [Path(str(package.__file__)) for package in (agentpool_agent, agentpool_core)]
    libraries = [Path(sysconfig.get_path("stdlib")), Path(sysconfig.get_path("purelib"))]
    return [Path(sys.executable), Path(sys.executable).resolve(), *libraries, *packages, *app_dirs]


def may(mode: int, owner: tuple[int, int], user: int, wanted: int) -> bool:
    """Whether `user`, alone in the group of the same number, has the `wanted` rights (a sum of 4, 2 and 1)
    on something with this mode, owner and group. Pure."""
    shift = 6 if owner[0] == user else 3 if owner[1] == user else 0
    return (mode >> shift) & wanted == wanted


def unreadable(paths: Iterable[Path], users: Sequence[int]) -> list[str]:
    """One sentence for each place that keeps one of the users from one of the paths."""
    problems: dict[str, None] = {}
    for path in paths:
        for place in (path, *path.parents):
            try:
                found = os.stat(place)
            except OSError as exc:
                problems[f"{place} cannot be looked at: {exc.strerror}."] = None
                break
            wanted = 5 if stat.S_ISDIR(found.st_mode) and place == path else 4 if place == path else 1
            for user in users:
                if not may(found.st_mode, (found.st_uid, found.st_gid), user, wanted):
                    verb = "entered" if wanted == 1 else "read"
                    problems[f"{place} cannot be {verb} by user {user}."] = None
    return list(problems)


def make_run_directories(root: Path, owners: tuple[int, int] | None) -> None:
    """Make the pod's directories under `root`; `owners` are host and zygote when these are two users."""
    root.mkdir(parents=True, exist_ok=True)
    nursery, work = root / NURSERY, root / WORK
    nursery.mkdir(mode=0o700, exist_ok=True)
    work.mkdir(mode=0o700, exist_ok=True)
    if owners is None:
        root.chmod(0o700)
        return
    host, zygote = owners
    root.chmod(0o711)
    # The group is inherited by the socket, which is how the zygote, and nobody else, may connect to it.
    os.chown(nursery, host, zygote)
    nursery.chmod(0o2750)
    os.chown(work, zygote, zygote)
    work.chmod(0o700)
