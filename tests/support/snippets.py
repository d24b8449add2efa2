# SPDX-License-Identifier: Apache-2.0
"""Code blocks of the documentation, with the directive above each that says how it is tested.

<!-- test: commands -->                         each command exists: make target, agentpool option, file
<!-- test: manifest -->                         YAML of valid resources
<!-- test: objects -->                          YAML of objects of other kinds, or of several
<!-- test: values -->                           YAML of values of the chart
<!-- test: file=PATH -->                        an excerpt of that file, word for word
<!-- test: run app-dir=DIR -->                  Python that is run by itself
<!-- test: pool=MANIFEST [fails] expect="TEXT" -->   sh or Python that is run against that pool
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

FENCE = re.compile(r"^(\s*)```(\w*)\s*$")
DIRECTIVE = re.compile(r"^\s*<!-- test: (.+) -->\s*$")
UNTESTED = frozenset({"text"})
"""Languages of blocks that show something and cannot be run."""


@dataclass(frozen=True)
class Snippet:
    """One block of code."""

    page: Path
    line: int
    language: str
    code: str
    kind: str
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Page and line, as a test's id."""
        return f"{self.page}:{self.line}"


def snippets(page: Path, text: str) -> Iterator[Snippet]:
    """The blocks of one page in their order; ValueError for a block that has no end."""
    directive = ""
    lines = enumerate(text.splitlines(), 1)
    for number, line in lines:
        opening = FENCE.match(line)
        if opening is None:
            named = DIRECTIVE.match(line)
            directive = named.group(1) if named else directive if not line.strip() else ""
            continue
        body: list[str] = []
        for _, inside in lines:
            if inside.strip() == "```":
                break
            body.append(inside)
        else:
            raise ValueError(f"{page}:{number}: the block has no end")
        kind, options = _parse(directive)
        yield Snippet(page, number, opening.group(2), "\n".join(body) + "\n", kind, options)
        directive = ""


def _parse(directive: str) -> tuple[str, dict[str, str]]:
    options: dict[str, str] = {}
    kind = ""
    for word in shlex.split(directive):
        name, equals, value = word.partition("=")
        kind = kind or name
        options[name] = value if equals else ""
    return kind, options
