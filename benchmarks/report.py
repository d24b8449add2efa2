# SPDX-License-Identifier: Apache-2.0
"""Results as a table for people and as JSON for tools, each figure beside its floor and target."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks import tables
from benchmarks.gallery import gallery
from benchmarks.headlines import headlines
from benchmarks.rows import Findings, Row

OLD_WAY = (
    "Both were measured in this run, with the same agent. What was promised is of another machine and agent."
)
MILESTONES = (
    "Milliseconds since the request arrived at the gateway; activated and admitted since it came to the host;"
    " answered: the caller's clock, from when the request was due."
)
COSTS = (
    "Private memory: the median of the workers. Idle CPU: workers, host and zygote; each: that by instances."
)
USAGE = "CPU includes processes that ended in the phase. The driver is the process that sends the requests."


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
    after_eviction = "first request after eviction, host full"
    new = "first request of a new instance, 10/s"
    return [
        Bar("gateway gRPC / direct, p50", times("gateway gRPC, one caller", "p50") / direct, "x", 2.5, 1.6),
        Bar("gateway gRPC at 500/s, p99", times("gateway gRPC, 500/s", "p99"), "ms", 10, 10),
        *_throughput(figure),
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


def _throughput(figure: Callable[[str], float]) -> list[Bar]:
    through = figure("gateway gRPC, per core of the gateway")
    bare = figure("bare proxy, per core of the proxy")
    # The second by the 2,400 of a bare proxy on the machine where floor and target of the first were set.
    return [
        Bar("gateway gRPC, one core", through, "requests/s", 1500, 2500, at_least=True),
        Bar("gateway gRPC / bare proxy, one core", through / bare, "x", 0.625, 1.04, at_least=True),
    ]


def document(findings: Findings, compared: Sequence[Bar], facts: Mapping[str, str]) -> str:
    """Markdown that is readable as it is."""
    rows = findings.rows
    lines = [*(f"{key}: {value}  " for key, value in facts.items()), ""]
    lines += tables.table(
        ("against the design", "measured", "floor", "target", "reached"),
        [
            (bar.name, f"{bar.value:.3g} {bar.unit}", f"{bar.floor:g}", f"{bar.target:g}", bar.verdict)
            for bar in compared
        ],
    )
    lines += tables.section(
        "Against a fresh agent for each request", OLD_WAY, tables.headlines(headlines(rows))
    )
    lines += tables.section("Times", "", tables.times(rows))
    lines += tables.section("Figures", "", tables.figures(rows))
    lines += tables.section("Milestones", MILESTONES, tables.milestones(rows))
    lines += tables.section("Windows", "", tables.windows(rows))
    lines += tables.section("Cost of instances", COSTS, tables.costs(findings.costs))
    lines += tables.section("CPU and memory by part", USAGE, tables.usage(findings.usage))
    return "\n".join(lines).rstrip() + "\n"


def as_json(findings: Findings, compared: Sequence[Bar], facts: Mapping[str, str]) -> str:
    """Everything, for tools."""
    found = {
        "facts": dict(facts),
        "bars": [asdict(bar) | {"reached": bar.verdict} for bar in compared],
        "headlines": [asdict(one) | {"ratio": one.ratio} for one in headlines(findings.rows)],
        **asdict(findings),
    }
    return json.dumps(found, indent=2) + "\n"


def write(path: Path, findings: Findings, compared: Sequence[Bar], facts: Mapping[str, str]) -> None:
    """`path`.json, `path`.md and a picture for each thing that is better seen, `path`-*.svg."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".json").write_text(as_json(findings, compared, facts))
    path.with_suffix(".md").write_text(document(findings, compared, facts))
    for name, picture in gallery(findings).items():
        path.with_name(f"{path.name}-{name}.svg").write_text(picture)
