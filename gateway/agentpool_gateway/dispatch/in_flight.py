# SPDX-License-Identifier: Apache-2.0
"""How many requests the gateway works on at one time, and whose: more would only wait in its memory."""

from __future__ import annotations

from collections.abc import Hashable

from agentpool_core.errors import Overloaded
from agentpool_core.shares import Refusal, Shares

RETRY_SECONDS = 1.0


def take_place(places: Shares, tenant: Hashable = None) -> None:
    """Take a place, to be given back at the end; Overloaded when there is none.

    `tenant` None stands for nobody in particular, who may have all places.
    """
    refusal = places.refusal(tenant)
    if refusal is not None:
        raise too_many(refusal)
    places.take(tenant)


def too_many(refusal: Refusal) -> Overloaded:
    """The error of a request for which there is no place."""
    whose = " of this tenant" if refusal is Refusal.SHARE else ""
    return Overloaded(
        f"The gateway has too many requests{whose} in flight.", retry_after_seconds=RETRY_SECONDS
    )
