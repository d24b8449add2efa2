# SPDX-License-Identifier: Apache-2.0
"""What a caller may do with a pool, and for which tenants."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Protocol

from agentpool_core.errors import PermissionDenied
from agentpool_gateway.admission.identity import Identity
from agentpool_gateway.membership.base import PoolName
from agentpool_gateway.settings import Grant, PoolVerb


@dataclass(frozen=True, slots=True)
class Scope:
    """The tenants that a right covers, as shell patterns; None means all.

    With `reviewed` each tenant is to be asked for in addition, by `Authorizer.authorize_tenant`.
    """

    tenants: tuple[str, ...] | None = None
    reviewed: bool = False

    def covers(self, tenant_id: str) -> bool:
        """Whether the right holds for this tenant."""
        return self.tenants is None or any(fnmatchcase(tenant_id, one) for one in self.tenants)

    def require(self, tenant_id: str) -> None:
        """PermissionDenied unless the right holds for this tenant."""
        if not self.covers(tenant_id):
            raise PermissionDenied("The caller has no right for this tenant.")

    @property
    def visible(self) -> Callable[[str], bool] | None:
        """A filter by tenant; None when it would pass everything."""
        return None if self.tenants is None else self.covers


class Authorizer(Protocol):
    """Decides on rights."""

    async def authorize(self, identity: Identity, verb: PoolVerb, pool: PoolName) -> Scope:
        """For whom the caller may do this with the pool; PermissionDenied when for nobody.

        It is asked before the pool is looked up, so that nobody learns of pools they have no right on.
        """

    async def authorize_tenant(self, identity: Identity, pool: PoolName, tenant_id: str) -> None:
        """Asked for scopes that are `reviewed`: PermissionDenied unless the caller may act for this tenant,
        for every tenant when it is empty."""


class AllowAll:
    """Everybody may do everything: mode insecure."""

    _ALL = Scope()

    async def authorize(self, identity: Identity, verb: PoolVerb, pool: PoolName) -> Scope:
        """Never refuses."""
        return self._ALL

    async def authorize_tenant(self, identity: Identity, pool: PoolName, tenant_id: str) -> None:
        """Never refuses."""


class StaticGrants:
    """Rights that the settings list."""

    def __init__(self, grants: Sequence[Grant]) -> None:
        self._grants = tuple(grants)

    async def authorize(self, identity: Identity, verb: PoolVerb, pool: PoolName) -> Scope:
        """The union of all grants that match."""
        tenants: list[str] = []
        found = False
        for grant in self._grants:
            if verb not in grant.verbs or not _matches(grant, identity, pool):
                continue
            if grant.tenants is None:
                return Scope()
            found = True
            tenants.extend(grant.tenants)
        if not found:
            raise PermissionDenied(
                f"The caller may not {verb} on pool {pool}.",
                remedy=f"Ask the pool's administrator for the verb {verb} on this pool.",
            )
        return Scope(tuple(tenants))

    async def authorize_tenant(self, identity: Identity, pool: PoolName, tenant_id: str) -> None:
        """The scope says everything."""


def _matches(grant: Grant, identity: Identity, pool: PoolName) -> bool:
    return (
        fnmatchcase(identity.subject, grant.subject)
        and fnmatchcase(pool.namespace, grant.namespace)
        and fnmatchcase(pool.name, grant.pool)
    )
