# SPDX-License-Identifier: Apache-2.0
"""What the ownership model consists of: hosts with their beliefs, messages on their way, and the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from agentpool_agent.store import Ownership, RedisStore
from agentpool_agent.store.client import Argument, RedisClient
from agentpool_agent.store.scripts import Script
from agentpool_core.errors import StoreUnavailable
from agentpool_core.names import Incarnation, InstanceKey


class Network:
    """A client whose next message can be held back, to arrive later, after its sender gave up."""

    def __init__(self, client: RedisClient) -> None:
        self._client = client
        self.hold = False
        self.held: list[tuple[Script, Sequence[str], Sequence[Argument]]] = []

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[Argument]) -> list[Any]:
        if self.hold:
            self.held.append((script, keys, args))
            raise StoreUnavailable("held back")
        return await self._client.run(script, keys, args)

    async def deliver(self, message: tuple[Script, Sequence[str], Sequence[Argument]], now: int) -> list[Any]:
        script, keys, args = message
        return await self._client.run(script, keys, [now, *args[1:]])  # the server's clock reads the arrival

    async def command(self, *args: Argument) -> Any:
        return await self._client.command(*args)

    async def pipeline(self, commands: Sequence[Sequence[Argument]]) -> list[Any]:
        return await self._client.pipeline(commands)

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

    def drop(self, key: InstanceKey) -> None:
        self.holds.pop(key, None)
        self.state.pop(key, None)


@dataclass
class Late:
    """A save whose sender gave up, with what it would change and how many saves were acknowledged then."""

    host: Host
    key: InstanceKey
    message: tuple[Script, Sequence[str], Sequence[Argument]]
    change: dict[str, bytes] | None
    """None: another call than save."""
    acknowledged: int


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
