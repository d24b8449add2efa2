# SPDX-License-Identifier: Apache-2.0
"""Findings as tables in Markdown. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benchmarks.headlines import Headline
from benchmarks.milestones import NAMES
from benchmarks.rows import CostPoint, Row, Usage
from benchmarks.samples import Summary

PERCENTILES = ("p50", "p90", "p99", "max")


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Lines of a table; no lines when there are no rows."""
    lines = ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return ["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *lines, ""] if lines else []


def section(title: str, text: str, lines: Sequence[str]) -> list[str]:
    """A titled part; nothing when there are no lines."""
    return [f"## {title}", "", *([text, ""] if text else []), *lines] if lines else []


def times(rows: Sequence[Row]) -> list[str]:
    """Percentiles in milliseconds."""
    found = [
        (
            row.name,
            row.times.count,
            *_of(row.times),
            ", ".join(f"{key} {value}" for key, value in row.notes.items()),
        )
        for row in rows
        if row.times is not None
    ]
    return table(("times in ms", "n", *PERCENTILES, "notes"), found)


def _of(summary: Summary) -> list[str]:
    return [f"{getattr(summary, name):.2f}" for name in PERCENTILES]


def figures(rows: Sequence[Row]) -> list[str]:
    """Single numbers."""
    found = [
        (
            row.name,
            f"{row.figure:.4g} {row.unit}",
            ", ".join(f"{key} {value}" for key, value in row.notes.items()),
        )
        for row in rows
        if row.figure is not None
    ]
    return table(("figure", "value", "notes"), found)


def milestones(rows: Sequence[Row]) -> list[str]:
    """When requests had come how far: p50 / p99."""
    found = [
        (
            row.name,
            *(f"{one.p50:.2f} / {one.p99:.2f}" for one in row.milestones.values()),
            f"{row.times.p50:.2f} / {row.times.p99:.2f}",
        )
        for row in rows
        if row.milestones and row.times is not None
    ]
    return table(("p50 / p99 in ms", *(name.replace("_", " ") for name in NAMES), "answered"), found)


def windows(rows: Sequence[Row]) -> list[str]:
    """Schedules by windows: p50 / p99."""
    found = [
        (
            row.name,
            f"{window.start:g}-{window.start + window.seconds:g}",
            window.times.count,
            *_of(window.times),
        )
        for row in rows
        for window in row.windows
    ]
    return table(("schedule", "seconds", "n", *PERCENTILES), found)


def usage(used: Sequence[Usage]) -> list[str]:
    """CPU and memory by phase and part."""
    found = [
        (
            one.phase,
            f"{one.seconds:.0f}",
            one.part,
            one.processes,
            f"{100 * one.cores:.1f}",
            f"{one.private_mb:.1f}",
        )
        for one in used
    ]
    return table(("phase", "s", "part", "processes", "CPU, % of a core", "private MB at its end"), found)


def costs(points: Sequence[CostPoint]) -> list[str]:
    """What instances cost by their number."""
    found = [
        (
            point.instances,
            f"{point.memory_mb:.2f}",
            f"{point.total_mb:.0f}",
            f"{point.idle_percent:.3f}",
            f"{point.idle_percent / point.instances:.4f}",
            f"{point.answer.p50:.2f} / {point.answer.p99:.2f}",
            f"{point.activation.p50:.2f} / {point.activation.p99:.2f} ({point.activation.count})",
        )
        for point in points
    ]
    head = ("instances", "MB each", "MB, host and zygote too", "idle CPU, % of a core", "each")
    return table((*head, "answer, p50 / p99 ms", "activation, p50 / p99 ms (n)"), found)


def headlines(found: Sequence[Headline]) -> list[str]:
    """The old way against the pool."""
    rows = [
        (
            one.id,
            one.what,
            one.promised,
            _value(one.before, one.unit),
            _value(one.now, one.unit),
            _ratio(one),
            one.note,
        )
        for one in found
    ]
    return table(("", "what", "promised", "before, measured", "pool, measured", "ratio", ""), rows)


def _value(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{value:.3g} {unit}"


def _ratio(one: Headline) -> str:
    return "-" if one.ratio is None else f"{one.ratio:.3g}x"
