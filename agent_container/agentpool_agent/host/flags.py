# SPDX-License-Identifier: Apache-2.0
"""Feature flags that were set through a gateway: kept in the store, told to every gateway by Watch.

A host heeds them for leased requests alone, which no gateway sees. It asks the store for them every few
seconds, so that any host can tell any gateway; a change is told to all gateways at once, by the host that it
was made at.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from agentpool_agent.host.state import Host
from agentpool_agent.store import KeptFlags
from agentpool_core.config import FlagSet, unpack_flags
from agentpool_core.errors import InvalidRequest, PoolDisabled

log = structlog.get_logger(__name__)

MAX_BYTES = 1024 * 1024
"""Largest document; it goes over every watch, whose messages end at 4 MiB."""


class HostFlags:
    """See the module.

    Args:
        changed: called when there are later flags.
    """

    def __init__(self, host: Host, changed: Callable[[], None]) -> None:
        self._host = host
        self._changed = changed

    async def replace(self, base: KeptFlags, document: bytes) -> tuple[KeptFlags, bool]:
        """What is kept now, and whether that is this document; see `FlagBook.replace`. InvalidRequest."""
        if len(document) > MAX_BYTES:
            raise InvalidRequest(
                f"The flags take {len(document)} bytes; {MAX_BYTES} are allowed.",
                remedy="List fewer tenants and projects, or declare flags in spec.featureFlags.",
            )
        try:
            unpack_flags(document)
        except ValueError as exc:
            raise InvalidRequest("The document holds no flags.") from exc
        _, store = self._host.configured()
        kept, done = await store.flags.replace(base.version, document)
        self._take(kept)
        return kept, done

    async def look(self) -> None:
        """Ask the store; called every few seconds. One that has lost them is given them again."""
        host = self._host
        if host.store is None:
            return
        kept = await host.store.flags.read(host.flags.version)
        if kept is not None and kept.version < host.flags.version:
            kept, done = await host.store.flags.replace(host.flags.version, host.flags.document)
            if done:
                log.warning("flags_put_back", version=kept.version)
        host.flags_read = True
        if kept is not None:
            self._take(kept)

    def check_leased(self, tenant_id: str, project_id: str) -> None:
        """PoolDisabled for a request that comes straight to the host, where it is to pass the pool by: the
        gateway sends it on the way that it takes now."""
        gates = self._host.gates
        if gates.pool is not None and not gates.pooled(tenant_id, project_id, self._host.wall()):
            raise PoolDisabled("The flag agent_pool_enabled is off for this project.")

    def merge(self) -> None:
        """Lay what was set and what the pool declares over each other, after a change of either."""
        config = self._host.config
        try:
            changed = unpack_flags(self._host.flags.document)
        except ValueError:
            # Of a later release: gateways of that one know what to do with it.
            changed = {}
        if config is not None:
            self._host.gates = FlagSet(config.feature_flags, config.enabled, changed)

    def _take(self, kept: KeptFlags) -> None:
        if kept.version > self._host.flags.version:
            self._host.flags = kept
            self.merge()
            log.info("flags_changed", version=kept.version)
            self._changed()
