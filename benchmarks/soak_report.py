# SPDX-License-Identifier: Apache-2.0
"""What a long run left behind. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.demands import Demand, demand_table
from benchmarks.plans import Drive, Kind
from benchmarks.samples import Summary
from benchmarks.tables import section, table
from benchmarks.watch import PARTS, Look, growth, of_part

WARM_UP_SHARE = 0.2
GROWTH = 0.05
CANCELLED_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of the run: its requests, counted, and what was held in memory meanwhile, the medians."""

    kinds: Counter[Kind]
    codes: Counter[str]
    times: Summary | None
    private_mb: dict[str, float]
    descriptors: dict[str, int]
    driver_cores: float


def slice_of(drive: Drive, looks: Sequence[Look]) -> Slice:
    """What is kept of a slice; the requests themselves are not, so this program does not grow either."""
    answered = [one.milliseconds for one in drive.of(Kind.ANSWERED)]
    return Slice(
        kinds=Counter(one.kind for one in drive.outcomes),
        codes=Counter(one.code for one in drive.outcomes if one.code),
        times=Summary.of(answered) if answered else None,
        private_mb={part: median(one.private_mb for one in of_part(looks, part)) for part in PARTS},
        descriptors={part: of_part(looks, part)[-1].descriptors for part in PARTS},
        driver_cores=drive.cpu_seconds / drive.seconds,
    )


def line(number: int, one: Slice) -> str:
    """A slice in one line."""
    ends = ", ".join(f"{one.kinds[kind]} {kind.value}" for kind in Kind if one.kinds[kind])
    times = f"p50 {one.times.p50:.1f} p99 {one.times.p99:.1f} ms" if one.times else "no answer"
    memory = ", ".join(f"{part} {one.private_mb[part]:.1f} MB {one.descriptors[part]} fds" for part in PARTS)
    return f"{number:4d}: {ends}; {times}; {memory}"


def after_warm_up(slices: Sequence[Slice]) -> Sequence[Slice]:
    """Without the first fifth, in which caches fill and memory is taken for good."""
    return slices[int(len(slices) * WARM_UP_SHARE) :]


def demands(slices: Sequence[Slice], left_in_flight: int) -> list[Demand]:
    """Every demand; `left_in_flight`: requests that the hosts still count at the end."""
    total: Counter[Kind] = sum((one.kinds for one in slices), Counter())
    codes: Counter[str] = sum((one.codes for one in slices), Counter())
    wrong = total[Kind.FAILED] + total[Kind.CROWDED] + total[Kind.REFUSED]
    told = ", ".join(f"{code} {count}" for code, count in codes.most_common()) or "all are"
    share = total[Kind.CANCELLED] / max(total.total(), 1)
    return [
        *(_grown(slices, part) for part in PARTS),
        Demand("all others are answered", not wrong, told),
        Demand("streams left midway", share > CANCELLED_SHARE / 2, f"{100 * share:.1f} % of {total.total()}"),
        Demand("nothing is left in flight", left_in_flight == 0, f"{left_in_flight} requests at the end"),
    ]


def _grown(slices: Sequence[Slice], part: str) -> Demand:
    name = f"memory of the {part} after warm-up"
    seen = [one.private_mb[part] for one in after_warm_up(slices)]
    if len(seen) < 2:
        return Demand(name, False, "fewer than two slices")
    grown = growth(seen)
    detail = f"{100 * grown:+.2f} %, {seen[0]:.1f} to {seen[-1]:.1f} MB, less than {100 * GROWTH:.0f} %"
    return Demand(name, grown < GROWTH, detail)


def report(slices: Sequence[Slice], left_in_flight: int) -> str:
    """Markdown."""
    rows = [
        (
            number,
            *(one.kinds[kind] for kind in Kind),
            f"{one.times.p50:.2f} / {one.times.p99:.2f}" if one.times else "-",
            *(f"{one.private_mb[part]:.2f}" for part in PARTS),
            *(one.descriptors[part] for part in PARTS),
            f"{one.driver_cores:.2f}",
        )
        for number, one in enumerate(slices, 1)
    ]
    head = ("slice", *(kind.value for kind in Kind), "p50 / p99, ms", *(f"{part}, MB" for part in PARTS))
    head = (*head, *(f"{part}, fds" for part in PARTS), "driver cores")
    lines = demand_table(demands(slices, left_in_flight)) + section("Course", "", table(head, rows))
    return "\n".join(lines).rstrip() + "\n"
