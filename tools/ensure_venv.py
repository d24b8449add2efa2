# SPDX-License-Identifier: Apache-2.0
"""Make .venv from requirements/dev.lock: `make setup`.

Needs a Python of 3.11 or later and nothing else: where that Python has neither pip nor ensurepip, the pip of
another interpreter is used, or, as root on Debian, python3-venv is installed. PYTHON chooses the interpreter.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
LOCK = ROOT / "requirements" / "dev.lock"
STAMP = VENV / ".stamp"
OLDEST = (3, 11)


class SetupFailed(Exception):
    """What is missing and what to do about it."""


def runs(*command: str) -> bool:
    """Whether a command ends well."""
    try:
        return subprocess.run(command, capture_output=True, timeout=120, check=False).returncode == 0
    except OSError:
        return False


def is_new_enough(python: str) -> bool:
    """Whether `python` runs, and is of 3.11 or later."""
    return runs(python, "-c", f"import sys; sys.exit(sys.version_info < {OLDEST})")


def interpreters(path: str) -> Iterator[str]:
    """Every Python 3 in the folders of `path`, the system's own first."""
    names = ["python3", *(f"python3.{minor}" for minor in range(20, OLDEST[1] - 1, -1))]
    seen: set[str] = set()
    for folder in ("/usr/bin", *path.split(os.pathsep)):
        for name in names:
            found = shutil.which(name, path=folder)
            if found and os.path.realpath(found) not in seen:
                seen.add(os.path.realpath(found))
                yield found


def others_can_reach(python: str) -> bool:
    """Whether a process under another user id can start this interpreter."""
    path = Path(python).resolve()
    return all(parent.stat().st_mode & stat.S_IXOTH for parent in (path, *path.parents))


def choose(
    candidates: Iterable[str],
    is_root: bool,
    usable: Callable[[str], bool] = is_new_enough,
    reachable: Callable[[str], bool] = others_can_reach,
) -> str:
    """The interpreter of the environment.

    As root, workers run under another user id, which must be able to start it: a private interpreter
    is the last choice then. Raises SetupFailed when there is none.
    """
    found = [python for python in candidates if usable(python)]
    if is_root:
        found.sort(key=lambda python: not reachable(python))
    if not found:
        raise SetupFailed(
            "No Python of 3.11 or later is on PATH. Install it, or name it: make setup PYTHON=..."
        )
    return found[0]


def pip_for_venv(candidates: Iterable[str]) -> list[str]:
    """The command line of a pip that installs into .venv; raises SetupFailed when none can be had."""
    own = [str(PYTHON), "-m", "pip"]
    if runs(*own, "--version") or runs(str(PYTHON), "-m", "ensurepip", "--upgrade"):
        return own
    for python in candidates:
        borrowed = [python, "-m", "pip", "--python", str(PYTHON)]
        if runs(*borrowed, "--version"):
            return borrowed
    if os.geteuid() == 0 and shutil.which("apt-get"):
        print("installing python3-venv ...", flush=True)
        environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in ("update", "install -y --no-install-recommends python3-venv python3-pip"):
            subprocess.run(["apt-get", "-qq", *command.split()], env=environ, stdout=sys.stderr, check=True)
        borrowed = ["/usr/bin/python3", "-m", "pip", "--python", str(PYTHON)]
        if runs(*borrowed, "--version"):
            return borrowed
    raise SetupFailed("No pip was found. Install the package python3-pip or python3-venv, then try again.")


def install() -> None:
    """Make the environment, or bring it up to date."""
    os.umask(0o022)
    started = time.monotonic()
    found = list(interpreters(os.environ.get("PATH", "")))
    if not is_new_enough(str(PYTHON)):
        python = os.environ.get("PYTHON") or choose(found, os.geteuid() == 0)
        if not is_new_enough(python):
            raise SetupFailed(f"{python} is not a Python of 3.11 or later.")
        print(f"making .venv with {python} ...", flush=True)
        subprocess.run([python, "-m", "venv", "--without-pip", "--clear", str(VENV)], check=True)
    pip = pip_for_venv(found)
    quiet = ["install", "-qq", "--disable-pip-version-check"]
    print("installing requirements/dev.lock ...", flush=True)
    subprocess.run([*pip, *quiet, "--require-hashes", "-r", str(LOCK)], cwd=ROOT, check=True)
    subprocess.run([*pip, *quiet, "--no-deps", "--no-build-isolation", "-e", "."], cwd=ROOT, check=True)
    STAMP.touch()
    print(f"setup      ok      {time.monotonic() - started:4.0f}s", flush=True)


def main() -> int:
    """Run, and say in one line what is missing."""
    try:
        install()
    except SetupFailed as exc:
        print(exc, file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as exc:
        print(f"{exc.cmd[0]} failed; its message is above.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
