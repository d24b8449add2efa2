# SPDX-License-Identifier: Apache-2.0
"""Running other programs: with a deadline, without a shell, and with an error that shows what they said."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tools.devcluster.problem import Problem

# A login shell of an ordinary user has no sbin, where iptables, runc and ip live.
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# How much of a failed program's output is shown.
TAIL_CHARS = 2000


def search_path() -> str:
    """The user's PATH, then the system's directories."""
    return f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}"


def find(program: str) -> str | None:
    """The full path of a program, or None."""
    return shutil.which(program, path=search_path())


def run(
    argv: Sequence[str | Path],
    *,
    timeout_seconds: float = 60,
    text_in: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    remedy: str = "read the output above; `make cluster-down`, then `make cluster-up`, starts from nothing",
) -> str:
    """Run a program and return its standard output.

    Raises `Problem` when it is missing, fails, or outlives `timeout_seconds`; its output is in the message.
    """
    words = [str(word) for word in argv]
    try:
        done = subprocess.run(
            [find(words[0]) or words[0], *words[1:]],
            input=text_in,
            stdin=subprocess.DEVNULL if text_in is None else None,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_seconds,
            env={**os.environ, "PATH": search_path(), **(env or {})},
            cwd=cwd,
            check=False,
        )
    except FileNotFoundError as error:
        raise Problem(f"{words[0]} is not installed", f"install {words[0]} and try again") from error
    except subprocess.TimeoutExpired as error:
        raise Problem(f"{shlex.join(words)} took longer than {timeout_seconds:.0f} s", remedy) from error
    if done.returncode != 0:
        said = (done.stderr + done.stdout)[-TAIL_CHARS:].strip()
        raise Problem(f"{shlex.join(words)} failed with {done.returncode}:\n{said}", remedy)
    return done.stdout


def succeeds(argv: Sequence[str | Path], *, timeout_seconds: float = 30) -> bool:
    """Whether a program is there and ends with 0 in time."""
    try:
        run(argv, timeout_seconds=timeout_seconds)
    except Problem:
        return False
    return True
