# SPDX-License-Identifier: Apache-2.0
"""The CustomResourceDefinitions as files: in `crds/`, and in the chart, which cannot look outside itself."""

from __future__ import annotations

from pathlib import Path

from agentpool_core.crd import KINDS, file_name, text

FOLDERS = (Path("crds"), Path("charts/agentpool/files/crds"))


def definitions(mark: str) -> dict[Path, str]:
    """Text of every definition by its path in the repository; `mark` ends the line that names the source."""
    head = f"# Generated from core/agentpool_core/api and core/agentpool_core/crd {mark}\n"
    head += "# SPDX-License-Identifier: Apache-2.0\n"
    return {folder / file_name(kind): head + text(kind) for folder in FOLDERS for kind in KINDS}
