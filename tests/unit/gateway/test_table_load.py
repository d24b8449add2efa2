# SPDX-License-Identifier: Apache-2.0
"""Load figures in the routing table: whose they are, when they go, and what placement makes of them."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import pytest

from agentpool_core.lifecycle import Tier
from agentpool_gateway.dispatch.stats import pool_stats
from agentpool_gateway.membership.base import HostMember, PoolName
from agentpool_gateway.membership.placing import Placing
from agentpool_gateway.membership.table import Host, PoolTable
from agentpool_proto.v1.host_pb2 import HostCounters, HostStatus
from agentpool_proto.v1.types_pb2 import Instance, LoadMetrics
from support.builders import effective_pool

POOL = PoolName("default", "support")


def table(*pods: str, **balancing: Any) -> tuple[PoolTable, list[Host]]:
    """A pool whose hosts have reported nothing but that they are there."""
    found = PoolTable(effective_pool({"balancing": balancing}), Random(1))
    hosts = [found.add(HostMember(POOL, pod, f"uid-{pod}", "127.0.0.1:1")) for pod in pods]
    for host in hosts:
        found.snapshot(host, status(host), [])
    return found, hosts


def status(host: Host, life: int = 1, **more: Any) -> HostStatus:
    return HostStatus(
        incarnation=f"{host.id}/{life:04}",
        role="Shared",
        tiers=["WARM"],
        ready=True,
        capacity=50,
        **more,
    )


def place(routes: PoolTable, name: str) -> Host:
    found = routes.place(name, Tier.WARM, 0.0)
    assert found is not None
    return found


def test_what_the_host_reports_and_what_was_sent_since_count_together() -> None:
    routes, (a,) = table("a")
    a.load.metrics.acquire()
    routes.delta(a, status(a, active_requests=4), [], [])
    assert (a.load.elsewhere, a.load.active) == (3, 4)
    routes.delta(a, None, [Instance(id="i", state="BUSY", tier="WARM")], [])
    a.load.metrics.acquire()
    assert a.load.active == 5, "a report of instances alone says nothing of the host's load"


def test_figures_go_with_the_life_of_the_host() -> None:
    routes, (a,) = table("a")
    old = a.load
    old.metrics.acquire()
    routes.snapshot(a, status(a, life=2), [])
    assert a.load.active == 0
    assert a.candidate is not None and a.candidate.load is a.load
    old.metrics.release(1.0, 5.0, False)
    assert a.load.metrics.measured == 0, "the end of a request to the old life is not held against the new"


def test_a_break_keeps_the_figures_of_the_same_life() -> None:
    routes, (a,) = table("a")
    a.load.metrics.release(1.0, 5.0, True)
    routes.disconnected(a)
    routes.snapshot(a, status(a), [])
    assert a.load.metrics.average_response_time_ms == 5.0


def test_without_affinity_idle_hosts_take_turns() -> None:
    routes, hosts = table("a", "b", "c", affinity="None")
    found = Counter(place(routes, f"inst-{number}").id for number in range(30))
    assert found == {host.id: 10 for host in hosts}


def test_a_busy_host_gets_nothing_new_by_least_connections() -> None:
    routes, (a, b) = table("a", "b", affinity="None")
    a.load.metrics.acquire()
    assert {place(routes, f"inst-{number}").id for number in range(10)} == {b.id}


def test_capabilities_come_with_the_report() -> None:
    routes, (a, b) = table(
        "a", "b", affinity="None", strategy="WeightedCapabilities", capabilities=[{"name": "gpu"}]
    )
    routes.delta(b, status(b, capabilities=["gpu"]), [], [])
    assert {place(routes, f"inst-{number}").id for number in range(10)} == {b.id}
    routes.delta(b, status(b), [], [])
    assert {place(routes, f"inst-{number}").id for number in range(10)} == {a.id, b.id}


def test_a_changed_strategy_holds_from_the_next_placement_and_another_change_keeps_the_turn() -> None:
    routes, (a, b) = table("a", "b", affinity="None", strategy="RoundRobin")
    assert place(routes, "inst-1") is a
    routes.configure(effective_pool({"balancing": {"affinity": "None", "strategy": "RoundRobin"}}))
    assert place(routes, "inst-2") is b, "the same balancing goes on where it was"
    b.load.metrics.acquire()
    routes.configure(effective_pool({"balancing": {"affinity": "None"}}))
    assert {place(routes, f"inst-{number}").id for number in range(5)} == {a.id}


def test_a_request_joins_those_that_start_the_same_instance() -> None:
    routes, (a, b) = table("a", "b")
    assert routes.joined("i", 0.0) is None
    routes.placements.begin("i", a)
    assert routes.joined("i", 0.0) is a
    assert routes.joined("i", 0.0, avoid={a.id}) is None
    routes.broken(a, now=1.0)
    assert routes.joined("i", 1.1) is None, "not where a connection broke just now"
    assert routes.joined("i", 9.0) is a
    routes.delta(a, status(a, draining=True), [], [])
    assert routes.joined("i", 9.0) is None
    routes.placements.end("i", a)
    assert len(routes.placements) == 0


def test_placings_are_forgotten_with_their_last_request() -> None:
    placing: Placing[str] = Placing()
    placing.begin("i", "a")
    placing.begin("i", "a")
    placing.end("i", "a")
    assert placing.at("i") == "a"
    placing.begin("i", "b")
    placing.end("i", "a")
    assert placing.at("i") == "b", "those that began elsewhere do not end this one"
    placing.end("i", "b")
    placing.end("i", "b")
    assert (placing.at("i"), len(placing)) == (None, 0)


# Statistics


def counted(operations: int) -> HostCounters:
    return HostCounters(operations=operations, succeeded=operations, operation_seconds=operations * 0.5)


def test_a_host_that_only_changed_its_address_counts_once() -> None:
    routes, (a,) = table("a")
    routes.delta(a, status(a, counters=counted(5)), [], [])
    routes.remove(a, 0.0)
    assert pool_stats(routes, 0.0).total_operations_processed == 5
    again = routes.add(HostMember(POOL, "a", a.id, "127.0.0.1:2"))
    assert pool_stats(routes, 0.0).total_operations_processed == 5, "before its first report, too"
    routes.snapshot(again, status(again, counters=counted(6)), [])
    stats = pool_stats(routes, 0.0)
    assert (stats.total_operations_processed, stats.average_operation_time_ms) == (6, 500.0)
    routes.snapshot(again, status(again, life=2, counters=counted(1)), [])
    assert pool_stats(routes, 0.0).total_operations_processed == 7


@pytest.mark.parametrize(
    ("succeeded", "failed", "operations", "rate"),
    [
        pytest.param(0, 0, 0, 1.0, id="nothing yet"),
        pytest.param(3, 1, 4, 0.75, id="some failed"),
        pytest.param(3, 1, 9, 0.75, id="those that their callers gave up count as neither"),
    ],
)
def test_the_success_rate_is_over_what_succeeded_and_failed(
    succeeded: int, failed: int, operations: int, rate: float
) -> None:
    routes, (a,) = table("a")
    counters = HostCounters(succeeded=succeeded, failed=failed, operations=operations)
    routes.delta(a, status(a, counters=counters), [], [])
    assert pool_stats(routes, 0.0).success_rate == rate


def test_what_waits_is_counted_wherever_it_waits() -> None:
    routes, (a, b) = table("a", "b")
    routes.seeking = 1
    a.load.metrics.queue_length = 2
    routes.delta(b, None, [Instance(id="i", state="BUSY", tier="WARM", load=LoadMetrics(queue_length=4))], [])
    stats = pool_stats(routes, 0.0)
    assert stats.queue_depth == 7
    assert [host.load.queue_length for host in stats.hosts] == [2, 4]


def test_the_load_of_each_host_is_shown() -> None:
    routes, (a,) = table("a")
    a.load.metrics.acquire()
    a.load.metrics.acquire()
    a.load.metrics.release(10.0, 4.0, False)
    routes.delta(a, status(a, active_requests=3, capabilities=["arch:x", "gpu"]), [], [])
    (host,) = pool_stats(routes, 0.0, shift=100.0).hosts
    assert (host.load.active_commands, host.load.average_response_time_ms) == (3, 4.0)
    assert (host.load.success_rate, host.load.last_updated) == (0.0, "1970-01-01T00:01:50.000+00:00")
    assert host.capabilities == ["arch:x", "gpu"]
