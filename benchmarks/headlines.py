# SPDX-License-Identifier: Apache-2.0
"""The old way against the pool, measured in one run, beside what was promised (A90-A96). Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.rows import Row

ECHO = "fresh process, Echo"
NO_POOL = "before: the product itself with agent_pool_enabled off, a one-shot instance for each request"
MEMORY_NOW = "private memory of an instance, median"
MEMORY_BEFORE = "private memory of a fresh process, Echo"
IDLE = "idle CPU of an instance, host and zygote included"


@dataclass(frozen=True, slots=True)
class Headline:
    """One comparison.

    Attributes:
        promised: before and with the pool, as the requirement has it.
        before, now: what this run measured; None where there is nothing to measure.
        unit: of both.
        more_is_better: for numbers of projects.
        note: what one must know to read it.
    """

    id: str
    what: str
    promised: str
    before: float | None
    now: float | None
    unit: str
    more_is_better: bool = False
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """How many times better; None where one side was not measured."""
        if not self.before or not self.now:
            return None
        return self.now / self.before if self.more_is_better else self.before / self.now


def headlines(rows: Sequence[Row]) -> list[Headline]:
    """What can be said from these rows; a comparison whose pool side was not measured is left out."""
    by_name = {row.name: row for row in rows}
    return [made for make in _MAKERS if (made := make(by_name)).now is not None]


def _p50(rows: Mapping[str, Row], name: str) -> float | None:
    row = rows.get(name)
    return row.times.p50 if row is not None and row.times is not None else None


def _figure(rows: Mapping[str, Row], name: str) -> float | None:
    row = rows.get(name)
    return row.figure if row is not None else None


def _timed(
    id: str, what: str, promised: str, before: str, now: str, note: str = ""
) -> Callable[[Mapping[str, Row]], Headline]:
    return lambda rows: Headline(id, what, promised, _p50(rows, before), _p50(rows, now), "ms", note=note)


def _memory(what: str, before: str, now: str) -> Callable[[Mapping[str, Row]], Headline]:
    note = "private memory of its process"
    return lambda rows: Headline(
        "A94", what, "200 MB -> 50 MB (4x)", _figure(rows, before), _figure(rows, now), "MB", note=note
    )


def _projects(rows: Mapping[str, Row]) -> Headline:
    """How many fresh processes fit into the memory that the pool's instances took."""
    now, each = _figure(rows, "instances resident"), _figure(rows, MEMORY_NOW)
    fresh = _figure(rows, MEMORY_BEFORE)
    before = now * each / fresh if now and each and fresh else None
    note = "before: computed, processes that fit into the same memory; now: resident at once, each answered"
    return Headline(
        "A95", "projects at once", "10 -> 100 (10x)", before, now, "projects", more_is_better=True, note=note
    )


def _idle(rows: Mapping[str, Row]) -> Headline:
    note = "before: nothing to measure, a process per request leaves none behind"
    return Headline(
        "A96",
        "CPU of an idle project",
        "5 % -> 0.1 % (50x)",
        None,
        _figure(rows, IDLE),
        "% of a core",
        note=note,
    )


_MAKERS: tuple[Callable[[Mapping[str, Row]], Headline], ...] = (
    _timed(
        "A90", "first request, p50", "2000 ms -> 50 ms (40x)", ECHO, "first request of a new instance, 10/s"
    ),
    _timed(
        "A90",
        "first request of an agent with libraries, p50",
        "2000 ms -> 50 ms (40x)",
        "fresh process, an agent with libraries",
        "an agent with libraries: first request, 10/s",
    ),
    _timed(
        "A90",
        "first request, pool off and on, p50",
        "2000 ms -> 50 ms (40x)",
        "one-shot instance of a new project, 10/s",
        "first request of a new instance, 10/s",
        NO_POOL,
    ),
    _timed("A91", "later requests, p50", "2000 ms -> 5 ms (400x)", ECHO, "gateway gRPC, one caller"),
    _timed(
        "A91",
        "later requests of an agent with libraries, p50",
        "2000 ms -> 5 ms (400x)",
        "fresh process, an agent with libraries",
        "an agent with libraries: later requests, one caller",
    ),
    _timed(
        "A91",
        "later requests, pool off and on, p50",
        "2000 ms -> 5 ms (400x)",
        "one-shot instance, one caller",
        "gateway gRPC, one caller",
        NO_POOL,
    ),
    _timed(
        "A92",
        "an instance made, p50",
        "2000 ms -> 1 ms (2000x)",
        f"{ECHO}: until constructed",
        "instance made without a request, 10/s",
        "through the gateway, with ownership in Redis",
    ),
    _timed(
        "A93",
        "an instance taken and given back, p50",
        "- -> 2 ms",
        "",
        "instance acquired and released, one caller",
    ),
    _memory("memory of a project", MEMORY_BEFORE, MEMORY_NOW),
    _memory(
        "memory of a project of an agent with libraries",
        "private memory of a fresh process, an agent with libraries",
        "private memory of an instance, an agent with libraries",
    ),
    _projects,
    _idle,
)
