# SPDX-License-Identifier: Apache-2.0
"""A write is repeated until the store says what became of it.

sent, no answer --> again .. --> made, or refused
                             `-> no time left: unknown; a request of it without a key is told so
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import TypeVar

from agentpool_agent.host.exchange import Exchange
from agentpool_agent.host.turns import Turns
from agentpool_agent.wire.frames import Finished
from agentpool_core.errors import AgentPoolError, OutcomeUnknown, StoreDataLost, StoreUnavailable

T = TypeVar("T")

SAVE_SECONDS = 10.0
"""How long a write is repeated, and the upper bound of one attempt; the store's own time-outs are shorter."""
FIRST_PAUSE_SECONDS = 0.05
TURN_SECONDS = 3.0
"""How long a write waits for its turn, as long as a call of the store may take."""
SAVES_AT_ONCE = 12
"""Saves of one host; fewer than the store has connections, so that claims and releases find one free."""
SAVES_WAITING = 10_000
"""One for each resident at most: an instance saves one change after the other."""
MAX_PAUSE_SECONDS = 1.0
"""Between two attempts; doubled each time."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a write.

    Attributes:
        error: what kept it from being made; None: it is durable.
        unknown: it may have been made all the same.
    """

    error: AgentPoolError | None = None
    unknown: bool = False

    def told(self, key: str) -> AgentPoolError | None:
        """What a request of the write fails with. A key is found when it comes again, whatever became of the
        write."""
        return unconfirmed() if self.unknown and not key else self.error


MADE = Verdict()


@dataclass(frozen=True, slots=True)
class Batch:
    """The requests that one write concerns.

    Attributes:
        finished: those that the worker answered with it.
        exchanges: those of them that somebody waits for, by number.
        beside: numbers of those that the worker was at work on: part of their change may be in the write.
    """

    finished: Sequence[Finished]
    exchanges: dict[int, Exchange]
    beside: frozenset[int]

    def until(self, now: float) -> float:
        """When nobody waits for the write any more, at the latest SAVE_SECONDS from now."""
        deadlines = [one.deadline for one in self.exchanges.values() if not one.ended]
        return min(now + SAVE_SECONDS, max(deadlines, default=now + SAVE_SECONDS))


class Undecided:
    """The requests of one instance whose end depends on a write.

    Attributes:
        in_save: those that the worker has answered, by number. The store decides how they end, even if the
            worker is gone meanwhile.
    """

    def __init__(self) -> None:
        self.in_save: dict[int, Exchange] = {}
        self._doubtful: set[int] = set()

    def batch(self, finished: Sequence[Finished], exchanges: Mapping[int, Exchange], now: float) -> Batch:
        """A write begins, with these of all the requests that are under way."""
        numbers = {one.id for one in finished}
        waiting = {number: one for number, one in exchanges.items() if number in numbers}
        for one in waiting.values():
            one.saving_at = now
        self.in_save |= waiting
        at_work = {number for number, one in exchanges.items() if one.started and not one.ended}
        return Batch(finished, waiting, frozenset(at_work - self.in_save.keys()))

    def doubt(self, numbers: AbstractSet[int]) -> None:
        """Part of their change is in a write of which nobody knows whether it was made."""
        self._doubtful |= numbers

    def forget(self, number: int) -> None:
        """The request has ended."""
        self._doubtful.discard(number)

    def honest(self, number: int, error: AgentPoolError) -> AgentPoolError:
        """An error that asks to try again must not end a request whose change may have been made."""
        return unconfirmed() if error.retryable and number in self._doubtful else error


async def carried_out(attempt: Callable[[bool], Awaitable[None]], give_up: Callable[[bool], bool]) -> Verdict:
    """Make a write, again and again while the store does not answer.

    Args:
        attempt: makes the write; told whether an earlier attempt may have been carried out.
        give_up: whether to make no other attempt; told the same.
    """
    unheard, pause = False, FIRST_PAUSE_SECONDS
    while True:
        try:
            async with asyncio.timeout(SAVE_SECONDS):
                await attempt(unheard)
        except (StoreUnavailable, TimeoutError) as exc:
            slow = StoreUnavailable("The store is slow.", retry_after_seconds=1.0, unheard=True)
            error = exc if isinstance(exc, StoreUnavailable) else slow
            unheard = unheard or error.unheard
        except AgentPoolError as exc:
            # With its data the store lost what it had carried out unheard.
            return Verdict(exc, unheard and not isinstance(exc, StoreDataLost))
        else:
            return Verdict()
        if give_up(unheard):
            return Verdict(error, unheard)
        await asyncio.sleep(pause)
        pause = min(2 * pause, MAX_PAUSE_SECONDS)


async def in_turn(
    turns: Turns, tenant_id: str, write: Callable[[], Awaitable[T]], seconds: float = TURN_SECONDS
) -> T:
    """Make a write when it is the tenant's turn; raises StoreUnavailable, with nothing sent, when that does
    not come in time."""
    try:
        async with asyncio.timeout(seconds) as limit, turns.turn(tenant_id):
            limit.reschedule(None)
            return await write()
    except TimeoutError:
        if not limit.expired():
            raise
        raise StoreUnavailable("The store is busy with other writes.", retry_after_seconds=1.0) from None


def unconfirmed() -> OutcomeUnknown:
    """The error of a request whose change the store neither confirmed nor refused."""
    return OutcomeUnknown("The store did not confirm the change in time; it may or may not have been made.")
