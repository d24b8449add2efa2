# SPDX-License-Identifier: Apache-2.0
"""The pools that the gateway serves, by name."""

from __future__ import annotations

from agentpool_core.errors import PoolNotFound
from agentpool_gateway.dispatch.manager import Observer, PoolManager
from agentpool_gateway.dispatch.overload import Overload
from agentpool_gateway.membership.base import PoolName
from agentpool_gateway.membership.watcher import Fleet
from agentpool_rpc.leases import LeaseIds


class Pools:
    """Finds the manager of a pool.

    Args:
        default: the pool meant where none is named.
        overload: what lets requests of all pools in.
        lease_ids: makes ids of leases; None: applications are to send everything through the gateway.
    """

    def __init__(
        self,
        fleet: Fleet,
        observer: Observer,
        default: PoolName | None,
        overload: Overload,
        lease_ids: LeaseIds | None = None,
    ) -> None:
        self._fleet = fleet
        self._observer = observer
        self._default = default
        self._overload = overload
        self._lease_ids = lease_ids
        self._managers: dict[PoolName, PoolManager] = {}

    @property
    def fleet(self) -> Fleet:
        """The hosts behind the pools."""
        return self._fleet

    @property
    def names(self) -> list[PoolName]:
        """All pools."""
        return sorted(self._fleet.tables)

    def resolve(self, namespace: str, name: str) -> PoolName:
        """The pool that is meant; both empty means the default pool, PoolNotFound when there is none."""
        if namespace or name:
            return PoolName(namespace, name)
        if self._default is None:
            raise PoolNotFound("No default pool is set.", remedy="Name the pool, or set default_pool.")
        return self._default

    def find(self, name: PoolName) -> PoolManager:
        """The pool's manager; PoolNotFound."""
        table = self._fleet.tables.get(name)
        if table is None:
            raise PoolNotFound(f"There is no pool {name}.")
        manager = self._managers.get(name)
        if manager is None or manager.table is not table:
            manager = PoolManager(
                self._fleet, table, self._observer, self._overload, lease_ids=self._lease_ids
            )
            self._managers[name] = manager
        return manager
