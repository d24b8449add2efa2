# SPDX-License-Identifier: Apache-2.0
"""The headline figures, measured quickly and printed: `make bench-tests`.

What is asserted is that each was measured; how good it is depends on the machine and on who shares it.
`make bench` measures the same for longer.
"""

from __future__ import annotations

import asyncio
import sys

import pytest

from benchmarks.bench import OLD_WAY, measure
from benchmarks.headlines import headlines
from benchmarks.rows import Findings, Scale
from benchmarks.tables import headlines as headline_table

pytestmark = pytest.mark.performance

QUICK = Scale(requests=300, firsts=40, residents=20, idle_seconds=3.0, open_seconds=2.0, fresh=5)
GROUPS = ("path", "pair", "curve", "libraries", "oneshot", OLD_WAY)


@pytest.fixture(scope="module")
def findings() -> Findings:
    """One run; its table is printed (`-s` shows it)."""
    found = asyncio.run(measure(QUICK, GROUPS))
    sys.stdout.write("\n" + "\n".join(headline_table(headlines(found.rows))) + "\n")
    return found


@pytest.mark.parametrize("id", ["A90", "A91", "A92", "A93", "A94", "A95", "A96"])
def test_the_pool_was_measured(findings: Findings, id: str) -> None:
    found = [one for one in headlines(findings.rows) if one.id == id]
    assert found
    assert all(one.now is not None and one.now > 0 for one in found)


@pytest.mark.parametrize("id", ["A90", "A91", "A92", "A94", "A95"])
def test_the_old_way_was_measured_in_the_same_run(findings: Findings, id: str) -> None:
    assert all(one.ratio is not None for one in headlines(findings.rows) if one.id == id)


def test_first_requests_are_those_that_activated_their_instance(findings: Findings) -> None:
    rows = {row.name: row for row in findings.rows}
    first = rows["first request of a new instance, 10/s"]
    assert first.milestones["activated"].p50 > 0
    assert rows["gateway gRPC, one caller"].milestones["activated"].p50 == 0
