# SPDX-License-Identifier: Apache-2.0
"""Results as a table for people and as JSON for tools, each figure beside its floor and target."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.scenarios import Row


@dataclass(frozen=True, slots=True)
class Bar:
    """What a figure is held against; smaller is better unless `at_least`."""

    name: str
    value: float
    unit: str
    floor: float
    target: float
    at_least: bool = False

    @property
    def verdict(self) -> str:
        """target, floor or below."""
        sign = -1 if self.at_least else 1
        if sign * self.value <= sign * self.target:
            return "target"
        return "floor" if sign * self.value <= sign * self.floor else "below"


def bars(rows: Sequence[Row]) -> list[Bar]:
    """The design's targets that this form of the benchmark measures."""
    by_name = {row.name: row for row in rows}

    def times(name: str, percentile: str) -> float:
        summary = by_name[name].times
        return float(getattr(summary, percentile))

    def figure(name: str) -> float:
        return float(by_name[name].figure or 0.0)

    direct = times("direct, one caller", "p50")
    unchanged = times("answer, unchanged", "p50")
    through = figure("gateway gRPC, per core of the gateway")
    after_eviction = "first request after eviction, host full"
    new = "first request of a new instance, 10/s"
    return [
        Bar("gateway gRPC / direct, p50", times("gateway gRPC, one caller", "p50") / direct, "x", 2.5, 1.6),
        Bar("gateway gRPC at 500/s, p99", times("gateway gRPC, 500/s", "p99"), "ms", 10, 10),
        Bar("gateway gRPC, one core", through, "requests/s", 1500, 2500, at_least=True),
        Bar(
            "100 kB change, p50 over unchanged",
            times("answer that changes 100 kB", "p50") - unchanged,
            "ms",
            8,
            3,
        ),
        Bar("WARM first request, new, p50", times(new, "p50"), "ms", 10, 4),
        Bar("WARM first request, new, p99", times(new, "p99"), "ms", 50, 20),
        Bar("WARM first request, evicted, p50", times(after_eviction, "p50"), "ms", 10, 4),
        Bar("WARM first request, evicted, p99", times(after_eviction, "p99"), "ms", 50, 20),
        Bar("instances resident", figure("instances resident"), "instances", 1000, 1000, at_least=True),
        Bar("private memory of an instance", figure("private memory of an instance, median"), "MB", 5, 3),
        Bar(
            "idle CPU of an instance",
            figure("idle CPU of an instance, host and zygote included"),
            "% of a core",
            0.02,
            0.02,
        ),
    ]


def table(rows: Sequence[Row], compared: Sequence[Bar], facts: Mapping[str, str]) -> str:
    """Markdown that is readable as it is."""
    lines = [f"{name}: {value}" for name, value in facts.items()]
    lines += ["", "| times in ms | n | p50 | p90 | p99 | max | notes |", "|---|---|---|---|---|---|---|"]
    for row in rows:
        if row.times is not None:
            one = row.times
            notes = ", ".join(f"{key} {value}" for key, value in row.notes.items())
            lines.append(
                f"| {row.name} | {one.count} | {one.p50:.2f} | {one.p90:.2f} | {one.p99:.2f} |"
                f" {one.max:.2f} | {notes} |"
            )
    lines += ["", "| figure | value |", "|---|---|"]
    lines += [f"| {row.name} | {row.figure:.4g} {row.unit} |" for row in rows if row.figure is not None]
    lines += ["", "| against the design | measured | floor | target | reached |", "|---|---|---|---|---|"]
    lines += [
        f"| {bar.name} | {bar.value:.3g} {bar.unit} | {bar.floor:g} | {bar.target:g} | {bar.verdict} |"
        for bar in compared
    ]
    return "\n".join(lines) + "\n"


def write(path: Path, rows: Sequence[Row], compared: Sequence[Bar], facts: Mapping[str, str]) -> None:
    """`path`.json and `path`.md."""
    document = {
        "facts": dict(facts),
        "rows": [asdict(row) for row in rows],
        "bars": [asdict(bar) | {"reached": bar.verdict} for bar in compared],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".json").write_text(json.dumps(document, indent=2) + "\n")
    path.with_suffix(".md").write_text(table(rows, compared, facts))
