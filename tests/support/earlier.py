# SPDX-License-Identifier: Apache-2.0
"""The code of an earlier revision, for tests of two releases side by side."""

from __future__ import annotations

import io
import subprocess
import zipfile
from pathlib import Path

from support.repository import ROOT

REVISION = "bc1c93e"
"""The last revision whose hosts speak protocol 1."""
_FOLDERS = ("core", "agent_container", "tests/support")


class RevisionMissing(Exception):
    """The clone does not have the revision, as a shallow one."""


def unpack(folder: Path, revision: str = REVISION) -> tuple[Path, ...]:
    """Write what its hosts and agents need, and give the import paths. RevisionMissing."""
    command = ("git", "archive", "--format=zip", revision, *_FOLDERS)
    try:
        found = subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as exc:
        raise RevisionMissing(f"the clone does not have revision {revision}") from exc
    with zipfile.ZipFile(io.BytesIO(found.stdout)) as archive:
        archive.extractall(folder)
    return (folder / "core", folder / "agent_container", folder / "tests")
