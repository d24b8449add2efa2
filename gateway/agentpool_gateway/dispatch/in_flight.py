# SPDX-License-Identifier: Apache-2.0
"""How many requests the gateway works on at one time, and whose."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable

from agentpool_core.errors import Unavailable

SHARE = 4
"""A tenant may have this many times as many requests in flight as there are places left: alone it gets four
fifths of all places, and whoever comes then finds a place."""


class InFlight:
    """Bounds the requests in flight: more would only wait in the gateway's memory.

    Args:
        limit: of all tenants together.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._now = 0
        self._held: Counter[Hashable] = Counter()

    def enter(self, tenant: Hashable = None) -> None:
        """Count one in; Unavailable when there are too many.

        `tenant` None stands for nobody in particular, who may have all places.
        """
        left = self._limit - self._now
        if left <= 0:
            raise Unavailable("The gateway has too many requests in flight.", retry_after_seconds=1.0)
        if tenant is not None:
            if self._held[tenant] >= SHARE * left:
                raise Unavailable(
                    "The gateway has too many requests of this tenant in flight.", retry_after_seconds=1.0
                )
            self._held[tenant] += 1
        self._now += 1

    def leave(self, tenant: Hashable = None) -> None:
        """Count one out."""
        self._now -= 1
        if tenant is not None:
            self._held[tenant] -= 1
            if not self._held[tenant]:
                del self._held[tenant]
