# SPDX-License-Identifier: Apache-2.0
"""Traces of arrivals: CSV with the columns `seconds` and `requests_per_second`, and `service_milliseconds` if
requests take longer at some times than at others. Each line holds until the next; the last line ends it."""

from __future__ import annotations

import csv
import io
import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from agentpool_core.errors import InvalidRequest

REQUIRED = ("seconds", "requests_per_second")
SERVICE = "service_milliseconds"
MOST_REQUESTS = 5_000_000
"""Of one trace: about half a minute of computing."""


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of one rate; `service_seconds`: mean time of a request, None: the command's."""

    begins: float
    per_second: float
    service_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Trace:
    """Spans in their order, and when the last one ends."""

    spans: Sequence[Span]
    ends: float

    def at(self, seconds: float) -> Span:
        """The span of a time."""
        return self.spans[max(0, bisect_right(self.spans, seconds, key=lambda span: span.begins) - 1)]

    @property
    def step(self) -> tuple[float, float, float]:
        """When the rate rises most from one span to the next, and both rates."""
        pairs = list(zip(self.spans, self.spans[1:], strict=False)) or [(self.spans[0], self.spans[0])]
        before, after = max(pairs, key=lambda pair: pair[1].per_second - pair[0].per_second)
        return after.begins, before.per_second, after.per_second


def read_trace(text: str, name: str) -> Trace:
    """The trace in a CSV text; InvalidRequest names the line and what it should hold."""
    lines = (line for line in io.StringIO(text) if not line.startswith("#"))
    reader = csv.DictReader(lines, skipinitialspace=True)
    if missing := [column for column in REQUIRED if column not in (reader.fieldnames or ())]:
        raise _refused(name, f"has no column {missing[0]}", f"Begin it with the line {','.join(REQUIRED)}.")
    spans: list[Span] = []
    for number, row in enumerate(reader, 2):
        begins, rate = (_number(row[column], name, number, column) for column in REQUIRED)
        service = row.get(SERVICE)
        takes = _number(service, name, number, SERVICE) / 1000 if service else None
        if spans and begins <= spans[-1].begins:
            raise _refused(name, f"line {number}: seconds do not rise", "Sort it by seconds.")
        if takes == 0:
            raise _refused(name, f"line {number}: {SERVICE} is 0", "Give a time above 0, or leave it empty.")
        spans.append(Span(begins, rate, takes))
    if len(spans) < 2:
        raise _refused(name, "has fewer than two lines", "Give at least a beginning and an end.")
    expected = sum(
        (later.begins - span.begins) * span.per_second for span, later in zip(spans, spans[1:], strict=False)
    )
    if expected > MOST_REQUESTS:
        raise _refused(name, f"has about {expected:.0f} requests", f"Shorten it below {MOST_REQUESTS}.")
    return Trace(tuple(spans[:-1]), spans[-1].begins)


def _number(text: str | None, name: str, line: int, column: str) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise _refused(name, f"line {line}: {column} is {text!r}", "Give a number from 0 up.")
    return value


def _refused(name: str, what: str, remedy: str) -> InvalidRequest:
    return InvalidRequest(f"{name} {what}.", remedy=remedy)
