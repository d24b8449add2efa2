# SPDX-License-Identifier: Apache-2.0
"""Removal of state that nobody used for the pool's retention.

Every host looks through a small part now and then; none is chosen for it, so none can be missing, and the
store makes each removal once.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from agentpool_agent.host.state import Host
from agentpool_agent.store import Store
from agentpool_core.errors import AgentPoolError

log = structlog.get_logger(__name__)

LOOK_SECONDS = 60.0
"""Between two looks of one host, on average."""


class Retention:
    """Removes what is too old, a bounded number at once.

    Args:
        random: draws from 0 to 1, so that the hosts of a pool do not all look at once.
    """

    def __init__(self, host: Host, random: Callable[[], float]) -> None:
        self._host = host
        self._random = random
        self._look_at = host.clock() + random() * LOOK_SECONDS

    def look(self, now: float) -> None:
        """Begin a look when it is time for one."""
        config, store = self._host.config, self._host.store
        if config is None or store is None or now < self._look_at:
            return
        self._look_at = now + (0.5 + self._random()) * LOOK_SECONDS
        retention = config.checkpoint.retention_seconds
        if retention is not None and not self._host.store_silent:
            self._host.spawn(self._prune(store, self._host.wall() - retention), "prune")

    async def _prune(self, store: Store, older_than: float) -> None:
        try:
            removed = await store.prune(older_than)
        except AgentPoolError as exc:
            log.warning("prune_failed", reason=exc.message)
            return
        if removed:
            log.info("instances_pruned", instances=removed)
