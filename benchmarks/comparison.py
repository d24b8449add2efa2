# SPDX-License-Identifier: Apache-2.0
"""Two sides measured in rounds: what of their difference is shown. Pure."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.intervals import ENOUGH, Interval, bootstrap
from benchmarks.rows import Row
from benchmarks.tables import table

Values = dict[str, list[float]]
"""One value of each round, by what was measured."""

MORE_IS_BETTER = frozenset({"requests/s", "instances", "workers"})


def values_of(rows: Sequence[Row]) -> dict[str, float]:
    """What is compared of one round: p50 and p99 of each row with times, and each figure with its unit."""
    found: dict[str, float] = {}
    for row in rows:
        if row.times is not None:
            found[f"{row.name}, p50, ms"] = row.times.p50
            found[f"{row.name}, p99, ms"] = row.times.p99
        if row.figure is not None:
            found[f"{row.name}, {row.unit}"] = row.figure
    return found


@dataclass(frozen=True, slots=True)
class Comparison:
    """One thing on both sides."""

    name: str
    base: Interval
    head: Interval
    rounds: int

    @property
    def change(self) -> float:
        """From base to head, as a part of base; 0 when base is 0."""
        return self.head.median / self.base.median - 1 if self.base.median else 0.0

    @property
    def verdict(self) -> str:
        """better or worse, where the intervals leave room for nothing else."""
        if self.rounds < ENOUGH:
            return f"nothing can be said of {self.rounds} rounds"
        if self.base.overlaps(self.head):
            return "no difference shown"
        rose = self.head.median > self.base.median
        return "better" if rose is (self.name.rpartition(", ")[2] in MORE_IS_BETTER) else "worse"


def comparisons(
    base: Mapping[str, Sequence[float]], head: Mapping[str, Sequence[float]], rng: random.Random
) -> list[Comparison]:
    """Everything that both sides have."""
    return [
        Comparison(
            name, bootstrap(values, rng), bootstrap(head[name], rng), min(len(values), len(head[name]))
        )
        for name, values in base.items()
        if name in head
    ]


def report(found: Sequence[Comparison]) -> str:
    """Markdown."""
    rows = [
        (one.name, _interval(one.base), _interval(one.head), f"{100 * one.change:+.1f} %", one.verdict)
        for one in found
    ]
    head = ("what", "base: median (95 % interval)", "this checkout", "change", "")
    return "\n".join(table(head, rows))


def _interval(one: Interval) -> str:
    return f"{one.median:.3g} ({one.low:.3g} to {one.high:.3g})"
