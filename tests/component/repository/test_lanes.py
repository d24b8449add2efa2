# SPDX-License-Identifier: Apache-2.0
"""The steps of `make test` that run at once: which they are, and what a failure does."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from support.repository import ROOT

MAKEFILE = """
step-pods step-operator step-api-server step-well:
\t@echo $@
step-broken:
\t@sh -c 'exit 9'
step-together-1 step-together-2:
\t@touch $@.there
\t@for try in 1 2 3 4 5 6 7 8 9 10; do \\
\t  if [ -e step-together-1.there ] && [ -e step-together-2.there ]; then echo $@; exit 0; fi; \\
\t  sleep 1; \\
\tdone; exit 1
step-alone-1 step-alone-2:
\t@mkdir busy && sleep 0.3 && rmdir busy && echo $@
"""
DEVCLUSTER = """
import os, sys
sys.exit(int(os.environ.get(sys.argv[1], "0")))
"""
PODS = ["step-api-server", "step-operator", "step-pods"]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with the script, steps that say their names, and a cluster's program that does nothing."""
    (tmp_path / "tools" / "devcluster").mkdir(parents=True)
    (tmp_path / "Makefile").write_text(MAKEFILE)
    (tmp_path / "tools" / "devcluster" / "__main__.py").write_text(DEVCLUSTER)
    for name in ("e2e.sh", "step.sh"):
        shutil.copy(ROOT / "tools" / name, tmp_path / "tools" / name)
    return tmp_path


def run(
    checkout: Path, steps: list[str], environ: Mapping[str, str], lanes: int = 4
) -> tuple[int, list[str]]:
    """The exit status, and the names of the steps that ended well."""
    inherited = {key: value for key, value in os.environ.items() if key not in ("CI", "MAKEFLAGS")}
    done = subprocess.run(
        ["tools/e2e.sh", str(lanes), *steps],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=checkout,
        env={**inherited, **environ},
    )
    return done.returncode, sorted(line for line in done.stdout.splitlines() if line.startswith("step-"))


@pytest.mark.parametrize(
    ("environ", "steps", "passes", "ran"),
    [
        pytest.param({}, ["step-well"], True, [*PODS, "step-well"], id="with a cluster everything runs"),
        pytest.param({}, [], True, PODS, id="the tests that need a cluster run by themselves"),
        pytest.param(
            {"preflight": "3"}, ["step-well"], True, ["step-well"], id="without one its tests are left out"
        ),
        pytest.param({"preflight": "3"}, [], True, [], id="without one there may be nothing to do"),
        pytest.param(
            {"preflight": "3", "CI": "true"},
            ["step-well"],
            False,
            ["step-well"],
            id="in CI there has to be one",
        ),
        pytest.param(
            {"up": "1"}, ["step-well"], False, ["step-well"], id="one that does not come up is a failure"
        ),
        pytest.param(
            {}, ["step-broken", "step-well"], False, [*PODS, "step-well"], id="a failure stops no other step"
        ),
    ],
)
def test_what_runs_and_what_fails(
    checkout: Path, environ: dict[str, str], steps: list[str], passes: bool, ran: list[str]
) -> None:
    status, said = run(checkout, steps, environ)
    assert (status == 0, said) == (passes, ran)


def test_steps_run_at_once(checkout: Path) -> None:
    together = ["step-together-1", "step-together-2"]
    assert run(checkout, together, {"preflight": "3"}) == (0, together)


def test_no_more_at_once_than_said_whatever_make_was_started_with(checkout: Path) -> None:
    alone = ["step-alone-1", "step-alone-2"]
    assert run(checkout, alone, {"preflight": "3", "MAKEFLAGS": " -j8"}, lanes=1) == (0, alone)
