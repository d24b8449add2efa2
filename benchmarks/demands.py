# SPDX-License-Identifier: Apache-2.0
"""What is asked for, and whether a run held it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.tables import table


@dataclass(frozen=True, slots=True)
class Demand:
    """One demand on a run."""

    name: str
    held: bool
    detail: str


def demand_table(demands: Sequence[Demand]) -> list[str]:
    """Lines of a table."""
    rows = [(one.name, "yes" if one.held else "NO", one.detail) for one in demands]
    return table(("demand", "held", "measured"), rows)


def exit_code(demands: Sequence[Demand]) -> int:
    """0 when all are held, 1 otherwise."""
    return 0 if all(one.held for one in demands) else 1
