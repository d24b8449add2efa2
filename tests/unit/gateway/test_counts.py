# SPDX-License-Identifier: Apache-2.0
"""What is counted of a request, and which pools are shown."""

from __future__ import annotations

from random import Random
from typing import Any, cast

import pytest

from agentpool_core.errors import BY_CODE
from agentpool_core.overload import AdaptiveLimit
from agentpool_core.shares import Shares
from agentpool_gateway.counts import OTHER, OUTCOMES, Outcome, Phase, PoolCounts
from agentpool_gateway.dispatch.call import CANCELLED, SUCCESS, Milestones
from agentpool_gateway.dispatch.overload import Overload
from agentpool_gateway.membership.base import HostMember, PoolName
from agentpool_gateway.membership.table import Host, PoolTable
from agentpool_gateway.membership.watcher import Fleet
from agentpool_gateway.metrics import Interface, Metrics, Readiness, readiness
from agentpool_proto.v1.host_pb2 import HostStatus
from support.builders import effective_pool

POOL = PoolName("default", "support")


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (SUCCESS, Outcome.SUCCESS),
        (CANCELLED, Outcome.CANCELLED),
        ("RateExceeded", Outcome.REFUSED),
        ("InputRejected", Outcome.REFUSED),
        ("StoreUnavailable", Outcome.FAILED),
        ("AgentFailed", Outcome.FAILED),
    ],
)
def test_a_status_has_its_outcome(status: str, outcome: Outcome) -> None:
    counts = PoolCounts()
    counts.ended(status, 0.5, Milestones(1.0))
    assert {one: counts.latency[one].count for one in Outcome if counts.latency[one].count} == {outcome: 1}
    assert counts.statuses == {status: 1}


def test_every_error_has_an_outcome_and_a_code_of_others_makes_no_series() -> None:
    assert set(OUTCOMES) == {*BY_CODE, SUCCESS, CANCELLED}
    counts = PoolCounts()
    counts.ended("MadeUp", 0.5, Milestones(1.0))
    assert counts.statuses == {OTHER: 1}


def test_phases_are_counted_from_the_arrival_as_far_as_the_request_came() -> None:
    counts = PoolCounts()
    counts.ended("OutcomeUnknown", 3.0, Milestones(10.0, placed=10.2, accepted=10.5))
    seen = {phase: counts.phases[phase].total for phase in Phase if counts.phases[phase].count}
    assert seen == {Phase.PLACED: pytest.approx(0.2), Phase.ACCEPTED: pytest.approx(0.5)}
    whole = Milestones(10.0, 10.2, 10.5, 11.0, host_admitted_seconds=0.1, host_seconds=1.5)
    counts.ended(SUCCESS, 2.0, whole)
    assert counts.phases[Phase.ADMITTED].total == pytest.approx(0.3)
    assert counts.phases[Phase.FIRST_BYTE].total == pytest.approx(1.0)
    assert counts.phases[Phase.DONE].total == pytest.approx(2.0)
    assert counts.overhead.total == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("activated", "restored", "kind"), [(False, False, "hit"), (True, False, "new"), (True, True, "restored")]
)
def test_an_accepted_request_tells_what_it_found(activated: bool, restored: bool, kind: str) -> None:
    counts = PoolCounts()
    marks = Milestones(1.0, accepted=1.1, activated=activated, restored=restored)
    counts.ended(SUCCESS, 0.2, marks)
    assert [one.value for one, number in counts.activations.items() if number] == [kind]


@pytest.mark.parametrize(
    ("told", "wanted"),
    [
        ({"connected": True, "status": HostStatus(ready=True)}, Readiness.READY),
        ({"connected": True, "status": HostStatus(ready=True, draining=True)}, Readiness.DRAINING),
        ({"connected": True, "status": HostStatus()}, Readiness.NOT_READY),
        ({"connected": False, "status": HostStatus(ready=True)}, Readiness.SILENT),
    ],
    ids=["ready", "draining", "not ready", "silent"],
)
def test_a_host_counts_as_what_it_can_be_used_for(told: dict[str, Any], wanted: Readiness) -> None:
    assert readiness(Host(HostMember(POOL, "a", "uid", "127.0.0.1:1"), **told)) is wanted


def made() -> tuple[Fleet, Metrics]:
    fleet = Fleet(cast("Any", None), cast("Any", None), Random(1))
    fleet.tables[POOL] = PoolTable(effective_pool())
    return fleet, Metrics(fleet, False, Overload(AdaptiveLimit(1, 10), Shares(10)))


def test_a_pool_without_hosts_says_so() -> None:
    text = made()[1].exposition(POOL).decode()
    assert 'agent_pool_hosts{namespace="default",pool="support",readiness="ready"} 0.0' in text


def test_a_pool_that_is_gone_leaves_no_series_and_its_last_request_is_no_trouble() -> None:
    fleet, metrics = made()
    metrics.request_began(POOL)
    assert 'agent_pool_requests_in_flight{namespace="default",pool="support"} 1.0' in text_of(metrics)
    del fleet.tables[POOL]
    assert 'pool="support"' not in text_of(metrics)
    metrics.request_ended(POOL, SUCCESS, 0.1, Milestones(1.0))
    assert 'pool="support"' not in text_of(metrics)


def test_refusals_are_told_by_their_interface_and_code() -> None:
    _, metrics = made()
    metrics.refused(Interface.GRPC, "Unauthenticated")
    metrics.refused(Interface.REST, "PathNotFound")
    text = text_of(metrics)
    assert 'agent_pool_gateway_refusals_total{code="Unauthenticated",interface="grpc"} 1.0' in text
    assert 'agent_pool_gateway_refusals_total{code="Other",interface="rest"} 1.0' in text


def text_of(metrics: Metrics) -> str:
    return metrics.exposition(None).decode()
