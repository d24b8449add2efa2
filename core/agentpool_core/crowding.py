# SPDX-License-Identifier: Apache-2.0
"""How many requests a host's agents may work on at one time so that each is answered while it is of use.

Agents that wait, for a model or another service, keep nobody from a core: thousands of their requests may be
under way. Agents that compute share the cores, and each further request makes all of them later. The kernel
tells the two apart: for each worker how long it computed, and how long it was ready to and waited for a core.
From that follow

    c = computed / (request time - time spent waiting)   the part of its own time that a request computes
    s = computed / requests that ended                   what one request computes, seconds
    C                                                    cores: those that were had when many waited, else all

With N requests under way N * c cores are asked for, so that computing takes N * c / C times as long as alone
(from 1 on). And what is under way is worth N * s seconds of computing, done in N * s / C seconds. The limit
is the larger of the numbers at which the first is STRETCH and the second WORK_SECONDS: light requests are no
load in any number that fits into a burst, and heavy ones may be many where they hardly compute.

Pure: what was measured is an argument. The figures are the kernel's, so no tenant's code can tell others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp

STRETCH = 2.0
WORK_SECONDS = 0.175
MEMORY_SECONDS = 2.0
"""A measurement counts for 1/e after so long."""
WAITING = 0.25
"""With such a part of the requests' time spent in waiting for a core, those that can be had are in use."""


@dataclass(frozen=True, slots=True)
class Spell:
    """What one worker did between two looks: seconds that it computed, and that it waited for a core, and how
    many requests it had, on average."""

    requests: float
    computed: float
    waited: float


class CrowdLimit:
    """The limit.

    Args:
        cores: of the machine, as far as this process may use them.
        floor: never less.
        ceiling: never more, and the limit while nothing is known.
    """

    def __init__(self, cores: int, floor: int, ceiling: int) -> None:
        self.floor = floor
        self._most = self._cores = float(cores)
        self._ceiling = ceiling
        self._computed = self._progress = self._ended = 0.0
        self.limit = ceiling

    def observe(self, seconds: float, spells: Sequence[Spell], ended: int) -> None:
        """Take in what was measured over so many seconds, in which so many requests ended."""
        if seconds <= 0:
            return
        computed = sum(one.computed for one in spells)
        kept = exp(-seconds / MEMORY_SECONDS)
        self._computed = self._computed * kept + computed
        self._progress = self._progress * kept + sum(_progress(one, seconds) for one in spells)
        self._ended = self._ended * kept + ended
        self._cores = self._cores * kept + self._had(seconds, spells) * (1 - kept)
        self.limit = self._found()

    def forget(self) -> None:
        """Nothing is known any more."""
        self._computed = self._progress = self._ended = 0.0
        self._cores, self.limit = self._most, self._ceiling

    def _had(self, seconds: float, spells: Sequence[Spell]) -> float:
        """The cores that could be had."""
        under_way = sum(one.requests for one in spells) * seconds
        if sum(one.requests * one.waited for one in spells) <= WAITING * under_way:
            return self._most
        computed, waited = sum(one.computed for one in spells), sum(one.waited for one in spells)
        if computed + waited >= self._most * seconds:
            return min(self._most, computed / seconds)
        # Fewer were ready than there are cores: they were kept waiting by others, and had this part of one.
        return self._most * computed / (computed + waited)

    def _found(self) -> int:
        if self._computed <= 0:
            return self._ceiling
        by_stretch = STRETCH * self._cores * self._progress / self._computed
        by_work = WORK_SECONDS * self._cores * self._ended / self._computed
        return max(self.floor, round(min(self._ceiling, max(by_stretch, by_work))))


def _progress(spell: Spell, seconds: float) -> float:
    """Request seconds in which something was computed, or waited for that is no core. A worker that could go
    on all the time computes for one of its requests, and the others wait for that one."""
    ready = min(1.0, (spell.computed + spell.waited) / seconds)
    return spell.requests * (1 - ready) * seconds + spell.computed
