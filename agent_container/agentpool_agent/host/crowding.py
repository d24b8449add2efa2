# SPDX-License-Identifier: Apache-2.0
"""Refuses requests that the host's agents have no core for: see `agentpool_core.crowding`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Mapping, Sequence

from agentpool_agent.wire.nursery import Effort
from agentpool_core.crowding import CrowdLimit, Spell
from agentpool_core.errors import HostOverloaded
from agentpool_core.shares import SHARE, Shares

FLOOR = 6
"""Never fewer at one time."""
CEILING = 10_000
LOOK_SECONDS = 0.1
CALM_LOOK_SECONDS = 0.5
"""Between two looks while fewer than FLOOR requests are under way."""
STALE_SECONDS = 2.0
"""What was measured longer ago says nothing of now."""
MOST_WORKERS = 128
"""Looked at in one look: about 5 ms of the zygote's time."""
RETRY_SECONDS = 1.0

Busy = Callable[[], Iterable[tuple[int, int]]]
"""The workers that have requests now: number, and how many."""


class Crowding:
    """Counts the requests that agents work on, and refuses what is too much.

    Args:
        ask: has the zygote look at workers, by their numbers; it answers with `measured`.

    Attributes:
        refused: requests so far for which there was no place.
    """

    def __init__(self, clock: Callable[[], float], busy: Busy, ask: Callable[[Sequence[int]], None]) -> None:
        self._clock = clock
        self._busy = busy
        self._ask = ask
        self._limit = CrowdLimit(len(os.sched_getaffinity(0)), FLOOR, CEILING)
        self._instances = Shares(CEILING)
        self._timer: asyncio.TimerHandle | None = None
        self._requests: dict[int, int] = {}
        self._requests_before: dict[int, int] = {}
        self._before: Mapping[int, Effort] = {}
        self._before_at = 0.0
        self._learned_at = 0.0
        self._ended = 0
        self.running = 0
        self.refused = 0

    @property
    def limit(self) -> int:
        """How many requests may be worked on at one time."""
        return self._limit.limit

    @property
    def crowded(self) -> bool:
        """Whether a request can be too much at all; `check` it then."""
        return self.running >= FLOOR

    def check(self, tenant_id: str, active: int) -> None:
        """Raise HostOverloaded when a request is too much for an instance that has so many under way.

        An instance without any is let in while fewer instances than the limit are busy: one that has many
        requests uses one worker, and keeps the others from nothing. Alone it has the permits that it was
        promised.
        """
        if active and self._instances.taken == 1:
            return
        if self._clock() - self._learned_at > STALE_SECONDS:
            self._limit.forget()
        # One tenant alone has the whole limit, and there is room behind it for those who come then.
        self._instances.limit = self.limit + self.limit // SHARE
        too_much = self.running >= self.limit if active else self._instances.refusal(tenant_id) is not None
        if too_much:
            self.refused += 1
            raise HostOverloaded(
                "The agents on the instance's host have more to compute than its cores can do in time.",
                retry_after_seconds=RETRY_SECONDS,
            )

    def take(self, tenant_id: str, active: int) -> None:
        """A request got its permit, the instance's `active`-th at this time."""
        self.running += 1
        if active == 1:
            self._instances.take(tenant_id)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._look)

    def give(self, tenant_id: str, active: int) -> None:
        """A request has ended, and its instance has so many left."""
        self.running -= 1
        self._ended += 1
        if active == 0:
            self._instances.give(tenant_id)

    def measured(self, efforts: Sequence[Effort], at: float) -> None:
        """The zygote has looked at workers, at a time of its monotonic clock in seconds."""
        now = {one.worker: one for one in efforts}
        seconds = at - self._before_at
        spells = [
            Spell(self._average(worker), one.computed - old.computed, one.waited - old.waited)
            for worker, one in now.items()
            if (old := self._before.get(worker)) is not None
        ]
        if spells and seconds <= STALE_SECONDS:
            self._limit.observe(seconds, spells, self._ended)
            self._learned_at = self._clock()
        self._before, self._before_at, self._ended = now, at, 0

    def _average(self, worker: int) -> float:
        return (self._requests.get(worker, 0) + self._requests_before.get(worker, 0)) / 2

    def _look(self) -> None:
        self._timer = None
        if not self.running:
            return
        self._requests_before = self._requests
        self._requests = dict(sorted(self._busy(), key=lambda one: -one[1])[: MOST_WORKERS // 2])
        # Those of the look before, too: a worker that has just ended its requests computed for them.
        self._ask([*(self._requests | self._requests_before)])
        delay = LOOK_SECONDS if self.crowded else CALM_LOOK_SECONDS
        self._timer = asyncio.get_running_loop().call_later(delay, self._look)
