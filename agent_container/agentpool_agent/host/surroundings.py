# SPDX-License-Identifier: Apache-2.0
"""What an instance needs from its host."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agentpool_agent.host.saving import SAVES_AT_ONCE, SAVES_WAITING, in_turn
from agentpool_agent.host.turns import Turns
from agentpool_agent.store.base import Ownership, Store, Write
from agentpool_core.recovery import Cause

if TYPE_CHECKING:
    from agentpool_agent.host.exchange import Exchange
    from agentpool_agent.host.instance import Resident


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What an instance needs from its host."""

    store: Callable[[], Store]
    clock: Callable[[], float]
    wall: Callable[[], float]
    spawn: Callable[[Coroutine[Any, Any, None], str], None]
    released: Callable[[Resident, Exchange], None]
    """A request ended."""
    lost: Callable[[Resident, str, Cause | None], None]
    """The worker is gone: what was seen, and why; None: ownership is gone."""
    strained: Callable[[Resident, str], None]
    """A request needed more memory than there is."""
    data_lost: Callable[[], None]
    """The store told that it lost its data."""
    checkpointed: Callable[[int, float], None] = lambda _bytes, _seconds: None
    """A checkpoint was made durable or given up: its bytes, and how long that took."""
    saves: Turns = field(default_factory=lambda: Turns(SAVES_AT_ONCE, SAVES_WAITING))
    """Whose change is saved next: a tenant that changes much holds up its own answers first."""

    async def save(self, ownership: Ownership, write: Write, again: bool) -> None:
        """Have the store make a write, when it is its tenant's turn; `again`: it may be made already."""
        store = self.store()
        await in_turn(self.saves, ownership.key.tenant_id, lambda: store.save(ownership, write, again=again))
