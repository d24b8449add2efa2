# SPDX-License-Identifier: Apache-2.0
"""The scripts behind the Makefile: quiet when well, loud when not, and they say what to do."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.repository import ROOT
from tools.ensure_venv import is_new_enough

STEP = str(ROOT / "tools" / "step.sh")
ENSURE_REDIS = str(ROOT / "tools" / "ensure_redis.sh")


def run(*command: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=ROOT,
        env={**os.environ, **environ},
    )


def test_a_step_that_ends_well_is_one_line() -> None:
    done = run(STEP, "unit", "sh", "-c", "echo detail; echo 3 passed")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 1
    assert re.fullmatch(r"unit       ok       +\d+s  3 passed\n", done.stdout)


def test_a_step_that_fails_shows_everything_and_keeps_its_status() -> None:
    done = run(STEP, "unit", "sh", "-c", "echo detail; echo trouble >&2; exit 7")
    assert done.returncode == 7
    assert done.stdout.splitlines()[:2] == ["detail", "trouble"]
    assert "FAILED" in done.stdout.splitlines()[-1]


def test_a_step_shows_everything_when_asked_to() -> None:
    assert "detail" in run(STEP, "unit", "sh", "-c", "echo detail; echo end", VERBOSE="1").stdout


def test_a_redis_that_is_there_is_left_alone() -> None:
    done = run(ENSURE_REDIS)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_missing_redis_that_cannot_be_installed_is_named(tmp_path: Path) -> None:
    # Neither redis-server nor apt-get are in this folder.
    for name in ("sh", "id"):
        (tmp_path / name).symlink_to(str(shutil.which(name)))
    done = run(ENSURE_REDIS, PATH=str(tmp_path))
    assert done.returncode == 1
    assert "install the package redis-server" in done.stderr


@pytest.mark.parametrize(
    ("python", "usable"),
    [(sys.executable, True), ("/nowhere/python3", False), ("/bin/false", False)],
    ids=["this interpreter is new enough", "a missing one is not", "one that fails is not"],
)
def test_an_interpreter_is_tried_before_it_is_taken(python: str, usable: bool) -> None:
    assert is_new_enough(python) is usable


def test_generated_files_are_what_the_sources_give() -> None:
    done = run(sys.executable, "-m", "tools.verify")
    assert (done.returncode, done.stderr) == (0, "")


TWICE = str(ROOT / "tools" / "pytest_twice.sh")


def a_checkout(tmp_path: Path, test: str) -> Path:
    """A folder in which the script finds pytest, and one test file."""
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    pytest_program = tmp_path / ".venv" / "bin" / "pytest"
    pytest_program.write_text(f'#!/bin/sh\nexec {sys.executable} -m pytest -c /dev/null --rootdir=. "$@"\n')
    pytest_program.chmod(0o755)
    (tmp_path / "test_it.py").write_text(test)
    return tmp_path


def test_a_test_that_passes_at_its_second_try_is_named(tmp_path: Path) -> None:
    text = (
        "import pathlib\ndef test_it():\n    p = pathlib.Path('seen')\n    seen = p.exists()\n    p.touch()\n"
    )
    checkout = a_checkout(tmp_path, text + "    assert seen\n")
    done = subprocess.run(
        [TWICE, "test_it.py"], cwd=checkout, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "passed at the second try: test_it.py::test_it"


def test_a_test_that_fails_twice_fails(tmp_path: Path) -> None:
    checkout = a_checkout(tmp_path, "def test_it():\n    assert False\n")
    done = subprocess.run(
        [TWICE, "test_it.py"], cwd=checkout, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
