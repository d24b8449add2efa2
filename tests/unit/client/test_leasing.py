# SPDX-License-Identifier: Apache-2.0
"""Which way a request goes, and what is remembered for the next one."""

from __future__ import annotations

import pytest

from agentpool_client import leasing
from agentpool_client.leasing import HeldLease, LeaseBook, Plan, Way, choose
from agentpool_core.errors import DirectAccessOff, HostTooOld, PoolDisabled, Unavailable

KEY = ("acme", "handbook")
OFF = DirectAccessOff("off")


def lease(ends_at: float = 60.0, address: str = "10.0.0.1:7400") -> HeldLease:
    return HeldLease("id", "inst-1", address, "Bearer x", ends_at)


@pytest.mark.parametrize(
    ("off", "left", "busy", "worth", "wanted"),
    [
        pytest.param(True, 60.0, False, True, Way.GATEWAY, id="where hosts are out of reach"),
        pytest.param(False, 60.0, False, False, Way.DIRECT, id="with a fresh lease"),
        pytest.param(False, 0.0, False, True, Way.ACQUIRE, id="without a lease that is worth it"),
        pytest.param(False, 0.0, False, False, Way.GATEWAY, id="without one that is not"),
        pytest.param(False, 0.0, True, True, Way.GATEWAY, id="while another request acquires one"),
        pytest.param(False, 20.0, False, True, Way.ACQUIRE, id="with a lease that is due"),
        pytest.param(False, 20.0, True, True, Way.DIRECT, id="with one that another request renews"),
        pytest.param(False, 20.0, False, False, Way.DIRECT, id="with one that is due and not worth it"),
        pytest.param(False, 1.0, True, True, Way.GATEWAY, id="with one that may end on the way"),
    ],
)
def test_the_way(off: bool, left: float, busy: bool, worth: bool, wanted: Way) -> None:
    assert choose(off=off, left=left, busy=busy, worth=worth) is wanted


def test_the_second_request_within_a_minute_is_worth_a_lease() -> None:
    book = LeaseBook()
    assert book.plan(KEY, 0.0) == Plan(Way.GATEWAY)
    assert book.plan(("acme", "other"), 1.0) == Plan(Way.GATEWAY)
    assert book.plan(KEY, 59.0) == Plan(Way.ACQUIRE)


def test_a_request_that_comes_late_goes_through_the_gateway_again() -> None:
    book = LeaseBook()
    book.plan(KEY, 0.0)
    assert book.plan(KEY, 61.0) == Plan(Way.GATEWAY)


def test_who_knows_that_more_follow_gets_one_at_once() -> None:
    assert LeaseBook().plan(KEY, 0.0, eager=True) == Plan(Way.ACQUIRE)


def test_a_project_that_passes_the_pool_by_is_left_to_the_gateway_for_a_while_and_others_are_not() -> None:
    book, other = LeaseBook(), ("acme", "other")
    book.plan(KEY, 0.0, eager=True)
    book.not_acquired(KEY, PoolDisabled("off"), 0.0)
    assert book.plan(KEY, leasing.ASIDE_SECONDS - 0.1) == Plan(Way.GATEWAY)
    assert book.plan(other, 0.1, eager=True) == Plan(Way.ACQUIRE)
    assert book.plan(KEY, leasing.ASIDE_SECONDS) == Plan(Way.ACQUIRE)


def test_one_request_renews_while_the_others_go_on() -> None:
    book = LeaseBook()
    held = lease(ends_at=60.0)
    book.plan(KEY, 0.0, eager=True)
    book.acquired(KEY, held)
    assert book.plan(KEY, 10.0) == Plan(Way.DIRECT, held)
    assert book.plan(KEY, 45.0) == Plan(Way.ACQUIRE, held)
    assert book.plan(KEY, 45.1) == Plan(Way.DIRECT, held)
    book.acquired(KEY, fresh := lease(ends_at=105.0))
    assert book.plan(KEY, 59.9) == Plan(Way.DIRECT, fresh)


def test_a_renewal_that_failed_is_not_tried_again_at_once() -> None:
    book = LeaseBook()
    held = lease(ends_at=60.0)
    book.acquired(KEY, held)
    book.plan(KEY, 40.0)
    assert book.plan(KEY, 45.0).way is Way.ACQUIRE
    book.not_acquired(KEY, Unavailable("gateway away"), 45.0)
    assert book.plan(KEY, 45.5) == Plan(Way.DIRECT, held)
    assert book.plan(KEY, 46.1).way is Way.ACQUIRE


def test_after_a_useless_lease_the_gateway_is_to_ask_the_host() -> None:
    book = LeaseBook()
    held = lease()
    book.plan(KEY, 0.0)
    book.acquired(KEY, held)
    book.useless(KEY, held, 1.0)
    assert book.plan(KEY, 1.0) == Plan(Way.ACQUIRE, None, confirm=True)
    book.acquired(KEY, fresh := lease())
    # Another request went with the old lease, and is told only now.
    book.useless(KEY, held, 2.0)
    assert book.plan(KEY, 2.0) == Plan(Way.DIRECT, fresh)


def test_an_instance_whose_leases_are_of_no_use_is_left_to_the_gateway_for_a_while() -> None:
    book = LeaseBook()
    book.plan(KEY, 0.0)
    for now in (1.0, 2.0):
        assert book.plan(KEY, now).way is Way.ACQUIRE
        book.acquired(KEY, held := lease())
        book.useless(KEY, held, now)
    assert book.plan(KEY, 6.9).way is Way.GATEWAY
    assert book.plan(KEY, 7.1) == Plan(Way.ACQUIRE, None, confirm=True)


@pytest.mark.parametrize("error", [OFF, HostTooOld("an earlier gateway")])
def test_where_there_are_no_leases_none_is_asked_for_longer_and_longer(error: Exception) -> None:
    book = LeaseBook()
    now = 0.0
    for seconds in (60.0, 120.0, 240.0, 480.0, 600.0, 600.0):
        assert book.plan(KEY, now, eager=True).way is Way.ACQUIRE
        book.not_acquired(KEY, error, now)  # type: ignore[arg-type]
        assert book.plan(KEY, now + seconds - 1, eager=True).way is Way.GATEWAY
        now += seconds + 1


def test_a_client_out_of_reach_of_any_host_stays_with_the_gateway() -> None:
    book = LeaseBook()
    book.acquired(KEY, lease())
    book.unreachable("10.0.0.1:7400", 0.0)
    assert book.plan(("other", "one"), 1.0, eager=True).way is Way.GATEWAY


def test_one_host_out_of_reach_concerns_its_own_leases_alone() -> None:
    book = LeaseBook()
    book.reached()
    book.acquired(KEY, lease(1000.0))
    book.unreachable("10.0.0.1:7400", 0.0)
    assert book.plan(KEY, 1.0).way is Way.GATEWAY
    assert book.plan(("other", "one"), 1.0, eager=True).way is Way.ACQUIRE
    assert book.plan(KEY, leasing.UNREACHABLE_SECONDS + 1).way is Way.DIRECT


def test_switched_off_no_lease_is_ever_asked_for() -> None:
    assert LeaseBook(on=False).plan(KEY, 1e9, eager=True).way is Way.GATEWAY


def test_what_is_remembered_is_bounded() -> None:
    book = LeaseBook()
    book.reached()
    for number in range(leasing.MOST_INSTANCES + 10):
        book.plan(("t", str(number)), 0.0)
        book.unreachable(f"host-{number}", 0.0)
    assert book.plan(("t", "0"), 1.0).way is Way.GATEWAY, "forgotten, so it counts as the first"
    assert book.plan(("t", "4100"), 1.0).way is Way.ACQUIRE
