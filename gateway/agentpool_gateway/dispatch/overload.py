# SPDX-License-Identifier: Apache-2.0
"""Sheds load at the door, before anything of a request is looked at: see `agentpool_core.overload`.

A request is pending from its arrival until it is known that its host has accepted it, or until it turns out
to wait for something else than the gateway: a pod, a permit, a start. Where tenants are known, one that has
its share is refused first.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from enum import StrEnum

from agentpool_core.errors import Overloaded
from agentpool_core.overload import AdaptiveLimit
from agentpool_core.shares import Refusal, Shares
from agentpool_gateway.dispatch.in_flight import RETRY_SECONDS, take_place, too_many

PENDING_SECONDS = 0.25
"""Who is pending for longer waits for something else; its place is of more use to others."""


class Shed(StrEnum):
    """Why requests were refused; the label of a metric."""

    BUSY = "busy"
    """At the door."""
    TENANT = "tenant"
    """Its tenant had its share."""


class Ticket:
    """One request, from its arrival on."""

    __slots__ = ("arrived", "pending", "tells", "tenant")

    def __init__(self, arrived: float) -> None:
        self.arrived = arrived
        self.pending = True
        self.tells = True
        """Whether the time until it is accepted tells how busy the gateway is."""
        self.tenant: Hashable = None


class Overload:
    """Who is pending, and how many may be.

    Args:
        limit: how many that is.
        in_flight: all that are worked on, pending or not.
        clock: that of the arrivals; default: the running event loop's.
    """

    def __init__(
        self, limit: AdaptiveLimit, in_flight: Shares, clock: Callable[[], float] | None = None
    ) -> None:
        self._limit = limit
        self._in_flight = in_flight
        self._clock = clock
        self._line: deque[Ticket] = deque()
        self._pending = 0
        self._tenants = Shares(limit.limit)
        self.shed: Counter[Shed] = Counter()

    @property
    def pending(self) -> int:
        """Requests that are pending."""
        return self._pending

    @property
    def limit(self) -> int:
        """How many may be."""
        return self._limit.limit

    def now(self) -> float:
        """The time."""
        return self._clock() if self._clock is not None else asyncio.get_running_loop().time()

    def busy(self) -> bool:
        """Whether a request that arrives now is refused; it is counted then."""
        now = self.now()
        self._expire(now)
        if self._pending < self._limit.limit:
            return False
        self._limit.refresh(now)
        if self._pending < self._limit.limit:
            return False
        self.shed[Shed.BUSY] += 1
        return True

    def arrive(self) -> Ticket:
        """A request is let in; it is pending until `done`."""
        ticket = Ticket(self.now())
        self._line.append(ticket)
        self._pending += 1
        return ticket

    @contextmanager
    def ticket(self) -> Iterator[Ticket]:
        """`arrive`, and at the end of the block at the latest it is not pending any more."""
        ticket = self.arrive()
        try:
            yield ticket
        finally:
            self.waits(ticket)

    def enter(self, ticket: Ticket | None, tenant: Hashable) -> Ticket:
        """A request begins; None: it came by no door. Raises Overloaded when its tenant has its share of what
        is pending or in flight."""
        ticket = ticket or self.arrive()
        try:
            self.claim(ticket, tenant)
            take_place(self._in_flight, tenant)
        except Overloaded:
            self.waits(ticket)
            raise
        return ticket

    def leave(self, ticket: Ticket, tenant: Hashable) -> None:
        """A request that began has ended."""
        self._in_flight.give(tenant)
        self.waits(ticket)

    def claim(self, ticket: Ticket, tenant: Hashable) -> None:
        """It is known whose it is; raises Overloaded when that tenant has its share of what is pending."""
        if not ticket.pending:
            return
        # The places at the door are of all; those behind it are shared.
        self._tenants.limit = self._limit.limit
        if self._tenants.refusal(tenant) is Refusal.SHARE:
            self.shed[Shed.TENANT] += 1
            raise too_many(Refusal.SHARE)
        ticket.tenant = tenant
        self._tenants.take(tenant)

    def placed(self, ticket: Ticket, direct: bool) -> None:
        """It goes to a host, where its instance is (`direct`) or has to be started."""
        if not direct:
            self.waits(ticket)

    def accepted(self, ticket: Ticket, at: float) -> None:
        """Its host has accepted it, at that time."""
        if ticket.tells:
            self._limit.observe(at - ticket.arrived, self._pending, self.now())
            self.waits(ticket)

    def waits(self, ticket: Ticket) -> None:
        """It waits for something else, or has been accepted."""
        ticket.tells = False
        self.done(ticket)

    def done(self, ticket: Ticket) -> None:
        """It is not pending any more, for whatever reason; may be called again."""
        if not ticket.pending:
            return
        ticket.pending = False
        self._pending -= 1
        if ticket.tenant is not None:
            self._tenants.give(ticket.tenant)

    def _expire(self, now: float) -> None:
        line, oldest = self._line, now - PENDING_SECONDS
        while line and (not line[0].pending or line[0].arrived < oldest):
            self.done(line.popleft())


def busy() -> Overloaded:
    """The error of a request that was refused at the door."""
    return Overloaded("The gateway is overloaded.", retry_after_seconds=RETRY_SECONDS)
