# SPDX-License-Identifier: Apache-2.0
"""Driving tools/devcluster and the cluster it made from tests."""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.repository import ROOT
from tools.devcluster.environment import directories_of, path_of, variables_of
from tools.devcluster.places import Places

WAIT_SECONDS = 90


@dataclass(frozen=True)
class Outcome:
    """How one command of the tool ended."""

    code: int
    output: str
    seconds: float


@dataclass(frozen=True)
class Checkout:
    """A checkout of the repository and the commands run from it."""

    root: Path = ROOT
    places: Places = field(default_factory=Places)
    environ: Mapping[str, str] = field(default_factory=dict)

    def devcluster(self, *words: str) -> Outcome:
        """Run `python3 tools/devcluster WORDS`."""
        environ = {name: value for name, value in os.environ.items() if name != "AGENTPOOL_CONTEXT"}
        began = time.monotonic()
        done = subprocess.run(
            ["python3", self.root / "tools" / "devcluster", *words],
            capture_output=True,
            text=True,
            timeout=600,
            env={**environ, **self.environ},
            check=False,
        )
        return Outcome(done.returncode, done.stdout + done.stderr, time.monotonic() - began)

    def up(self, *words: str) -> Outcome:
        """`up`, which must succeed."""
        outcome = self.devcluster("up", *words)
        assert outcome.code == 0, outcome.output
        return outcome

    def kubectl(self, *words: str, stdin: str | None = None) -> str:
        """Run kubectl as `.devcluster/env` sets it up; it must succeed."""
        text = path_of(self.root).read_text()
        path = ":".join([*directories_of(text), os.environ["PATH"]])
        done = subprocess.run(
            ["kubectl", *words],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=WAIT_SECONDS + 10,
            env={**os.environ, **variables_of(text), "PATH": path},
            check=False,
        )
        assert done.returncode == 0, f"kubectl {' '.join(words)}: {done.stderr}"
        return done.stdout

    def apply(self, *items: dict[str, Any]) -> None:
        """`kubectl apply` of objects."""
        self.kubectl(
            "apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
        )

    def ready(self, namespace: str, pod: str) -> None:
        """Wait until a pod is Ready."""
        self.kubectl(
            "-n", namespace, "wait", "--for=condition=Ready", f"pod/{pod}", f"--timeout={WAIT_SECONDS}s"
        )

    def pid(self, daemon: str) -> int:
        """The number in a daemon's pid file."""
        found: int = json.loads((self.places.pids / f"{daemon}.json").read_text())["pid"]
        return found


def fetch(url: str) -> str:
    """The body of a GET; tries again while nobody answers, as rules follow endpoints by some 100 ms."""
    deadline = time.monotonic() + 10
    while True:
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310  # the test's own address
                return str(answer.read().decode())
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def eventually(condition: Callable[[], bool], seconds: float = 15) -> bool:
    """Whether a condition comes true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True
