# SPDX-License-Identifier: Apache-2.0
"""Whether workers answer (A45): busy ones are asked all the time, idle ones once in an interval.

A worker that does not answer is ended with cause Hang; what then happens is `recovery`'s.
"""

from __future__ import annotations

from agentpool_agent.host.instance import Resident
from agentpool_agent.host.state import Host
from agentpool_core.config import HealthConfig
from agentpool_core.recovery import Cause

LATE_SECONDS = 1.0
"""A look that comes this much too late was held up together with the whole host (a frozen process, a machine
out of CPU): that time is held against no worker, whose answer may lie unread."""


class Health:
    """Asks workers for signs of life. `look` is called every `period` seconds."""

    def __init__(self, host: Host, period: float) -> None:
        self._host = host
        self._period = period
        self._looked_at = host.clock()

    def look(self, now: float) -> None:
        """Ask whom it is time to ask, and end whoever has not answered for too long."""
        late = now - self._looked_at - self._period
        self._looked_at = now
        config = self._host.config.health if self._host.config is not None else HealthConfig()
        for resident in list(self._host.residents.values()):
            if late > LATE_SECONDS:
                resident.worker.excuse(late)
            self._check(resident, config, now)

    def _check(self, resident: Resident, config: HealthConfig, now: float) -> None:
        worker = resident.worker
        if resident.doubted_at and worker.answered_at > resident.doubted_at:
            resident.doubted_at = 0.0
        # One whose request was given up on may be blocked by it, although nothing is active any more.
        at_work = resident.entry.active > 0 or resident.doubted_at > 0
        checked_at = max(worker.answered_at, resident.entry.ready_at)
        if not at_work and not worker.asked and now - checked_at < config.interval_seconds:
            return
        limit = self._host.settings.hang_seconds if at_work else config.timeout_seconds
        silent = worker.ping(now)
        if silent > limit:
            worker.end(f"its event loop has not answered for {silent:.0f} s", Cause.HANG)
