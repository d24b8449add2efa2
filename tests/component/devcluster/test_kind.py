# SPDX-License-Identifier: Apache-2.0
"""What the tool asks of kind and Docker, with programs of those names that write down how they are called."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from support.repository import ROOT
from tools.devcluster.environment import path_of, variables_of

RECORD = '#!/bin/sh\necho "$(basename "$0") $*" >> "$CALLS"\n'
KIND = (
    RECORD
    + 'case "$*" in "get clusters") echo "$CLUSTERS" ;; "get kubeconfig"*) echo "kind: Config" ;; esac\n'
)


@pytest.mark.parametrize(
    ("clusters", "creates"),
    [
        pytest.param("", True, id="the cluster is created when it is not there"),
        pytest.param("agentpool", False, id="the cluster is used when it is there"),
    ],
)
def test_kind_is_used_where_docker_answers(tmp_path: Path, clusters: str, creates: bool) -> None:
    checkout, programs, calls = tmp_path / "checkout", tmp_path / "programs", tmp_path / "calls"
    shutil.copytree(ROOT / "tools" / "devcluster", checkout / "tools" / "devcluster")
    programs.mkdir()
    for name in ("docker", "helm", "kind", "kubectl"):
        (programs / name).write_text(KIND if name == "kind" else RECORD)
        (programs / name).chmod(0o755)
    environ = {name: value for name, value in os.environ.items() if name != "AGENTPOOL_CONTEXT"}
    path = f"{programs}:{environ['PATH']}"

    done = subprocess.run(
        ["python3", checkout / "tools" / "devcluster", "up"],
        env={**environ, "PATH": path, "CALLS": str(calls), "CLUSTERS": clusters},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert ("kind create cluster" in calls.read_text()) is creates
    variables = variables_of(path_of(checkout).read_text())
    assert variables["AGENTPOOL_URL"] == "http://127.0.0.1:30080"
    assert Path(variables["KUBECONFIG"]).read_text() == "kind: Config\n"
