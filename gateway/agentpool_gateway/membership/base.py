# SPDX-License-Identifier: Apache-2.0
"""What the gateway has to know about pools and hosts, whoever tells it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from agentpool_core.config import EffectivePool
from agentpool_core.names import Incarnation


class PoolName(NamedTuple):
    """Namespace and name of a pool."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class HostMember:
    """One agent pod of a pool."""

    pool: PoolName
    pod: str
    pod_uid: str
    address: str
    """`host:port` of its gRPC server."""
    leaving: bool = field(default=False, compare=False)
    """The pod is being deleted: its host may not know it yet."""


@dataclass(frozen=True, slots=True)
class PoolMember:
    """One pool and its hosts."""

    config: EffectivePool
    hosts: tuple[HostMember, ...]

    @property
    def name(self) -> PoolName:
        """Namespace and name."""
        return PoolName(self.config.namespace, self.config.name)


class Membership(Protocol):
    """The source of pools and hosts, and of proof that a host ended."""

    @property
    def pools(self) -> Mapping[PoolName, PoolMember]:
        """All pools, as last read; empty before the first read."""

    @property
    def ready(self) -> bool:
        """Whether the first read is done."""

    def subscribe(self, listener: Callable[[], None]) -> None:
        """Call `listener` after each change of `pools`, on the event loop."""

    def announced(self, incarnation: Incarnation) -> None:
        """A host said of itself that it is this incarnation: earlier ones of its pod have ended."""

    async def ended(self, incarnation: Incarnation) -> bool:
        """Whether it is proven that this incarnation lives no more. False means: not known to be dead.

        Asked only of incarnations whose channel is broken, or that another host named as an owner.
        """

    async def run(self) -> None:
        """Keep `pools` up to date until cancelled."""
