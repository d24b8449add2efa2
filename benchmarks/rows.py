# SPDX-License-Identifier: Apache-2.0
"""What a measurement yields: rows of figures, the use of CPU and memory, and the cost of many instances."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from benchmarks.load import Run
from benchmarks.milestones import summaries
from benchmarks.samples import Summary
from benchmarks.windows import WINDOW_SECONDS, Window, windows


@dataclass(frozen=True, slots=True)
class Scale:
    """How long and how much.

    Attributes:
        requests: of one way to an instance.
        firsts: first requests of new instances.
        residents: largest number of instances at once.
        idle_seconds: how long the idle CPU of that many is watched; of fewer a third of it.
        open_seconds: length of a schedule.
        steady_per_second: requests of steady schedules; the tables name them after the 500 of a measurement.
        window_seconds: windows that schedules are cut into.
        fresh: requests that each get a process of their own.
    """

    requests: int = 3000
    firsts: int = 200
    residents: int = 1000
    idle_seconds: float = 30.0
    open_seconds: float = 30.0
    steady_per_second: float = 500.0
    window_seconds: float = WINDOW_SECONDS
    fresh: int = 20


@dataclass(slots=True)
class Row:
    """One measured thing: times by percentile, or a figure with its unit."""

    name: str
    times: Summary | None = None
    figure: float | None = None
    unit: str = ""
    notes: dict[str, Any] = field(default_factory=dict)
    windows: list[Window] = field(default_factory=list)
    milestones: dict[str, Summary] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU and memory of one part of the system in one phase: cores used, private memory at its end."""

    phase: str
    seconds: float
    part: str
    processes: int
    cores: float
    private_mb: float


@dataclass(frozen=True, slots=True)
class CostPoint:
    """What so many resident instances cost.

    Attributes:
        memory_mb: private memory of one worker, the median.
        total_mb: private memory of all workers, host and zygote.
        idle_percent: CPU of all of them while nobody asks, percent of a core.
        answer: times of one caller that asks all instances in turn.
        activation: first answers of the last instances that came, ten a second.
    """

    instances: int
    memory_mb: float
    total_mb: float
    idle_percent: float
    answer: Summary
    activation: Summary


@dataclass(slots=True)
class Findings:
    """Everything that was measured."""

    rows: list[Row] = field(default_factory=list)
    usage: list[Usage] = field(default_factory=list)
    costs: list[CostPoint] = field(default_factory=list)


def row_of(name: str, run: Run, window_seconds: float = 0.0) -> Row:
    """The times of a run, cut into windows if their length is given; RuntimeError when a request failed."""
    if run.errors:
        raise RuntimeError(f"{name}: {len(run.errors)} requests failed, first: {run.errors[0]}")
    notes: dict[str, Any] = {"per_second": round(run.per_second), "driver_cores": round(run.driver_cores, 2)}
    if run.late:
        notes["driver_late_p99_ms"] = round(Summary.of(run.late).p99, 2)
    points = [(sample.at, sample.milliseconds) for sample in run.samples]
    reached = [sample.reached for sample in run.samples if sample.reached is not None]
    return Row(
        name,
        Summary.of(run.milliseconds),
        notes=notes,
        windows=windows(points, window_seconds) if window_seconds else [],
        milestones=summaries(reached),
    )
