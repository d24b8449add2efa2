# SPDX-License-Identifier: Apache-2.0
"""Which files make the pool reload, and what a change of them means."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path

MAX_DIRECTORIES = 256
"""Each watched directory costs an inotify watch; an agent's own code has far fewer."""
SKIPPED = frozenset({"__pycache__", "node_modules", "site-packages", "build", "dist"})


class Change(StrEnum):
    """What has to be done after files changed."""

    CODE = "code"
    MANIFEST = "manifest"


def code_directories(roots: Iterable[Path]) -> list[Path]:
    """The roots and all directories below them that hold Python files, without virtual environments,
    caches and hidden ones; at most MAX_DIRECTORIES."""
    found: list[Path] = []
    for root in roots:
        for directory, names, files in os.walk(root):
            here = Path(directory)
            names[:] = sorted(name for name in names if not _skipped(here / name))
            if here == root or any(name.endswith(".py") for name in files):
                found.append(here)
            if len(found) >= MAX_DIRECTORIES:
                return found
    return found


def _skipped(directory: Path) -> bool:
    return directory.name.startswith(".") or directory.name in SKIPPED or (directory / "pyvenv.cfg").exists()


Fingerprint = Mapping[Path, tuple[int, int]]
"""Time of last change in nanoseconds and size in bytes, by file."""


def fingerprint(directories: Iterable[Path], manifest: Path) -> Fingerprint:
    """How the Python files of some directories, and the manifest, are now."""
    found: dict[Path, tuple[int, int]] = {}
    for path in (manifest, *(path for directory in directories for path in directory.glob("*.py"))):
        # A file may go between being listed and being looked at; then it is not there.
        with contextlib.suppress(OSError):
            state = path.stat()
            found[path] = (state.st_mtime_ns, state.st_size)
    return found


def changed(before: Fingerprint, now: Fingerprint) -> set[Path]:
    """Files that are new, gone or different."""
    return {path for path in before.keys() | now.keys() if before.get(path) != now.get(path)}


def classify(paths: Iterable[Path], manifest: Path) -> set[Change]:
    """What changed files ask for: Python files mean code, the manifest means itself, others nothing."""
    changes = set[Change]()
    for path in paths:
        if path == manifest:
            changes.add(Change.MANIFEST)
        elif path.suffix == ".py":
            changes.add(Change.CODE)
    return changes
