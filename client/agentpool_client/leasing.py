# SPDX-License-Identifier: Apache-2.0
"""Which way a request goes, to the host itself or through the gateway, and what is remembered for that: no
I/O.

The first request of an instance goes through the gateway; one that follows within a minute is worth a
lease. A lease is renewed by one request while the others go on with it. Where hosts cannot be reached, or
the gateway gives no leases, everything goes through the gateway for a while.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from enum import Enum, auto
from threading import Lock

from agentpool_core.errors import AgentPoolError, DirectAccessOff, HostTooOld, PoolDisabled

RENEW_SECONDS = 20.0
"""A lease with less than this left is renewed: a third of its life, time enough for a gateway that
restarts."""
LEAST_SECONDS = 1.0
"""A lease with less than this left may end on the way to the host."""
WORTH_SECONDS = 60.0
"""A second request within this time is followed by more: a lease is worth its cost."""
PAUSE_SECONDS = 1.0
"""After an acquire that failed, before the next one for the same instance."""
ASIDE_SECONDS = 10.0
"""How long a project is left to the gateway whose requests do not go through the pool."""
USELESS_SECONDS = 5.0
"""How long an instance is left to the gateway after two leases in a row were of no use."""
OFF_SECONDS = 60.0
"""How long everything goes through the gateway after it gave no leases, or a first host was out of reach."""
LONGEST_OFF_SECONDS = 600.0
UNREACHABLE_SECONDS = 30.0
"""How long one host out of many is left alone that could not be reached."""
MOST_INSTANCES = 4096
MOST_ADDRESSES = 1024

Key = tuple[str, str]
"""Tenant and project."""


@dataclass(frozen=True, slots=True)
class HeldLease:
    """A lease as the client holds it; `ends_at` is on the client's own clock."""

    id: str
    instance_id: str
    address: str
    token: str
    ends_at: float


class Way(Enum):
    """Where a request goes."""

    DIRECT = auto()
    """To the host, with the lease that is held."""
    ACQUIRE = auto()
    """To the host, with a lease that is to be acquired first."""
    GATEWAY = auto()
    """Through the gateway."""


def choose(*, off: bool, left: float, busy: bool, worth: bool) -> Way:
    """Which way a request goes.

    Args:
        off: direct requests are known not to work now.
        left: seconds that the held lease is good for; 0 without one.
        busy: another request is acquiring a lease, or failed to a moment ago.
        worth: a lease would be used more than once.
    """
    if off:
        return Way.GATEWAY
    if left <= RENEW_SECONDS and worth and not busy:
        return Way.ACQUIRE
    return Way.DIRECT if left > LEAST_SECONDS else Way.GATEWAY


@dataclass(slots=True)
class _Known:
    """What is known of one instance."""

    lease: HeldLease | None = None
    used_at: float = float("-inf")
    acquiring: bool = False
    pause_until: float = 0.0
    useless_at: float = float("-inf")
    confirm: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """The way of one request. `lease` is the one that is held, also for ACQUIRE; `confirm`: the gateway is
    to ask the host, because the last lease was of no use."""

    way: Way
    lease: HeldLease | None = None
    confirm: bool = False


class LeaseBook:
    """Leases that are held, and where direct requests do not work. May be used from several threads.

    Args:
        on: whether direct requests are wanted at all.
    """

    def __init__(self, on: bool = True) -> None:
        self._lock = Lock()
        self._known: OrderedDict[Key, _Known] = OrderedDict()
        self._unreachable: OrderedDict[str, float] = OrderedDict()
        self._off_until = 0.0 if on else float("inf")
        self._off_seconds = OFF_SECONDS
        self._reached = False

    def plan(self, key: Key, now: float, eager: bool = False) -> Plan:
        """The way of a request; after ACQUIRE either `acquired` or `not_acquired` has to follow.

        `eager`: the caller knows that more requests follow.
        """
        with self._lock:
            known = self._known.get(key)
            if known is None:
                known = self._known[key] = _Known()
                if len(self._known) > MOST_INSTANCES:
                    self._known.popitem(last=False)
            self._known.move_to_end(key)
            lease = known.lease
            if lease is not None and self._unreachable.get(lease.address, 0.0) > now:
                lease = None
            way = choose(
                off=now < self._off_until,
                left=lease.ends_at - now if lease is not None else 0.0,
                busy=known.acquiring or now < known.pause_until,
                worth=eager or now - known.used_at < WORTH_SECONDS,
            )
            known.used_at = now
            known.acquiring |= way is Way.ACQUIRE
            return Plan(way, lease, known.confirm)

    def acquired(self, key: Key, lease: HeldLease) -> None:
        """A lease was acquired."""
        with self._lock:
            known = self._known.setdefault(key, _Known())
            known.lease, known.acquiring, known.confirm = lease, False, False

    def not_acquired(self, key: Key, error: AgentPoolError | None, now: float) -> None:
        """No lease was acquired: for this reason, or None for a connection that broke."""
        with self._lock:
            known = self._known.get(key)
            if known is not None:
                aside = isinstance(error, PoolDisabled)
                known.acquiring = False
                known.pause_until = now + (ASIDE_SECONDS if aside else PAUSE_SECONDS)
            # HostTooOld: the gateway is of an earlier release.
            if isinstance(error, DirectAccessOff | HostTooOld):
                self._switch_off(now)

    def held(self, key: Key) -> HeldLease | None:
        """The lease of an instance."""
        with self._lock:
            known = self._known.get(key)
            return known.lease if known is not None else None

    def useless(self, key: Key, lease: HeldLease, now: float) -> None:
        """A host did not take the lease."""
        with self._lock:
            known = self._known.get(key)
            if known is None or known.lease is not lease:
                return
            if now - known.useless_at < USELESS_SECONDS:
                known.pause_until = now + USELESS_SECONDS
            known.lease, known.confirm, known.useless_at = None, True, now

    def reached(self) -> None:
        """A host was reached: this client is where hosts can be reached."""
        self._reached = True

    def unreachable(self, address: str, now: float) -> None:
        """A host could not be reached. As long as none ever was, that is taken for all of them."""
        with self._lock:
            if not self._reached:
                self._switch_off(now)
                return
            self._unreachable[address] = now + UNREACHABLE_SECONDS
            self._unreachable.move_to_end(address)
            if len(self._unreachable) > MOST_ADDRESSES:
                self._unreachable.popitem(last=False)

    def _switch_off(self, now: float) -> None:
        if now < self._off_until:
            return
        self._off_until = now + self._off_seconds
        self._off_seconds = min(self._off_seconds * 2, LONGEST_OFF_SECONDS)
