# SPDX-License-Identifier: Apache-2.0
"""Which pictures findings make. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.headlines import headlines
from benchmarks.pictures import Series, bars, lines
from benchmarks.rows import CostPoint, Findings, Row

STEADY = "gateway gRPC, 500/s"
MIXED = ("200/s, 3 % to new instances: hits", "200/s, 3 % to new instances: misses")
DRAINED = "first request by schedule after that"


def gallery(findings: Findings) -> dict[str, str]:
    """SVG by name; what was not measured has no picture."""
    rows = {row.name: row for row in findings.rows}
    found = {
        "milestones": _milestones([rows[name] for name in MIXED if name in rows]),
        "windows": _windows(rows.get(STEADY)),
        "drained": _windows(rows.get(DRAINED)),
        "costs": _costs(findings.costs),
        "oldway": _old_way(findings.rows),
    }
    return {name: picture for name, picture in found.items() if picture}


def _windows(row: Row | None) -> str:
    if row is None or not row.windows:
        return ""
    series = [
        Series(name, [(window.start, getattr(window.times, name)) for window in row.windows])
        for name in ("p50", "p99")
    ]
    first, last = row.windows[0], row.windows[-1]
    told = f"p99 is {first.times.p99:.1f} ms in the first window and {last.times.p99:.1f} ms in the last."
    return lines(row.name, told, series, f"seconds since the start, windows of {first.seconds:g} s", "ms")


def _milestones(rows: Sequence[Row]) -> str:
    groups = [(name.replace("_", " "), name) for name in ("placed", "accepted", "first_event", "done")]
    known = [row for row in rows if row.milestones]
    if not known:
        return ""
    values = [(label, [max(row.milestones[name].p50, 0.001) for row in known]) for label, name in groups]
    names = [row.name.rpartition(": ")[2] for row in known]
    told = "; ".join(f"{label}: {', '.join(f'{value:.2f}' for value in found)}" for label, found in values)
    return bars(
        "Milestones of a request, p50",
        f"Milliseconds for {' and '.join(names)}. {told}.",
        values,
        names,
        "ms",
    )


def _costs(points: Sequence[CostPoint]) -> str:
    if len(points) < 2:
        return ""
    series = [
        Series("answer p50, ms", [(point.instances, point.answer.p50) for point in points]),
        Series("answer p99, ms", [(point.instances, point.answer.p99) for point in points]),
        Series("memory each, MB", [(point.instances, point.memory_mb) for point in points]),
    ]
    last = points[-1]
    told = (
        f"With {last.instances} instances an answer takes {last.answer.p50:.2f} ms,"
        f" and an instance has {last.memory_mb:.1f} MB."
    )
    return lines("Cost of resident instances", told, series, "instances", "", log_x=True)


def _old_way(rows: Sequence[Row]) -> str:
    groups = [
        (
            one.what.removesuffix(", p50")
            .replace(" of an agent with libraries", "\n(agent with libraries)")
            .replace(", pool off and on", "\n(pool off and on)"),
            pair,
        )
        for one in headlines(rows)
        if one.unit == "ms" and one.before and one.now
        for pair in ([one.before, one.now],)
    ]
    if not groups:
        return ""
    told = "; ".join(
        f"{label.replace(chr(10), ' ')}: {before:.0f} ms before, {now:.1f} ms now"
        for label, (before, now) in groups
    )
    names = ["before", "pool"]
    return bars("A fresh agent for each request, and the pool", told, groups, names, "ms", log_y=True)
