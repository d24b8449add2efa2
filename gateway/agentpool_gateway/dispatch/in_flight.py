# SPDX-License-Identifier: Apache-2.0
"""How many requests the gateway works on at one time, and whose."""

from __future__ import annotations

from collections.abc import Hashable

from agentpool_core.errors import Overloaded
from agentpool_core.shares import Refusal, Shares

RETRY_SECONDS = 1.0


class InFlight:
    """Bounds the requests in flight: more would only wait in the gateway's memory.

    Args:
        limit: of all tenants together.
    """

    def __init__(self, limit: int) -> None:
        self._shares = Shares(limit)

    def enter(self, tenant: Hashable = None) -> None:
        """Count one in; Overloaded when there are too many.

        `tenant` None stands for nobody in particular, who may have all places.
        """
        refusal = self._shares.refusal(tenant)
        if refusal is not None:
            raise too_many(refusal)
        self._shares.take(tenant)

    def leave(self, tenant: Hashable = None) -> None:
        """Count one out."""
        self._shares.give(tenant)


def too_many(refusal: Refusal) -> Overloaded:
    """The error of a request for which there is no place."""
    whose = " of this tenant" if refusal is Refusal.SHARE else ""
    return Overloaded(
        f"The gateway has too many requests{whose} in flight.", retry_after_seconds=RETRY_SECONDS
    )
