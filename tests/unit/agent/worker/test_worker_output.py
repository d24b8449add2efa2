# SPDX-License-Identifier: Apache-2.0
"""The bound on what an agent logs."""

from __future__ import annotations

from agentpool_agent.worker.output import BURST_LINES, LINES_PER_SECOND, LineBudget


def test_a_burst_passes_and_the_rest_is_counted() -> None:
    budget = LineBudget(0.0)
    allowed = [budget.take(0.0)[0] for _ in range(int(BURST_LINES) + 5)]
    assert allowed.count(True) == BURST_LINES
    assert budget.take(1 / LINES_PER_SECOND) == (True, 5)
