# SPDX-License-Identifier: Apache-2.0
"""Who is let in at the gateway's door, and what is refused first."""

from __future__ import annotations

import pytest

from agentpool_core.errors import Overloaded
from agentpool_core.overload import AdaptiveLimit
from agentpool_core.shares import Shares
from agentpool_gateway.dispatch.overload import PENDING_SECONDS, Overload, Shed, Ticket
from agentpool_gateway.rest.shedding import sheds


class Door:
    """An overload guard with a clock that is set by hand."""

    def __init__(self, limit: int = 10) -> None:
        self.now = 100.0
        self.guard = Overload(AdaptiveLimit(1, limit), Shares(1000), lambda: self.now)

    def come(self, tenant: str = "") -> Ticket | None:
        """A request; None when it is refused."""
        if self.guard.busy():
            return None
        ticket = self.guard.arrive()
        if tenant:
            try:
                self.guard.claim(ticket, tenant)
            except Overloaded as exc:
                assert exc.retry_after_seconds == 1.0
                self.guard.waits(ticket)
                return None
        return ticket


def test_only_so_many_are_pending_and_each_end_makes_room() -> None:
    door = Door(limit=3)
    tickets = [door.come() for _ in range(5)]
    assert [ticket is not None for ticket in tickets] == [True, True, True, False, False]
    assert (door.guard.pending, door.guard.shed[Shed.BUSY]) == (3, 2)
    assert tickets[0] is not None
    door.guard.accepted(tickets[0], door.guard.now())
    door.guard.accepted(tickets[0], door.guard.now())
    assert door.guard.pending == 2
    assert door.come() is not None


def test_a_tenant_with_its_share_is_refused_first() -> None:
    door = Door(limit=10)
    assert sum(door.come("flood") is not None for _ in range(100)) == 8
    assert door.come("calm") is not None
    assert door.guard.shed[Shed.TENANT] == 92
    assert door.guard.shed[Shed.BUSY] == 0


def test_who_waits_for_something_else_takes_no_place() -> None:
    door = Door(limit=2)
    tickets = [door.come("a"), door.come()]
    assert door.come() is None
    door.now += PENDING_SECONDS * 1.1
    assert door.come() is not None
    assert door.guard.pending == 1
    for ticket in tickets:
        assert ticket is not None
        door.guard.waits(ticket)
    assert door.guard.pending == 1


def test_the_block_of_a_ticket_ends_it_whatever_happens() -> None:
    door = Door()
    with pytest.raises(ValueError), door.guard.ticket():
        assert door.guard.pending == 1
        raise ValueError
    assert door.guard.pending == 0


def test_delays_lower_the_limit_also_of_those_whose_place_is_gone() -> None:
    door = Door(limit=100)
    for _ in range(5):
        tickets = [one for one in (door.come() for _ in range(40)) if one is not None]
        door.now += 2 * PENDING_SECONDS
        for ticket in tickets:
            door.guard.accepted(ticket, door.guard.now())
    assert door.guard.limit < 50


def test_what_has_been_started_says_nothing_of_the_gateway() -> None:
    door = Door(limit=100)
    for _ in range(5):
        for ticket in [door.come() for _ in range(40)]:
            assert ticket is not None
            door.guard.waits(ticket)
            door.now += 0.02
            door.guard.accepted(ticket, door.guard.now())
    assert door.guard.limit == 100


@pytest.mark.parametrize(
    ("method", "path", "wanted"),
    [
        ("POST", "/api/v1/pool/invoke", True),
        ("POST", "/api/v1/namespaces/a/pools/b/invoke", True),
        ("POST", "/api/v1/pool/instances", True),
        ("GET", "/api/v1/pool/instances", False),
        ("POST", "/api/v1/pool/instances/inst-1/pause", False),
        ("DELETE", "/api/v1/pool/instances/inst-1", False),
        ("GET", "/api/v1/pool/health", False),
        ("GET", "/health", False),
        ("GET", "/readyz", False),
        ("GET", "/metrics", False),
    ],
)
def test_only_what_makes_an_agent_work_is_refused(method: str, path: str, wanted: bool) -> None:
    assert sheds({"type": "http", "method": method, "path": path}) is wanted
