# SPDX-License-Identifier: Apache-2.0
"""A drive cut into windows of time: what a mean over the whole hides. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from benchmarks.samples import Summary

WINDOW_SECONDS = 10.0
IN_A_ROW = 5
"""So many quick answers one after another mean that it is quick again; fewer may be luck."""

Point = tuple[float, float]
"""When a request was due, in seconds since the drive began, and its time in milliseconds."""


@dataclass(frozen=True, slots=True)
class Window:
    """The requests that were due in [start, start + seconds)."""

    start: float
    seconds: float
    times: Summary


def windows(points: Iterable[Point], seconds: float = WINDOW_SECONDS) -> list[Window]:
    """Windows in their order; one in which nothing was due is left out."""
    found: dict[int, list[float]] = {}
    for at, milliseconds in points:
        found.setdefault(int(at // seconds), []).append(milliseconds)
    return [Window(number * seconds, seconds, Summary.of(found[number])) for number in sorted(found)]


def quick_again(points: Iterable[Point], limit: float, in_a_row: int = IN_A_ROW) -> float | None:
    """When the first of `in_a_row` requests that took at most `limit` milliseconds was due; None: never."""
    began, count = 0.0, 0
    for at, milliseconds in sorted(points):
        if milliseconds > limit:
            count = 0
            continue
        began = at if count == 0 else began
        count += 1
        if count == in_a_row:
            return began
    return None
