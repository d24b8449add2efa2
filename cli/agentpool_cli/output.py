# SPDX-License-Identifier: Apache-2.0
"""How results look: tables for people, JSON, YAML and names for programs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

GAP = "   "
NOTHING = "-"


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table: its title, how a cell is made, and whether only `-o wide` shows it."""

    title: str
    cell: Callable[[Mapping[str, Any]], str]
    wide: bool = False


def table(columns: Sequence[Column], rows: Sequence[Mapping[str, Any]], *, wide: bool = False) -> str:
    """Rows under titles, every column as broad as its broadest cell."""
    shown = [column for column in columns if wide or not column.wide]
    cells = [[column.title for column in shown]]
    cells += [[column.cell(row) or NOTHING for column in shown] for row in rows]
    return align(cells)


def align(cells: Sequence[Sequence[str]]) -> str:
    """Lines of cells in columns; no blanks at the end of a line."""
    widths = [max(len(line[at]) for line in cells) for at in range(len(cells[0]))]
    lines = (
        GAP.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    )
    return "\n".join(lines) + "\n"


def as_json(value: Any) -> str:
    """Indented JSON."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def as_yaml(value: Any) -> str:
    """Block-style YAML in the order of the value."""
    import yaml  # 20 ms that only this format needs

    text: str = yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
    return text


def as_names(kind: str, names: Sequence[str]) -> str:
    """`kind/name` a line, as kubectl prints it."""
    return "".join(f"{kind}/{name}\n" for name in names)


def megabytes(size: float) -> str:
    """A size in bytes as `3.1 MB`; empty when nothing was measured."""
    return f"{size / 1e6:.1f} MB" if size else ""


def ago(then: str | None, now: datetime) -> str:
    """How long ago an RFC 3339 time was, in one unit; empty when there is none."""
    if not then:
        return ""
    seconds = max(0, int((now - datetime.fromisoformat(then)).total_seconds()))
    for limit, size, unit in ((120, 1, "s"), (7200, 60, "m"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{seconds // size}{unit}"
    return f"{seconds // 86_400}d"
