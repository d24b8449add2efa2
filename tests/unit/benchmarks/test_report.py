# SPDX-License-Identifier: Apache-2.0
"""Results as tables, as JSON, in the README, and against what was promised."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from benchmarks.console import RESULTS
from benchmarks.costs import sizes
from benchmarks.gallery import gallery
from benchmarks.headlines import headlines
from benchmarks.metering import Reading, used
from benchmarks.readme import BLOCK, README, SOURCE, block, replaced
from benchmarks.report import Bar, as_json, document
from benchmarks.rows import CostPoint, Findings, Row, Usage
from benchmarks.samples import Summary
from benchmarks.windows import Window

TIMES = Summary.of([5.0, 6.0])


def findings() -> Findings:
    """Something of everything."""
    return Findings(
        rows=[
            Row("fresh process, Echo", Summary.of([150.0])),
            Row("one-shot instance of a new project, 10/s", Summary.of([25.0])),
            Row("first request of a new instance, 10/s", TIMES),
            Row("gateway gRPC, 500/s", TIMES, windows=[Window(0, 10, TIMES), Window(10, 10, TIMES)]),
            Row(
                "200/s, 3 % to new instances: hits",
                TIMES,
                milestones=dict.fromkeys(
                    ("placed", "accepted", "activated", "admitted", "first_event", "done"), TIMES
                ),
            ),
            Row("private memory of an instance, median", figure=4.0, unit="MB"),
            Row("private memory of a fresh process, Echo", figure=12.0, unit="MB"),
            Row("instances resident", figure=1000.0, unit="instances"),
        ],
        usage=[Usage("request path", 10.0, "gateway", 1, 0.5, 48.0)],
        costs=[CostPoint(size, 4.0, 50.0 + 4 * size, 0.1, TIMES, TIMES) for size in (1, 10)],
    )


@pytest.mark.parametrize(
    ("bar", "verdict"),
    [
        pytest.param(Bar("p50", 1.0, "ms", 3, 2), "target", id="better than the target"),
        pytest.param(Bar("p50", 2.5, "ms", 3, 2), "floor", id="between floor and target"),
        pytest.param(Bar("p50", 3.5, "ms", 3, 2), "below", id="worse than the floor"),
        pytest.param(Bar("rate", 3.5, "1/s", 2, 3, at_least=True), "target", id="more is better"),
        pytest.param(Bar("rate", 1.0, "1/s", 2, 3, at_least=True), "below", id="too little"),
    ],
)
def test_bars(bar: Bar, verdict: str) -> None:
    assert bar.verdict == verdict


def test_ratios_are_of_what_was_measured_and_what_was_not_is_left_out() -> None:
    found = {(one.id, one.what): one for one in headlines(findings().rows)}
    first = found["A90", "first request, p50"]
    assert (first.before, first.now, first.ratio) == (150.0, 5.0, 30.0)
    assert found["A90", "first request, pool off and on, p50"].ratio == 5.0
    assert found["A94", "memory of a project"].ratio == 3.0
    projects = found["A95", "projects at once"]
    assert projects.before == pytest.approx(1000 * 4 / 12)
    assert projects.ratio == pytest.approx(3.0)
    assert {id for id, _ in found} == {"A90", "A94", "A95"}


def test_the_page_has_every_part() -> None:
    page = document(findings(), [Bar("p50", 1.0, "ms", 3, 2)], {"cores": "2"})
    for title in (
        "Against a fresh agent",
        "Times",
        "Milestones",
        "Windows",
        "Cost of instances",
        "CPU and memory",
    ):
        assert f"## {title}" in page
    assert "| A90 | first request, p50 | 2000 ms -> 50 ms (40x) | 150 ms | 5 ms | 30x |" in page
    assert "| request path | 10 | gateway | 1 | 50.0 | 48.0 |" in page


def test_parts_that_were_not_measured_are_not_there() -> None:
    assert "##" not in document(Findings(), (), {"cores": "2"})
    assert gallery(Findings()) == {}


def test_json_holds_everything() -> None:
    found = json.loads(as_json(findings(), [Bar("p50", 1.0, "ms", 3, 2)], {"cores": "2"}))
    assert found["rows"] == json.loads(json.dumps([asdict(row) for row in findings().rows]))
    assert {"facts", "bars", "headlines", "usage", "costs"} <= found.keys()


def test_there_is_a_picture_of_what_is_better_seen() -> None:
    assert set(gallery(findings())) == {"milestones", "windows", "costs", "oldway"}


def test_cpu_of_a_part_is_that_between_two_readings() -> None:
    found = used(
        "idle", 10.0, {"host": Reading((), 2.0)}, {"host": Reading((), 3.0), "redis": Reading((), 1.0)}
    )
    assert [(one.part, one.cores) for one in found] == [("host", 0.1), ("redis", 0.1)]


@pytest.mark.parametrize(("largest", "expected"), [(1000, [1, 10, 100, 1000]), (50, [1, 10, 50]), (1, [1])])
def test_sizes_end_with_the_largest(largest: int, expected: list[int]) -> None:
    assert sizes(largest) == expected


def test_the_figures_in_the_readme_are_those_of_the_results_that_it_names() -> None:
    text = README.read_text(encoding="utf-8")
    found = BLOCK.search(text)
    assert found is not None
    named = SOURCE.search(found[0])
    assert named is not None
    results = json.loads((RESULTS / f"{named[1]}.json").read_text(encoding="utf-8"))
    assert replaced(text, block(results, named[1])) == text


def test_a_readme_without_a_block_is_refused() -> None:
    with pytest.raises(ValueError, match="no block of figures"):
        replaced("# AgentPool\n", "")
