# SPDX-License-Identifier: Apache-2.0
"""Requests by an absolute schedule, whatever becomes of those before: an open loop with Poisson arrivals."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from chaos.history import Operation, Sent


@dataclass(frozen=True, slots=True)
class Stream:
    """A share of the requests.

    Attributes:
        projects: how many ask; 0: a new one each time.
    """

    tier: str
    per_second: float
    projects: int


STREAMS = (
    Stream("WARM", 24.0, 8),
    Stream("HOT", 8.0, 2),
    Stream("COLD", 8.0, 3),
    Stream("WARM", 0.5, 0),
    Stream("COLD", 0.05, 0),
)
SLOW_SHARE, SLOW_SECONDS = 0.3, 0.3
"""Of additions."""
OPERATIONS = {Operation.ADD: 3, Operation.ADD_WITH_KEY: 3, Operation.READ: 2}


@dataclass
class Traffic:
    """What is sent, and has been.

    Attributes:
        carry_out: sends one request until it has an end.
        per_second: of all streams together.
    """

    carry_out: Callable[[Sent], Awaitable[None]]
    seed: int
    streams: Sequence[Stream] = STREAMS
    factor: float = 1.0
    sent: list[Sent] = field(default_factory=list)
    stopped: bool = False

    @property
    def per_second(self) -> float:
        """Of all streams together."""
        return sum(stream.per_second for stream in self.streams) * self.factor

    async def run(self, seconds: float) -> None:
        """Send for so long, or until stopped, and wait for every end."""
        rng = random.Random(self.seed)
        due = time.monotonic()
        until = due + seconds
        async with asyncio.TaskGroup() as tasks:
            while (due := due + rng.expovariate(self.per_second)) < until and not self.stopped:
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                one = self._next(rng, due)
                self.sent.append(one)
                tasks.create_task(self._whole(one))

    async def _whole(self, one: Sent) -> None:
        await self.carry_out(one)

    def _next(self, rng: random.Random, due: float) -> Sent:
        number = len(self.sent) + 1
        (stream,) = rng.choices(self.streams, [stream.per_second for stream in self.streams])
        (operation,) = rng.choices(tuple(OPERATIONS), tuple(OPERATIONS.values()))
        who = f"{rng.randrange(stream.projects)}" if stream.projects else f"new-{number}"
        slow = operation is not Operation.READ and rng.random() < SLOW_SHARE
        takes = SLOW_SECONDS if slow else 0.0
        return Sent(number, f"{stream.tier.lower()}-{who}", stream.tier, operation, due, takes)
