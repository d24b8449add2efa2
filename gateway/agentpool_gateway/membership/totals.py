# SPDX-License-Identifier: Apache-2.0
"""What a pool's hosts did in all, over their restarts. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from agentpool_core.names import Incarnation
from agentpool_proto.v1.host_pb2 import HostCounters

REMEMBERED = 256
"""Incarnations that left and whose totals can be taken back when they return."""


class Totals:
    """Totals of incarnations that are gone, so that the pool's totals never fall; each counts once."""

    def __init__(self) -> None:
        self._past = HostCounters()
        self._left: OrderedDict[Incarnation, HostCounters] = OrderedDict()

    def left(self, incarnation: Incarnation | None, counters: HostCounters) -> None:
        """An incarnation is watched no longer; what it reported last stays counted."""
        _add(self._past, counters)
        if incarnation is None:
            return
        self._left[incarnation] = counters
        if len(self._left) > REMEMBERED:
            self._left.popitem(last=False)

    def returned(self, incarnation: Incarnation) -> None:
        """An incarnation is watched again: only its address had changed, and it goes on counting."""
        counters = self._left.pop(incarnation, None)
        if counters is not None:
            _add(self._past, counters, -1)

    def with_present(self, counters: Iterable[HostCounters]) -> HostCounters:
        """The totals of all that ever were, with those that are watched now."""
        total = HostCounters()
        total.CopyFrom(self._past)
        for one in counters:
            _add(total, one)
        return total


def _add(total: HostCounters, more: HostCounters, times: int = 1) -> None:
    for descriptor, value in more.ListFields():
        setattr(total, descriptor.name, getattr(total, descriptor.name) + times * value)
