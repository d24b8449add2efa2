# SPDX-License-Identifier: Apache-2.0
"""Pods that were made and that no list has shown yet.

Lists come from the API server, not from a cache of ours; yet a server behind a proxy, or one whose own cache
lags, may answer with a past. What was made counts until it is seen, or until it plainly never will be.
"""

from __future__ import annotations

from collections.abc import Iterable

from agentpool_operator.plan.views import PodView

FORGET_SECONDS = 15.0
"""No list is that late; a pod unseen for so long is gone already, or was never made."""


class Expected:
    """The pods of one pool that are under way. Times are a monotonic clock's, in seconds."""

    def __init__(self) -> None:
        self._since: dict[str, tuple[str, str, float]] = {}

    def add(self, name: str, role: str, now: float, instance: str = "") -> None:
        """A pod is about to be made; `instance`: whose own it is to be."""
        self._since[name] = (role, instance, now)

    def refused(self, name: str) -> None:
        """It was not made after all."""
        self._since.pop(name, None)

    def seen(self, pods: Iterable[PodView], now: float) -> None:
        """A list came: what it shows is expected no more, nor what is too old."""
        shown = {pod.name for pod in pods}
        self._since = {
            name: one
            for name, one in self._since.items()
            if name not in shown and now - one[2] < FORGET_SECONDS
        }

    def waiting(self, role: str) -> int:
        """How many of a role that are nobody's own."""
        return sum(1 for of, instance, _ in self._since.values() if of == role and not instance)

    def instances(self) -> frozenset[str]:
        """The instances whose own pod is under way."""
        return frozenset(instance for _, instance, _ in self._since.values() if instance)

    def again_after(self, now: float) -> float | None:
        """Seconds until the oldest is given up; None: nothing is expected."""
        return min((max(0.1, at + FORGET_SECONDS - now) for *_, at in self._since.values()), default=None)
