# SPDX-License-Identifier: Apache-2.0
"""What the ownership model consists of: hosts with their beliefs, messages on their way, and the truth."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from agentpool_agent.store import Ownership, RedisStore
from agentpool_agent.store.client import Argument, RedisClient
from agentpool_agent.store.scripts import Script
from agentpool_core.errors import StoreUnavailable
from agentpool_core.lifecycle import Tier
from agentpool_core.names import Incarnation, InstanceKey


class Network:
    """A client whose next message can be held back, to arrive later, after its sender gave up; or whose reply
    can be lost."""

    def __init__(
        self, client: RedisClient, greet: Callable[[], Awaitable[None]], arrived: Callable[[], None]
    ) -> None:
        self._client = client
        self._greet = greet
        self._arrived = arrived
        self.hold = False
        self.lose = False
        self.lost_reply: list[Any] = []
        self.held: list[tuple[Script, Sequence[str], Sequence[Argument]]] = []

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[Argument]) -> list[Any]:
        if self.hold:
            self.held.append((script, keys, args))
            raise StoreUnavailable("held back", unheard=True)
        reply = await self._client.run(script, keys, args)
        self._arrived()
        if self.lose:
            self.lost_reply = reply
            raise StoreUnavailable("the reply is lost", unheard=True)
        return reply

    async def deliver(self, message: tuple[Script, Sequence[str], Sequence[Argument]], now: int) -> list[Any]:
        script, keys, args = message
        reply = await self._client.run(script, keys, [now, *args[1:]])  # the server's clock reads the arrival
        self._arrived()
        return reply

    async def command(self, *args: Argument) -> Any:
        return await self._client.command(*args)

    async def pipeline(self, commands: Sequence[Sequence[Argument]]) -> list[Any]:
        return await self._client.pipeline(commands)

    async def open(self) -> None:
        await self._client.open()

    async def greet_again(self) -> None:
        await self._greet()

    async def close(self) -> None:
        await self._client.close()


@dataclass
class Host:
    """One incarnation: its connection, and the instances it believes to hold with their state."""

    owner: Incarnation
    store: RedisStore
    network: Network
    alive: bool = True
    holds: dict[InstanceKey, Ownership] = field(default_factory=dict)
    state: dict[InstanceKey, dict[str, bytes]] = field(default_factory=dict)
    back: set[InstanceKey] = field(default_factory=set)
    """Where the state is the previous one."""
    unheard: dict[InstanceKey, dict[str, bytes]] = field(default_factory=dict)
    """The change whose save was not answered and can come again."""
    uncertain: set[InstanceKey] = field(default_factory=set)
    """Where such a save was given up, so that the state may be behind the store's."""

    def give_up(self, key: InstanceKey) -> None:
        """An unheard save does not come again."""
        if self.unheard.pop(key, None) is not None:
            self.uncertain.add(key)

    def heard(self, key: InstanceKey) -> None:
        """What the store has is known."""
        self.unheard.pop(key, None)
        self.uncertain.discard(key)

    def drop(self, key: InstanceKey) -> None:
        self.holds.pop(key, None)
        self.state.pop(key, None)
        self.back.discard(key)
        self.heard(key)


@dataclass
class Late:
    """A save whose sender gave up, with what it would change and how many saves were acknowledged then."""

    host: Host
    key: InstanceKey
    message: tuple[Script, Sequence[str], Sequence[Argument]]
    change: dict[str, bytes] | None
    """None: another call than save."""
    acknowledged: int
    back: bool
    """Whether its sender's copy was the previous state."""


@dataclass
class Truth:
    """What the store has to know of one instance."""

    holder: Ownership | None = None
    """The last granted ownership that nobody ended."""
    state: dict[str, bytes] | None = None
    """None: nothing is stored, or data was lost and nobody has registered."""
    finals: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    highest_epoch: int = 0
    acknowledged: int = 0
    writers: dict[int, Incarnation] = field(default_factory=dict)
    previous: dict[str, bytes] = field(default_factory=dict)
    """The state before the last change; empty: none is known."""
    failures: bytes = b""
    tier: Tier = Tier.WARM
    behind: bool = False
    """The store came back with what it was earlier, and nobody claimed or registered since."""

    def change(self, base: dict[str, bytes], change: dict[str, bytes]) -> None:
        """Parts were written on top of a state."""
        self.previous, self.state = base, base | change

    def has(self, change: dict[str, bytes]) -> bool:
        """Whether this very change is in the state: each has a body of its own."""
        return self.state is not None and change.items() <= self.state.items()

    def replace(self, state: dict[str, bytes]) -> None:
        """The state was written as a whole."""
        self.previous, self.state = {}, dict(state)

    def forget(self) -> None:
        """Nothing is stored any more."""
        self.holder, self.state, self.previous, self.finals = None, None, {}, {}
        self.failures = b""
