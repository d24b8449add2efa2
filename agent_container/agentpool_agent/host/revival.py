# SPDX-License-Identifier: Apache-2.0
"""Instances that are always on (HOT) come back by themselves: after a failure when their wait is over, after
the zygote was replaced, and after the host was restarted in its pod. Those of other tiers wait for a request.
"""

from __future__ import annotations

from pathlib import Path

import structlog

from agentpool_agent.host.activation import Activations, Wanted
from agentpool_agent.host.state import Host
from agentpool_agent.host.table import Entry
from agentpool_agent.store import Store
from agentpool_core.errors import AgentPoolError
from agentpool_core.lifecycle import State, Tier
from agentpool_core.names import InstanceKey
from agentpool_core.recovery import Policy, refusal

log = structlog.get_logger(__name__)

MARKER = "started"
PAGE = 1000
MOST_PAGES = 100


def mark_start(run_dir: Path) -> bool:
    """Whether a host ran in this pod before; its small volume outlives the host's container."""
    marker = run_dir / MARKER
    restarted = marker.exists()
    marker.touch()
    return restarted


class Revivals:
    """Starts what has to be on."""

    def __init__(self, host: Host, activations: Activations) -> None:
        self._host = host
        self._activations = activations
        self.restarted = False
        """Set when an earlier host of this pod may have left instances; cleared once they were looked for."""

    def look(self, policy: Policy) -> None:
        """Begin whatever is due; each runs once at a time."""
        host = self._host
        if not host.ready or host.store_silent or host.store is None:
            return
        if self.restarted:
            self.restarted = False
            if Tier.HOT in host.settings.tiers and host.store.shared:
                host.spawn(self._take_over(host.store), "take-over")
        for entry in list(host.table):
            if entry.tier is Tier.HOT and self._due(entry, policy):
                entry.revive = False
                host.spawn(self._start(entry.key), "revive")

    def _due(self, entry: Entry, policy: Policy) -> bool:
        if self._activations.under_way(entry.instance_id):
            return False
        if entry.state is State.ERROR:
            return refusal(entry.history, policy, self._host.wall()) is None
        return entry.state is State.PAUSED and entry.revive

    async def _start(self, key: InstanceKey) -> None:
        try:
            # Bounded: an activation has a deadline of its own.
            await self._activations.activate(Wanted(key, Tier.HOT))
        except AgentPoolError as exc:
            log.warning("instance_not_revived", instance=key.instance_id, code=exc.code, reason=exc.message)
            entry = self._host.table.get(key.instance_id)
            if entry is not None and exc.retryable:
                entry.revive = True

    async def _take_over(self, store: Store) -> None:
        """Start what an earlier host of this pod held."""
        mine, cursor = self._host.incarnation, ""
        for _ in range(MOST_PAGES):
            page = await store.list(cursor, PAGE)
            for record in page.records:
                owner = record.owner
                left = owner is not None and owner.pod_uid == mine.pod_uid and owner != mine
                if left and record.tier is Tier.HOT:
                    await self._start(record.key)
            cursor = page.cursor
            if not cursor:
                return
