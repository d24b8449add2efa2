# SPDX-License-Identifier: Apache-2.0
"""How a script of the store is run: with the pool's keys in front, the time, and a refusal as an error."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agentpool_core.errors import StoreDataLost
from agentpool_core.names import StoreKeys

from .base import MICROSECONDS, RECOVERY_SECONDS
from .client import Argument, RedisClient
from .encoding import text
from .refusals import raise_refusal
from .scripts import Script


def instance_keys(keys: StoreKeys, instance_id: str) -> tuple[str, ...]:
    """Everything that is kept of one instance, in the order in which the scripts expect it."""
    return (
        keys.record(instance_id),
        keys.checkpoint(instance_id),
        keys.previous(instance_id),
        keys.idempotency(instance_id),
        keys.idempotency_order(instance_id),
    )


@dataclass(frozen=True, slots=True)
class Calls:
    """Runs the scripts of one pool.

    Attributes:
        clock: microseconds since 1970; None: Redis' own clock, read inside the scripts.
        random: draws the name of a new generation, which has no blank.
    """

    client: RedisClient
    keys: StoreKeys
    scripts: Mapping[str, Script]
    clock: Callable[[], int] | None
    random: Callable[[], str]

    async def run(self, name: str, instance_id: str, *args: Argument) -> Sequence[Any]:
        """What a script about one instance answers; raises its refusal, or StoreUnavailable."""
        return await self.execute(name, instance_keys(self.keys, instance_id), (instance_id, *args))

    def greeting(self, address: str) -> tuple[Argument, ...]:
        """The command that tells a server, in front of all others, under which address it is the master."""
        now = self.clock() if self.clock else ""
        return ("EVAL", self.scripts["greet"].source, 1, self.keys.generation, now, address)

    async def execute(self, name: str, keys: Iterable[str], args: Iterable[Argument]) -> Sequence[Any]:
        """What a script answers; raises its refusal, or StoreUnavailable."""
        pool = self.keys
        reply = await self.client.run(
            self.scripts[name],
            (pool.generation, pool.index, pool.owners, pool.counts, *keys),
            (
                self.clock() if self.clock else "",
                self.random(),
                RECOVERY_SECONDS * MICROSECONDS,
                *args,
            ),
        )
        try:
            raise_refusal(text(reply[0]), reply[1:])
        except StoreDataLost:
            # A generation that was drawn just now has no address of a master yet.
            await self.client.greet_again()
            raise
        return reply[1:]
