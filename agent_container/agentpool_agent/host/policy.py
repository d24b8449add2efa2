# SPDX-License-Identifier: Apache-2.0
"""The recovery policy of a pool, as far as this host can carry it out."""

from __future__ import annotations

from agentpool_agent.host.state import Host
from agentpool_core.recovery import Policy


def policy_of(host: Host) -> Policy:
    """What the pool's owner decided; no tier to move to where nothing can be moved."""
    config = host.config
    if config is None:
        return Policy()
    recovery = config.recovery
    movable = config.tiers.items() if host.migrate is not None else ()
    return Policy(
        enabled=recovery.enabled,
        max_failures_per_hour=recovery.max_failures_per_hour,
        window_seconds=recovery.pattern_window_minutes * 60.0,
        memory_bytes={tier: one.quota.memory_bytes for tier, one in movable if one.max_instances > 0},
    )
