# SPDX-License-Identifier: Apache-2.0
"""What one project does to the others. Pure."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.demands import Demand, demand_table
from benchmarks.intervals import Interval, bootstrap_ratio
from benchmarks.plans import Drive, Kind, driver_fault, lateness
from benchmarks.samples import Summary
from benchmarks.tables import section, table

SLOWER = 1.2
BLOCK_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Beside:
    """The others' requests, alone and beside one bad project, and what became of the bad one's."""

    name: str
    alone: Drive
    beside: Drive
    bad: Drive

    def ratio(self) -> Interval:
        """The others' p99 beside the bad project by their p99 alone. Requests of one second are slow
        together, so seconds are drawn anew, not requests."""
        return bootstrap_ratio(seconds_of(self.alone), seconds_of(self.beside), _p99, random.Random(1))


def seconds_of(drive: Drive) -> list[list[float]]:
    """Times of the answered requests, by the second in which they were due."""
    found: dict[int, list[float]] = {}
    for one in drive.of(Kind.ANSWERED):
        found.setdefault(int(one.due // BLOCK_SECONDS), []).append(one.milliseconds)
    return list(found.values())


def _p99(times: Sequence[float]) -> float:
    return Summary.of(times).p99


def fault(found: Sequence[Beside]) -> str:
    """Why nothing can be said: the driver of the others was late. Empty: it was not."""
    drives = {f"{one.name}, alone": one.alone for one in found}
    return driver_fault(drives | {f"{one.name}, beside it": one.beside for one in found})


def demands(found: Sequence[Beside]) -> list[Demand]:
    """Every demand."""
    made = []
    for one in found:
        if not one.alone.of(Kind.ANSWERED) or not one.beside.of(Kind.ANSWERED):
            made.append(Demand(f"{one.name}: p99 of the others", False, "none of them was answered"))
            continue
        ratio = one.ratio()
        detail = f"{ratio.median:.2f} times (95 %: {ratio.low:.2f} to {ratio.high:.2f}), at most {SLOWER:g}"
        made.append(Demand(f"{one.name}: p99 of the others", ratio.median <= SLOWER, detail))
        ends = Counter(
            end.code or end.kind.value for end in one.beside.outcomes if end.kind is not Kind.ANSWERED
        )
        told = ", ".join(f"{code} {count}" for code, count in ends.most_common()) or "all are"
        made.append(Demand(f"{one.name}: the others are answered", not ends, told))
    return made


def report(found: Sequence[Beside]) -> str:
    """Markdown."""
    rows = [
        (
            one.name,
            label,
            len(drive.outcomes),
            _times(drive),
            f"{lateness(drive):.2f}",
            f"{drive.cpu_seconds / drive.seconds:.2f}",
        )
        for one in found
        for label, drive in (("alone", one.alone), ("beside it", one.beside))
    ]
    head = ("bad project", "others", "requests", "p50 / p99 / max, ms", "driver late p99, ms", "driver cores")
    bad = [(one.name, len(one.bad.outcomes), *(len(one.bad.of(kind)) for kind in Kind)) for one in found]
    lines = demand_table(demands(found))
    lines += section("The others", "", table(head, rows))
    lines += section(
        "The bad project's own requests", "", table(("", "sent", *(kind.value for kind in Kind)), bad)
    )
    return "\n".join(lines).rstrip() + "\n"


def _times(drive: Drive) -> str:
    answered = [one.milliseconds for one in drive.of(Kind.ANSWERED)]
    if not answered:
        return "-"
    times = Summary.of(answered)
    return f"{times.p50:.2f} / {times.p99:.2f} / {times.max:.2f}"
