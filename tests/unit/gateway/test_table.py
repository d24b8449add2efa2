# SPDX-License-Identifier: Apache-2.0
"""The routing table against what hosts report."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from agentpool_core.lifecycle import Tier
from agentpool_gateway.dispatch.stats import pool_health, pool_stats
from agentpool_gateway.membership.base import HostMember, PoolName
from agentpool_gateway.membership.table import CALM_SECONDS, QUARANTINE_LAST_SECONDS, Host, PoolTable
from agentpool_proto.v1.host_pb2 import HostCounters, HostStatus
from agentpool_proto.v1.types_pb2 import Instance
from support.builders import effective_pool

POOL = PoolName("default", "support")


def table(*pods: str) -> tuple[PoolTable, list[Host]]:
    found = PoolTable(effective_pool())
    return found, [found.add(HostMember(POOL, pod, f"uid-{pod}", "127.0.0.1:1")) for pod in pods]


def status(
    host: Host, life: int = 1, role: str = "Shared", tiers: tuple[str, ...] = ("WARM",), **more: int
) -> HostStatus:
    counters = HostCounters(operations=more.pop("operations", 0))
    return HostStatus(
        incarnation=f"{host.id}/{life:04}",
        role=role,
        tiers=tiers,
        ready=bool(more.pop("ready", True)),
        draining=bool(more.pop("draining", False)),
        capacity=2,
        counters=counters,
        **more,  # type: ignore[arg-type]
    )


def instance(name: str, epoch: int = 1, state: str = "READY", tier: str = "WARM") -> Instance:
    return Instance(id=name, epoch=epoch, state=state, tier=tier)


def test_the_highest_epoch_owns_and_the_next_one_after_it_is_gone() -> None:
    routes, (a, b) = table("a", "b")
    routes.snapshot(a, status(a), [instance("i", epoch=1)])
    routes.snapshot(b, status(b), [instance("i", epoch=2)])
    routes.delta(a, None, [instance("i", epoch=1, state="BUSY")], [])
    assert routes.owner("i") is b
    routes.delta(b, None, [], ["i"])
    assert routes.owner("i") is a
    routes.delta(a, None, [], ["i"])
    assert routes.owner("i") is None


def test_a_new_life_of_a_host_forgets_the_instances_of_the_old_one() -> None:
    routes, (a,) = table("a")
    routes.snapshot(a, status(a, operations=5), [instance("old")])
    routes.snapshot(a, status(a, life=2, operations=1), [instance("new")])
    assert routes.owner("old") is None
    assert routes.owner("new") is a
    assert pool_stats(routes, 0).total_operations_processed == 6


def test_the_same_life_reconnecting_counts_its_totals_once() -> None:
    routes, (a,) = table("a")
    routes.snapshot(a, status(a, operations=5), [])
    routes.disconnected(a)
    routes.snapshot(a, status(a, operations=6), [])
    assert pool_stats(routes, 0).total_operations_processed == 6


def test_an_instance_that_moved_to_a_tier_of_other_hosts_wakes_there() -> None:
    routes, (a, b) = table("a", "b")
    routes.snapshot(a, status(a), [instance("i")])
    routes.snapshot(b, status(b, role="Generic", tiers=("HOT", "COLD")), [])
    routes.delta(a, None, [instance("i", epoch=0, state="PAUSED", tier="HOT")], [])
    assert routes.owner("i") is None
    assert routes.tier_of("i", None) is Tier.HOT
    assert routes.place("i", Tier.HOT, 0.0) is b


def test_an_evicted_instance_wakes_where_it_was() -> None:
    routes, (a,) = table("a")
    routes.snapshot(a, status(a), [instance("i")])
    routes.delta(a, None, [instance("i", epoch=0, state="PAUSED")], [])
    assert routes.owner("i") is a


def test_the_answer_to_a_move_says_where_the_instance_wakes() -> None:
    routes, (a,) = table("a")
    routes.snapshot(a, status(a), [instance("i")])
    routes.answered(a, instance("i", epoch=0, state="PAUSED", tier="COLD"))
    assert (routes.owner("i"), routes.tier_of("i", None)) == (None, Tier.COLD)


def test_a_reserved_host_is_found_by_its_instance_and_taken_by_no_other() -> None:
    routes, (a,) = table("a")
    reserved = status(a, role="Generic", tiers=("HOT",))
    reserved.reserved_for = "mine"
    routes.snapshot(a, reserved, [])
    assert routes.place("other", Tier.HOT, 0.0) is None
    assert routes.place("mine", Tier.HOT, 0.0) is a


def test_a_host_whose_pod_is_deleted_gets_nothing_new_though_it_says_that_it_is_ready() -> None:
    routes, (shared, waiting) = table("shared", "waiting")
    routes.snapshot(shared, status(shared), [])
    routes.snapshot(waiting, status(waiting, role="Generic", tiers=("HOT", "COLD")), [])
    for host in (shared, waiting):
        routes.renew(host, replace(host.member, leaving=True))
    routes.delta(waiting, status(waiting, role="Generic", tiers=("HOT", "COLD")), [], [])
    assert routes.place("i", Tier.WARM, 0.0) is None
    assert routes.place("i", Tier.COLD, 0.0) is None
    assert routes.ready_hosts() == []


def test_a_reserved_host_whose_pod_is_deleted_does_not_even_get_its_own_instance() -> None:
    routes, (a,) = table("a")
    reserved = status(a, role="Generic", tiers=("HOT",))
    reserved.reserved_for = "mine"
    routes.snapshot(a, reserved, [])
    routes.renew(a, replace(a.member, leaving=True))
    assert routes.place("mine", Tier.HOT, 0.0) is None


@pytest.mark.parametrize(
    ("state", "draining", "served"),
    [
        pytest.param("READY", False, True, id="an instance that lives there is served on"),
        pytest.param("BUSY", False, True, id="one with a request under way is served on"),
        pytest.param("INITIALIZING", False, True, id="one that starts there already is served there"),
        pytest.param("PAUSED", False, False, id="one that sleeps there wakes elsewhere"),
        pytest.param("ERROR", False, False, id="one that failed there is tried elsewhere"),
        pytest.param("READY", True, False, id="a host that drains serves none"),
    ],
)
def test_what_a_host_serves_whose_pod_is_deleted(state: str, draining: bool, served: bool) -> None:
    routes, (a,) = table("a")
    routes.snapshot(a, status(a, draining=draining), [instance("i", state=state)])
    routes.renew(a, replace(a.member, leaving=True))
    assert a.serves("i") is served


def test_a_host_that_leaves_takes_its_routes_along() -> None:
    routes, (a, b) = table("a", "b")
    routes.snapshot(a, status(a), [instance("i")])
    routes.remove(a, 0.0)
    assert routes.owner("i") is None
    assert list(routes.hosts.values()) == [b]


@pytest.mark.parametrize("tells", ["accepted", "answered"])
def test_what_a_host_that_left_still_tells_makes_it_nobodys_owner(tells: str) -> None:
    routes, (a, _) = table("a", "b")
    routes.snapshot(a, status(a), [])
    routes.remove(a, 0.0)
    getattr(routes, tells)(a, instance("i"))
    assert routes.owner("i") is None


def test_only_ready_connected_hosts_that_are_not_in_quarantine_get_new_instances() -> None:
    routes, hosts = table("draining", "unready", "gone", "shy", "good")
    draining, unready, gone, shy, good = hosts
    routes.snapshot(draining, status(draining, draining=True), [])
    routes.snapshot(unready, status(unready, ready=False), [])
    routes.snapshot(gone, status(gone), [])
    routes.disconnected(gone)
    routes.snapshot(shy, status(shy), [])
    routes.broken(shy, now=5.0)
    routes.snapshot(good, status(good), [])
    assert {routes.place(f"i-{n}", Tier.WARM, now=5.1) for n in range(50)} == {good}
    assert {routes.place(f"i-{n}", Tier.WARM, now=11.0) for n in range(50)} == {good, shy}


def away_seconds(routes: PoolTable, host: Host, now: float) -> float:
    """How long a host is not chosen after a break and its return at `now`."""
    routes.broken(host, now)
    routes.disconnected(host)
    routes.snapshot(host, status(host), [])
    return max(host.quarantined_until - now, 0.0)


def test_a_host_that_is_back_is_chosen_at_once_and_one_that_flaps_after_a_growing_bounded_time() -> None:
    routes, (host,) = table("a")
    routes.snapshot(host, status(host), [])
    found = [away_seconds(routes, host, now=10.0 * number) for number in range(1, 12)]
    assert found[:2] == [0.0, 0.0]
    assert found[2:] == sorted(found[2:])
    assert (found[2] > 0, found[-1]) == (True, QUARANTINE_LAST_SECONDS)
    later = 120.0 + CALM_SECONDS + QUARANTINE_LAST_SECONDS
    assert away_seconds(routes, host, later) == 0.0, "after a calm time the next break is the first again"


def test_one_break_that_many_requests_see_counts_once() -> None:
    routes, (host,) = table("a")
    routes.snapshot(host, status(host), [])
    for _ in range(100):
        routes.broken(host, now=1.0)
    assert host.breaks == 1
    routes.disconnected(host)
    for number in range(100):
        routes.broken(host, now=2.0 + number)
    assert host.breaks == 1, "while it is away it does not break again"


def test_a_host_full_of_busy_instances_is_not_chosen_while_another_has_room() -> None:
    routes, (a, b) = table("a", "b")
    routes.snapshot(a, status(a), [instance("1", state="BUSY"), instance("2", state="BUSY")])
    routes.snapshot(b, status(b), [])
    assert {routes.place(f"i-{n}", Tier.WARM, 0.0) for n in range(50)} == {b}
    routes.delta(a, None, [instance("1", state="READY")], [])
    assert a in {routes.place(f"i-{n}", Tier.WARM, 0.0) for n in range(50)}


def test_a_generic_host_is_given_once_until_given_back_or_reported_free() -> None:
    routes, (a,) = table("a")
    free = status(a, role="Generic", tiers=("COLD",))
    routes.snapshot(a, free, [])
    assert routes.place("i", Tier.COLD, 0.0) is a
    assert routes.place("j", Tier.COLD, 0.0) is None
    routes.give_back(a)
    assert routes.place("j", Tier.COLD, 0.0) is a
    routes.delta(a, status(a, role="Generic", tiers=("COLD",), resident=1), [instance("j", tier="COLD")], [])
    assert routes.place("k", Tier.COLD, 0.0) is None


def test_a_generic_host_of_another_tier_is_left_waiting() -> None:
    routes, (a, b) = table("a", "b")
    routes.snapshot(a, status(a, role="Generic", tiers=("HOT",)), [])
    routes.snapshot(b, status(b, role="Generic", tiers=("COLD",)), [])
    assert routes.place("i", Tier.COLD, 0.0) is b
    assert routes.place("j", Tier.HOT, 0.0) is a


def test_a_shared_host_that_takes_every_tier_serves_where_no_generic_one_waits() -> None:
    routes, (a,) = table("a")
    routes.snapshot(a, status(a, tiers=("HOT", "WARM", "COLD")), [])
    assert routes.place("i", Tier.COLD, 0.0) is a


def test_the_tier_of_an_evicted_instance_is_remembered() -> None:
    routes, (a,) = table("a")
    routes.snapshot(a, status(a), [instance("i", tier="COLD")])
    routes.delta(a, None, [], ["i"])
    assert routes.tier_of("i", None) is Tier.COLD
    assert routes.tier_of("other", None) is Tier.WARM
    assert routes.tier_of("other", Tier.HOT) is Tier.HOT


def test_health_names_what_is_wrong() -> None:
    routes, (a, b) = table("a", "b")
    assert pool_health(routes).status == "Unavailable"
    routes.snapshot(a, status(a), [])
    found = pool_health(routes)
    assert (found.status, found.ready_hosts, found.problems) == ("Degraded", 1, ["b: not connected"])
    routes.snapshot(b, status(b), [])
    assert pool_health(routes).status == "Healthy"
    routes.configure(routes.config.model_copy(update={"enabled": False}))
    assert pool_health(routes).status == "Healthy", "one-shot instances serve the requests"


class Reports(RuleBasedStateMachine):
    """Whatever hosts report in whatever order, the table agrees with a plain scan of the reports."""

    def __init__(self) -> None:
        super().__init__()
        self.routes, self.hosts = table("a", "b", "c")
        self.known: dict[str, dict[str, tuple[int, str]]] = {host.id: {} for host in self.hosts}
        self.epoch = 0
        for host in self.hosts:
            self.routes.snapshot(host, status(host), [])

    @rule(at=st.integers(0, 2), name=st.sampled_from("xyz"), state=st.sampled_from(["READY", "BUSY"]))
    def change(self, at: int, name: str, state: str) -> None:
        self.epoch += 1
        self.known[self.hosts[at].id][name] = (self.epoch, state)
        self.routes.delta(self.hosts[at], None, [instance(name, self.epoch, state)], [])

    @rule(at=st.integers(0, 2), name=st.sampled_from("xyz"))
    def drop(self, at: int, name: str) -> None:
        self.known[self.hosts[at].id].pop(name, None)
        self.routes.delta(self.hosts[at], None, [], [name])

    @rule(at=st.integers(0, 2), life=st.integers(1, 3))
    def restart(self, at: int, life: int) -> None:
        host = self.hosts[at]
        self.known[host.id] = {}
        self.routes.snapshot(host, status(host, life=life), [])

    @rule(at=st.integers(0, 2), name=st.sampled_from("xyz"))
    def leave(self, at: int, name: str) -> None:
        """Its pod's object is gone, and it still accepts what it had got; then there is another pod."""
        gone = self.hosts[at]
        self.known[gone.id] = {}
        self.routes.remove(gone, 0.0)
        self.epoch += 1
        self.routes.accepted(gone, instance(name, self.epoch))
        self.hosts[at] = self.routes.add(gone.member)
        self.routes.snapshot(self.hosts[at], status(gone), [])

    @invariant()
    def owner_is_a_member(self) -> None:
        owners = [self.routes.owner(name) for name in "xyz"]
        assert all(owner in self.hosts for owner in owners if owner is not None)

    @invariant()
    def owner_is_the_highest_epoch(self) -> None:
        for name in "xyz":
            claims = [(found[name][0], uid) for uid, found in self.known.items() if name in found]
            owner = self.routes.owner(name)
            assert (owner.id if owner else None) == (max(claims)[1] if claims else None)

    @invariant()
    def busy_is_counted(self) -> None:
        for host in self.hosts:
            assert host.busy == sum(state == "BUSY" for _, state in self.known[host.id].values())


TestReports = Reports.TestCase


def test_an_answer_counts_before_the_report_that_follows_it() -> None:
    routes, (a,) = table("a")
    routes.snapshot(a, status(a), [instance("i", tier="COLD"), instance("j")])
    routes.answered(a, instance("i", state="TERMINATED", tier="COLD"))
    routes.answered(a, instance("j", state="PAUSED"))
    routes.accepted(a, instance("k", epoch=3))
    routes.accepted(a, instance("k", epoch=2, state="BUSY"))
    assert (routes.owner("i"), routes.owner("j"), routes.owner("k")) == (None, None, a)
    assert routes.tier_of("i", None) is Tier.WARM
    assert a.instances["k"].epoch == 3


def test_an_instance_that_somebody_else_had_terminated_is_known_no_more() -> None:
    routes, (a, b) = table("a", "b")
    routes.snapshot(
        a, status(a), [instance("i", tier="COLD", state="BUSY"), instance("old", state="TERMINATED")]
    )
    assert routes.instance("old") is None
    routes.delta(a, None, [instance("i", tier="COLD", state="TERMINATED")], [])
    assert (routes.instance("i"), a.busy) == (None, 0)
    assert routes.tier_of("i", None) is Tier.WARM


def test_an_answer_of_a_host_that_is_not_watched_makes_no_route() -> None:
    routes, (a,) = table("a")
    routes.accepted(a, instance("i"))
    routes.answered(a, instance("i"))
    assert routes.owner("i") is None


def test_an_instance_whose_holder_ends_is_placed_by_its_own_tier() -> None:
    routes, (a,) = table("a")
    routes.snapshot(a, status(a, role="Generic", tiers=("COLD",)), [instance("i", tier="COLD")])
    routes.mark_ended(a)
    assert routes.tier_of("i", None) is Tier.COLD


def test_the_tier_that_the_store_has_is_learnt() -> None:
    routes, _ = table("a")
    routes.learn_tier("i", "COLD")
    routes.learn_tier("i", "")
    assert routes.tier_of("i", None) is Tier.COLD
