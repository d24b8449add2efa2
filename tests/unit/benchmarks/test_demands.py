# SPDX-License-Identifier: Apache-2.0
"""What is demanded of a system under overload, beside bad neighbours and over a long time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pytest

from benchmarks import neighbours_report, overload_report, soak_report
from benchmarks.demands import Demand, exit_code
from benchmarks.neighbours import in_turn
from benchmarks.neighbours_report import Beside
from benchmarks.overload_report import Overload
from benchmarks.plans import Drive, Kind, Outcome, driver_fault, lateness, together
from benchmarks.samples import Summary
from benchmarks.soak_report import Slice
from benchmarks.watch import Look, growth

BEGAN = 100.0
SECONDS = 10.0


def outcomes(count: int, milliseconds: float, kind: Kind = Kind.ANSWERED, **more: object) -> list[Outcome]:
    """`count` requests spread evenly over the run."""
    late = float(str(more.get("late", 0.0)))
    return [
        Outcome(
            number * SECONDS / count,
            late,
            milliseconds + late,
            kind,
            str(more.get("code", "")),
            bool(more.get("says_when", True)),
        )
        for number in range(count)
    ]


def drive(*parts: Iterable[Outcome], seconds: float = SECONDS) -> Drive:
    return Drive(BEGAN, tuple(one for part in parts for one in part), seconds, 1.0)


def looks(megabytes: Iterable[float]) -> list[Look]:
    return [
        Look(BEGAN + number, part, size, 20)
        for number, size in enumerate(megabytes)
        for part in ("gateway", "host")
    ]


def overload(
    answered: list[Outcome] | None = None,
    refused: list[Outcome] | None = None,
    others: Iterable[Outcome] = (),
    after: Drive | None = None,
    memory: Iterable[float] = (50.0,) * 10,
) -> Overload:
    """A run of 100/s capacity that holds every demand but for what is given."""
    return Overload(
        capacity=100.0,
        factor=5.0,
        sweep={8: 90.0, 16: 100.0},
        unloaded=drive(outcomes(500, 10.0)),
        loaded=drive(
            answered or outcomes(950, 15.0),
            refused or outcomes(4050, 3.0, Kind.REFUSED, code="429 ConcurrencyExceeded"),
            others,
        ),
        after=after or drive(outcomes(500, 10.0)),
        seconds=SECONDS,
        looks=looks(memory),
    )


def not_held(demands: Iterable[Demand]) -> list[str]:
    return [one.name for one in demands if not one.held]


@pytest.mark.parametrize(
    ("run", "missed"),
    [
        pytest.param(overload(), [], id="a system that sheds load"),
        pytest.param(
            overload(answered=outcomes(850, 15.0)), ["accepted throughput"], id="too little is accepted"
        ),
        pytest.param(
            overload(answered=outcomes(950, 25.0)), ["p99 of accepted requests"], id="what is accepted waits"
        ),
        pytest.param(
            overload(refused=outcomes(4050, 30.0, Kind.REFUSED)),
            ["refusals come quickly, p99"],
            id="refusals come late",
        ),
        pytest.param(
            overload(refused=outcomes(4050, 3.0, Kind.REFUSED, says_when=False)),
            ["refusals say when to come back"],
            id="refusals without Retry-After",
        ),
        pytest.param(
            overload(others=outcomes(3, 30_000.0, Kind.FAILED, code="TimeoutError")),
            ["everything else is answered or refused"],
            id="three are lost",
        ),
        pytest.param(
            overload(memory=[50.0 + number for number in range(10)]),
            ["memory of the gateway is flat", "memory of the host is flat"],
            id="memory grows",
        ),
        pytest.param(
            overload(after=drive(outcomes(500, 40.0))),
            ["as before after the overload"],
            id="it stays slow",
        ),
    ],
)
def test_overload(run: Overload, missed: list[str]) -> None:
    demands = overload_report.demands(run)
    assert not_held(demands) == missed
    assert exit_code(demands) == (1 if missed else 0)
    assert ("NO" in overload_report.report(run)) is bool(missed)


def test_late_answers_are_no_throughput() -> None:
    demands = overload_report.demands(overload(answered=outcomes(950, 11_000.0)))
    assert "accepted throughput" in not_held(demands)


def test_refusals_are_timed_from_their_sending() -> None:
    late = outcomes(4050, 3.0, Kind.REFUSED, late=50.0)
    assert not_held(overload_report.demands(overload(refused=late))) == []


@pytest.mark.parametrize(
    ("windows", "seconds"),
    [
        pytest.param([10, 10, 10, 10], 0.0, id="never bad"),
        pytest.param([90, 90, 10, 10], 1.0, id="bad for two windows of half a second"),
        pytest.param([90, 10, 90, 10], 1.5, id="good in between does not count"),
        pytest.param([10, 10, 10, 90], None, id="still bad at the end"),
        pytest.param([], None, id="nothing was sent"),
    ],
)
def test_recovery(windows: list[int], seconds: float | None) -> None:
    after = Drive(
        BEGAN,
        tuple(
            Outcome(window * 0.5 + step / 50, 0.0, float(milliseconds), Kind.ANSWERED)
            for window, milliseconds in enumerate(windows)
            for step in range(20)
        ),
        SECONDS,
        1.0,
    )
    assert overload_report.recovery_seconds(after, limit=20.0) == seconds


def test_a_late_driver_measures_itself() -> None:
    good, bad = drive(outcomes(100, 5.0, late=2.0)), drive(outcomes(100, 5.0, late=30.0))
    assert driver_fault({"overload": good}) == ""
    assert driver_fault({"overload": bad}).startswith(
        "overload: one request in a hundred was sent 30.0 ms late"
    )
    assert lateness(drive()) == 0.0


def test_a_driver_that_sent_too_little_measures_itself() -> None:
    run = overload(refused=outcomes(1000, 3.0, Kind.REFUSED))
    assert overload_report.fault(run) == "only 1950 of about 5000 requests fell due"
    assert overload_report.fault(overload()) == ""


def test_drivers_of_one_plan_are_put_together_by_time() -> None:
    both = together([drive(outcomes(3, 1.0)), drive(outcomes(4, 1.0))])
    assert [one.due for one in both.outcomes] == sorted(one.due for one in both.outcomes)
    assert (len(both.outcomes), both.cpu_seconds) == (7, 2.0)


@pytest.mark.parametrize(
    ("beside", "missed"),
    [
        pytest.param(drive(outcomes(200, 11.0)), [], id="a tenth slower"),
        pytest.param(drive(outcomes(200, 13.0)), ["burning: p99 of the others"], id="three tenths slower"),
        pytest.param(
            drive(outcomes(200, 11.0), outcomes(1, 5.0, Kind.REFUSED)),
            ["burning: the others are answered"],
            id="one of the others is refused",
        ),
        pytest.param(drive(), ["burning: p99 of the others"], id="nobody is answered"),
    ],
)
def test_neighbours(beside: Drive, missed: list[str]) -> None:
    found = [Beside("burning", drive(outcomes(200, 10.0)), beside, drive(outcomes(5, 300.0)))]
    assert not_held(neighbours_report.demands(found)) == missed


def test_drives_in_turn_keep_their_seconds_apart() -> None:
    joined = in_turn([drive(outcomes(20, 1.0)), drive(outcomes(20, 2.0))])
    blocks = neighbours_report.seconds_of(joined)
    assert len(blocks) == 20
    assert all(len(set(block)) == 1 for block in blocks)


def slices(megabytes: Iterable[float], **kinds: int) -> list[Slice]:
    counted = Counter({Kind.ANSWERED: 90, Kind.CANCELLED: 10}) + Counter(
        {Kind(name): count for name, count in kinds.items()}
    )
    return [
        Slice(
            counted,
            Counter(),
            Summary.of([5.0]),
            {"gateway": size, "host": 50.0},
            {"gateway": 20, "host": 20},
            0.1,
        )
        for size in megabytes
    ]


@pytest.mark.parametrize(
    ("run", "left", "missed"),
    [
        pytest.param(slices([50.0] * 10), 0, [], id="nothing grows"),
        pytest.param(slices([30.0, 40.0, *[50.0] * 10]), 0, [], id="what is taken while warming up"),
        pytest.param(
            slices([50.0 + number for number in range(10)]),
            0,
            ["memory of the gateway after warm-up"],
            id="the gateway grows",
        ),
        pytest.param(slices([50.0] * 10), 2, ["nothing is left in flight"], id="two requests stay"),
        pytest.param(slices([50.0] * 10, failed=1), 0, ["all others are answered"], id="some fail"),
    ],
)
def test_soak(run: list[Slice], left: int, missed: list[str]) -> None:
    assert not_held(soak_report.demands(run, left)) == missed


def test_a_slice_keeps_counts_and_medians() -> None:
    told = drive(outcomes(9, 5.0), outcomes(1, 2.0, Kind.CANCELLED))
    one = soak_report.slice_of(told, looks([50.0, 52.0, 51.0]))
    assert one.kinds == {Kind.ANSWERED: 9, Kind.CANCELLED: 1}
    assert one.private_mb == {"gateway": 51.0, "host": 51.0}
    assert "9 answered, 1 cancelled; p50 5.0 p99 5.0 ms" in soak_report.line(1, one)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param([50.0, 50.0], 0.0, id="flat"),
        pytest.param([50.0, 55.0], 0.1, id="a tenth"),
        pytest.param([50.0, 50.0, 90.0, 50.0, 50.0, 50.0, 50.0, 50.0], 0.0, id="a peak is no growth"),
    ],
)
def test_growth(values: list[float], expected: float) -> None:
    assert growth(values) == pytest.approx(expected)
