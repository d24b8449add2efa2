# SPDX-License-Identifier: Apache-2.0
"""What a system did under more requests than it can serve, held against what is asked for. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.demands import Demand, demand_table
from benchmarks.plans import Drive, Kind, Outcome, driver_fault, lateness
from benchmarks.samples import Summary
from benchmarks.tables import section, table
from benchmarks.watch import PARTS, Look, growth, of_part

THROUGHPUT_SHARE = 0.9
SLOWER = 2.0
REFUSAL_MS = 20.0
FLAT = 0.05
RECOVERY_SECONDS = 5.0
SENT_SHARE = 0.98
WINDOW_SECONDS = 0.5
BAD_SHARE = 0.05
"""A window in which more of the requests than that are bad is not yet as before."""


@dataclass(frozen=True, slots=True)
class Overload:
    """One run.

    Attributes:
        capacity: answers a second in a closed loop, the best number of callers.
        sweep: answers a second by callers.
        unloaded: a schedule of half the capacity; `after`: the same, right behind the overload.
        loaded: the overload, `factor` times the capacity.
        looks: memory from before to after.
    """

    capacity: float
    factor: float
    sweep: dict[int, float]
    unloaded: Drive
    loaded: Drive
    after: Drive
    seconds: float
    looks: Sequence[Look] = field(repr=False)


def fault(run: Overload) -> str:
    """Why nothing can be said of the system; empty: something can. That the driver of the time after the
    overload was late would make recovery look longer, never shorter."""
    late = driver_fault({"unloaded": run.unloaded, "overload": run.loaded})
    expected = run.capacity * run.factor * run.seconds
    if not late and len(run.loaded.outcomes) < SENT_SHARE * expected - 3 * expected**0.5:
        return f"only {len(run.loaded.outcomes)} of about {expected:.0f} requests fell due"
    return late


def demands(run: Overload) -> list[Demand]:
    """Every demand."""
    answered, refused = run.loaded.of(Kind.ANSWERED), run.loaded.of(Kind.REFUSED)
    in_time = [one for one in answered if one.due + one.milliseconds / 1000 <= run.seconds]
    throughput = len(in_time) / run.seconds
    return [
        Demand(
            "accepted throughput",
            throughput >= THROUGHPUT_SHARE * run.capacity,
            f"{throughput:.0f}/s, {100 * throughput / run.capacity:.0f} % of {run.capacity:.0f}/s,"
            f" at least {100 * THROUGHPUT_SHARE:.0f} %",
        ),
        _slower(run, answered),
        _refusals(refused),
        _say_when(refused),
        _others(run.loaded),
        *(_flat(run, part) for part in PARTS),
        _recovery(run),
    ]


def _unloaded_p99(run: Overload) -> float:
    return Summary.of([one.milliseconds for one in run.unloaded.of(Kind.ANSWERED)]).p99


def _slower(run: Overload, answered: Sequence[Outcome]) -> Demand:
    name, unloaded = "p99 of accepted requests", _unloaded_p99(run)
    if not answered:
        return Demand(name, False, "none was answered")
    p99 = Summary.of([one.milliseconds for one in answered]).p99
    detail = f"{p99:.1f} ms, {p99 / unloaded:.2f} times {unloaded:.1f} ms unloaded, at most {SLOWER:g}"
    return Demand(name, p99 <= SLOWER * unloaded, detail)


def _refusals(refused: Sequence[Outcome]) -> Demand:
    name = "refusals come quickly, p99"
    if not refused:
        return Demand(name, False, "nothing was refused")
    times = Summary.of([one.since_sent for one in refused])
    detail = f"{times.p99:.1f} ms (p50 {times.p50:.1f}), at most {REFUSAL_MS:g} ms, {times.count} refused"
    return Demand(name, times.p99 <= REFUSAL_MS, detail)


def _say_when(refused: Sequence[Outcome]) -> Demand:
    silent = sum(not one.says_when for one in refused)
    return Demand("refusals say when to come back", not silent, f"{silent} of {len(refused)} do not")


def _others(drive: Drive) -> Demand:
    bad = Counter(
        one.code or one.kind.value for one in drive.outcomes if one.kind in (Kind.FAILED, Kind.CROWDED)
    )
    detail = ", ".join(f"{code} {count}" for code, count in bad.most_common()) or "none otherwise"
    return Demand("everything else is answered or refused", not bad, detail)


def _flat(run: Overload, part: str) -> Demand:
    own = of_part(run.looks, part)
    during = [one.private_mb for one in own if 0 <= one.at - run.loaded.began <= run.seconds]
    if len(during) < 2:
        return Demand(f"memory of the {part} is flat", False, "not looked at twice")
    grown = growth(during)
    detail = (
        f"{own[0].private_mb:.1f} MB before, {max(during):.1f} at most, {own[-1].private_mb:.1f} after;"
        f" {100 * grown:+.1f} % from the first to the last quarter, at most {100 * FLAT:.0f} %"
    )
    return Demand(f"memory of the {part} is flat", grown <= FLAT, detail)


def recovery_seconds(after: Drive, limit: float) -> float | None:
    """How long after the overload windows were still bad: too many refused, failed, or slower than `limit`
    milliseconds. None: the last window that was watched was bad, or nothing was sent."""
    windows: dict[int, list[bool]] = {}
    for one in after.outcomes:
        bad = one.kind is not Kind.ANSWERED or one.milliseconds > limit
        windows.setdefault(int(one.due // WINDOW_SECONDS), []).append(bad)
    bad_ones = [number for number, seen in windows.items() if sum(seen) > BAD_SHARE * len(seen)]
    if not windows or max(windows) in bad_ones:
        return None
    return (max(bad_ones) + 1) * WINDOW_SECONDS if bad_ones else 0.0


def _recovery(run: Overload) -> Demand:
    limit = SLOWER * _unloaded_p99(run)
    took = recovery_seconds(run.after, limit)
    held = took is not None and took <= RECOVERY_SECONDS
    told = "not within the time watched" if took is None else f"{took:g} s"
    return Demand("as before after the overload", held, f"{told}, at most {RECOVERY_SECONDS:g} s")


def report(run: Overload) -> str:
    """Markdown."""
    codes = Counter(one.code for one in run.loaded.outcomes if one.code)
    sweep = [(callers, f"{found:.0f}") for callers, found in run.sweep.items()]
    lines = demand_table(demands(run))
    lines += section("Load", "", _load(run))
    lines += section("Capacity", "", table(("callers", "answers a second"), sweep))
    lines += section("Codes under overload", "", table(("code", "requests"), codes.most_common()))
    return "\n".join(lines).rstrip() + "\n"


def _load(run: Overload) -> list[str]:
    drives = {
        "half of the capacity": run.unloaded,
        f"{run.factor:g} times": run.loaded,
        "half again": run.after,
    }
    kinds = [kind.value for kind in Kind]
    head = ("requests", *kinds, "p50 / p99 of answers, ms", "driver late p99, ms", "driver cores")
    rows = []
    for name, drive in drives.items():
        cores = drive.cpu_seconds / drive.seconds
        rows.append((name, *_counts(drive), _answers(drive), f"{lateness(drive):.2f}", f"{cores:.2f}"))
    return table(head, rows)


def _counts(drive: Drive) -> list[int]:
    return [len(drive.of(kind)) for kind in Kind]


def _answers(drive: Drive) -> str:
    answered = [one.milliseconds for one in drive.of(Kind.ANSWERED)]
    return f"{(times := Summary.of(answered)).p50:.1f} / {times.p99:.1f}" if answered else "-"
