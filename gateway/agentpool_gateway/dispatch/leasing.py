# SPDX-License-Identifier: Apache-2.0
"""Leases: what an application gets to talk to an instance's host itself.

Nothing is kept of a lease. Its token is bound to the instance and to one incarnation of its host and ends
within a minute; its id is signed, so that any gateway can tell what a report is about. The instance is as
free to be evicted, moved or drained as without a lease.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from agentpool_core.errors import DirectAccessOff, InvalidRequest, NoHost
from agentpool_core.lifecycle import Tier
from agentpool_gateway.membership.base import PoolName
from agentpool_gateway.membership.table import LIVING, Host, PoolTable
from agentpool_gateway.membership.watcher import Fleet
from agentpool_proto.v1.gateway_pb2 import Lease
from agentpool_proto.v1.types_pb2 import Instance
from agentpool_rpc.leases import LeaseClaims, LeaseIds, LeaseReport

Activate = Callable[[str, str, Tier | None], Awaitable[Instance]]


class LeaseObserver(Protocol):
    """Told of leases."""

    def lease_acquired(self, pool: PoolName) -> None:
        """A lease was given."""

    def lease_released(self, pool: PoolName, report: LeaseReport) -> None:
        """What was done with one."""


class Leasing:
    """Leases of one pool's instances.

    Args:
        activate: makes an instance resident.
        ids: makes ids of leases; None: direct access is off.
    """

    def __init__(
        self,
        fleet: Fleet,
        table: PoolTable,
        activate: Activate,
        ids: LeaseIds | None,
        observer: LeaseObserver,
    ) -> None:
        self._fleet = fleet
        self._table = table
        self._activate = activate
        self._ids = ids
        self._observer = observer

    async def acquire(
        self, instance_id: str, tenant_id: str, project_id: str, tier: Tier | None, confirm: bool
    ) -> Lease:
        """A lease of the instance, which is resident then.

        Raises DirectAccessOff, and what an activation raises. `confirm`: ask the host, do not go by its
        report.
        """
        ids = self._on()
        host = None if confirm else self._holder(instance_id)
        if host is None:
            await self._activate(tenant_id, project_id, tier)
            # The answer has been noted in the table, and nothing was awaited since.
            host = self._holder(instance_id)
        if host is None:
            raise NoHost("The instance left its host at once.", retry_after_seconds=0.1)
        token, expires_at = self._fleet.links[host.id].lease(instance_id)
        held = host.instances[instance_id]
        self._observer.lease_acquired(self._table.name)
        return Lease(
            id=ids.issue(LeaseClaims(*self._table.name, tenant_id, project_id, expires_at)),
            instance_id=instance_id,
            tier=held.tier,
            pod=host.member.pod,
            # From the membership alone: no host can send applications anywhere.
            address=host.member.address,
            incarnation=str(host.incarnation),
            token=token,
            expires_at=expires_at,
            seconds_left=ids.seconds_until(expires_at),
        )

    def lease(self, lease_id: str) -> LeaseClaims:
        """What a lease is about; InvalidRequest when it is none of this pool."""
        claims = self._on().read(lease_id)
        if (claims.namespace, claims.pool) != self._table.name:
            raise InvalidRequest("The lease is for another pool.")
        return claims

    def release(self, claims: LeaseClaims, report: LeaseReport) -> bool:
        """Count what was done with a lease; False when it ended too long ago."""
        counted = self._on().countable(claims)
        if counted:
            self._observer.lease_released(self._table.name, report)
        return counted

    def _on(self) -> LeaseIds:
        if self._ids is None:
            raise DirectAccessOff("This gateway gives no leases.")
        return self._ids

    def _holder(self, instance_id: str) -> Host | None:
        """The host where the instance lives, if it can be told without asking it."""
        host = self._table.owner(instance_id)
        if host is None or not host.connected or host.ended or host.incarnation is None:
            return None
        lives = host.instances[instance_id].state in LIVING
        return host if lives and host.serves(instance_id) and host.id in self._fleet.links else None
