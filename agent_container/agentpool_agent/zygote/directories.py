# SPDX-License-Identifier: Apache-2.0
"""Own directories of workers, under the zygote's working directory."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path


def path(root: Path, worker: int) -> Path:
    """Where a worker's own directory is."""
    return root / f"worker-{worker}"


def remove_empty(directory: Path) -> None:
    """Remove the directory of a worker that was never born, if it was made."""
    with suppress(OSError):
        directory.rmdir()


def remove(directory: Path) -> int | None:
    """Remove a dead worker's directory. What it left there may be large: then a child process removes it, so
    that the zygote stays free, and its process id is returned."""
    try:
        directory.rmdir()
    except FileNotFoundError:
        return None
    except OSError:
        return _remove_in_child(directory)
    return None


def clear(root: Path) -> None:
    """Remove what an earlier zygote left behind."""
    for left in root.glob("worker-*"):
        _remove_tree(left)


def _remove_in_child(directory: Path) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            _remove_tree(directory)
        finally:
            os._exit(0)
    return pid


def _remove_tree(directory: Path) -> None:
    # A worker may have taken its own rights on a directory away; they are given back first. Links are not
    # followed.
    for folder, _, _ in os.walk(directory, followlinks=False, onerror=None):
        try:
            os.chmod(folder, 0o700, follow_symlinks=False)
        except (OSError, NotImplementedError):
            continue
    shutil.rmtree(directory, ignore_errors=True)
