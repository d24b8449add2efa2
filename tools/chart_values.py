# SPDX-License-Identifier: Apache-2.0
"""The page of docs/reference with every value of the chart, printed from values.yaml and its comments."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from tools.reference import table

VALUES = Path(__file__).resolve().parent.parent / "charts/agentpool/values.yaml"
PAGE = Path("docs/reference/chart.md")
SOURCE = "charts/agentpool/values.yaml"
ENTRY = re.compile(r"^(?P<indent> *)(?P<name>\w+):(?: (?P<default>.*))?$")
COMMENT = re.compile(r"^ *# (?P<about>-- )?(?P<text>.*)$")


def rows(text: str) -> Iterator[list[str]]:
    """Name, default and meaning of each value; `# -- ` begins what is said of the next one."""
    steps: list[str] = []
    about = ""
    for line in text.splitlines():
        comment, entry = COMMENT.match(line), ENTRY.match(line)
        if comment:
            begins = comment["about"] is not None
            about = comment["text"] if begins else f"{about} {comment['text']}" if about else ""
        elif entry:
            del steps[len(entry["indent"]) // 2 :]
            steps.append(entry["name"])
            if entry["default"] is not None:
                yield [f"`{'.'.join(steps)}`", f"`{entry['default']}`", about]
            about = ""


def page(mark: str) -> dict[Path, str]:
    """The page by its path in the repository; `mark` ends the line that names the source."""
    intro = (
        "# Values of the chart\n\nWhat is not here, `helm` refuses. "
        "How to install with it: [with Helm](../howto/install-with-helm.md).\n\n"
    )
    whole = table(("value", "default", "meaning"), rows(VALUES.read_text(encoding="utf-8")))
    return {PAGE: f"<!-- Generated from {SOURCE} {mark} -->\n\n{intro}{whole}"}
