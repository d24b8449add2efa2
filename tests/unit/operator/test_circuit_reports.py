# SPDX-License-Identifier: Apache-2.0
"""Circuit breakers as users of kubectl see them, and how seldom that is written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from agentpool_core.cluster import ROLE_WARM
from agentpool_core.lifecycle import State, Tier
from agentpool_operator.hosts.link import breaker_view
from agentpool_operator.plan.views import BreakerView
from agentpool_operator.report.circuits import (
    SETTLED_SECONDS,
    circuit_change,
    circuit_only,
    circuits,
    lingers,
)
from agentpool_operator.report.instance import InstanceReport, instance_status
from agentpool_operator.report.pool import counts_only
from agentpool_proto.v1.types_pb2 import Breaker, Instance
from support.kube_objects import NOW, held, host, pod

OPEN = BreakerView(5)


def status(
    before: Mapping[str, Any], breaker: BreakerView | None, now: float = NOW, state: State = State.READY
) -> dict[str, Any]:
    """The status of an instance after another one."""
    report = InstanceReport(1, "inst-1", state, "", Tier.WARM, breaker=breaker)
    return instance_status(before, report, now)


def said(of: Mapping[str, Any]) -> str | None:
    """What it says of its breaker."""
    return next((one["status"] for one in of["conditions"] if one["type"] == "CircuitOpen"), None)


def test_of_a_breaker_that_never_opened_nothing_is_said() -> None:
    assert said(status({}, None)) is None


def test_an_open_one_is_told_and_does_not_make_the_instance_unready() -> None:
    opened = status({}, OPEN)
    assert said(opened) == "True"
    assert next(one for one in opened["conditions"] if one["type"] == "Ready")["status"] == "True"


def test_opening_and_closing_again_and_again_is_written_twice_a_minute() -> None:
    now, present, writes = NOW, status({}, OPEN), 0
    for second in range(600):
        after = status(present, OPEN if second % 2 else None, now + second)
        writes += after != present
        present = after
    assert writes <= 2 * 600 / SETTLED_SECONDS


def test_closed_is_told_when_it_lasts_and_looked_at_then() -> None:
    opened = status({}, OPEN)
    assert lingers(opened, OPEN, NOW) == 0
    assert lingers(opened, None, NOW + 20) == pytest.approx(SETTLED_SECONDS - 20, abs=1)
    assert status(opened, None, NOW + 20) == opened
    assert said(status(opened, None, NOW + SETTLED_SECONDS + 1)) == "False"


def test_more_failures_and_trials_are_no_news() -> None:
    views = [
        breaker_view(Instance(breaker=Breaker(state=state, consecutive_failures=failures)))
        for state, failures in (("OPEN", 5), ("HALF_OPEN", 5), ("OPEN", 6))
    ]
    assert views[0] is not None and views[0] == views[1] == views[2]
    assert breaker_view(Instance(breaker=Breaker(state="CLOSED", consecutive_failures=2))) is None
    assert breaker_view(Instance()) is None
    opened = status({}, OPEN)
    assert status(opened, BreakerView(7), NOW + 100) == opened


def test_of_one_that_is_nowhere_nobody_knows() -> None:
    opened = status({}, OPEN)
    assert said(status(opened, None, NOW + 100, State.PAUSED)) == "Unknown"


def test_what_only_the_breaker_changed_may_be_put_off() -> None:
    closed, opened = status({}, None), status({}, OPEN)
    assert circuit_only(closed, opened)
    assert not circuit_only(closed, status({}, OPEN, state=State.PAUSED))


def test_one_event_tells_of_each_opening() -> None:
    told = circuit_change({}, OPEN)
    assert told is not None and told.reason == "CircuitOpen" and "model provider" in told.message
    opened = status({}, OPEN)
    assert circuit_change(opened, OPEN) is None
    assert circuit_change(opened, None) is None


def test_the_pool_counts_them_and_that_may_be_put_off() -> None:
    shared = pod("w", ROLE_WARM)
    several = [held(f"inst-{n}", tier=Tier.WARM, breaker=OPEN) for n in range(5)]
    found = circuits([host(shared, *several, held("inst-9", tier=Tier.WARM))])
    assert (found.holds, found.reason) == (True, "RequestsFailed")
    assert found.message == "5 instances refuse requests: inst-0, inst-1, inst-2 ..."
    assert circuits([host(shared)]).holds is False
    one, other = (
        {"conditions": [{"type": "CircuitsOpen", "status": value, "observedGeneration": 1}]}
        for value in ("True", "False")
    )
    assert counts_only(one, other)
