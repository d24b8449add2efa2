# SPDX-License-Identifier: Apache-2.0
"""Places for a bounded number of holders, never all of them one tenant's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from enum import Enum, auto

SHARE = 4
"""A tenant may have this many times as many places as are left: alone it gets four fifths of all, and whoever
comes then finds a place."""


class Refusal(Enum):
    """Why there is no place."""

    FULL = auto()
    """All are taken."""
    SHARE = auto()
    """The tenant has its share."""


class Shares:
    """Counts who holds places.

    Attributes:
        limit: places of all together; may be changed, whoever holds one keeps it.
        taken: places that are held.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.taken = 0
        self._held: Counter[Hashable] = Counter()

    def refusal(self, tenant: Hashable = None) -> Refusal | None:
        """Why the tenant would get no place now; None: it would. `tenant` None stands for nobody in
        particular, who may have all places."""
        left = self.limit - self.taken
        if left <= 0:
            return Refusal.FULL
        if tenant is not None and self._held[tenant] >= SHARE * left:
            return Refusal.SHARE
        return None

    def take(self, tenant: Hashable = None) -> None:
        """Take a place; ask `refusal` before."""
        self.taken += 1
        if tenant is not None:
            self._held[tenant] += 1

    def give(self, tenant: Hashable = None) -> None:
        """Give a place back."""
        self.taken -= 1
        if tenant is not None:
            self._held[tenant] -= 1
            if self._held[tenant] <= 0:
                del self._held[tenant]

    def held(self, tenant: Hashable) -> int:
        """Places of one tenant."""
        return self._held[tenant]
