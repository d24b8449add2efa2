# SPDX-License-Identifier: Apache-2.0
"""The one door to pools that both edges use: authenticate, authorize, then look up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from agentpool_core.errors import InstanceNotFound, PermissionDenied
from agentpool_gateway.admission.audit import AuditLine
from agentpool_gateway.admission.cluster import ClusterIssuer
from agentpool_gateway.admission.identity import Anonymous, Authenticator, Identity, JwtAuthenticator
from agentpool_gateway.admission.keys import Fetch, KeySource, fetch_file, fetch_url
from agentpool_gateway.admission.reviews import AccessReviews, Reviewer
from agentpool_gateway.admission.rights import AllowAll, Authorizer, Scope, StaticGrants
from agentpool_gateway.dispatch.manager import PoolManager
from agentpool_gateway.dispatch.pools import Pools
from agentpool_gateway.membership.base import PoolName
from agentpool_gateway.settings import AuthMode, AuthSettings, Issuer, PoolVerb


@dataclass(frozen=True, slots=True)
class Entry:
    """A caller who may do something with a pool."""

    identity: Identity
    name: PoolName
    pool: PoolManager
    scope: Scope


class Gate:
    """Admits callers to pools."""

    def __init__(self, authenticator: Authenticator, authorizer: Authorizer, pools: Pools) -> None:
        self._authenticator = authenticator
        self._authorizer = authorizer
        self._pools = pools

    @property
    def pools(self) -> Pools:
        """The pools behind the gate."""
        return self._pools

    async def enter(
        self, authorization: str | None, namespace: str, pool: str, verb: PoolVerb, line: AuditLine
    ) -> Entry:
        """Let a caller do `verb` with a pool, and note both; both names empty means the default pool.

        Raises Unauthenticated, then PermissionDenied, and only then PoolNotFound.
        """
        identity = await self._authenticator.authenticate(authorization)
        line.caller(identity)
        name = self._pools.resolve(namespace, pool)
        line.pool(name)
        scope = await self._authorizer.authorize(identity, verb, name)
        return Entry(identity, name, self._pools.find(name), scope)

    async def may_act_for(self, entry: Entry, tenant_id: str) -> None:
        """Require that the caller's right covers this tenant."""
        entry.scope.require(tenant_id)
        if entry.scope.reviewed:
            await self._authorizer.authorize_tenant(entry.identity, entry.name, tenant_id)

    async def may_place(self, entry: Entry, tenant_id: str) -> None:
        """Require the right to choose a tier."""
        scope = await self._authorizer.authorize(entry.identity, PoolVerb.PLACE, entry.name)
        scope.require(tenant_id)

    async def may_list(self, entry: Entry, tenant_id: str) -> None:
        """Require the right to list the instances of one tenant, or of all that the scope does not hide."""
        if entry.scope.reviewed:
            await self._authorizer.authorize_tenant(entry.identity, entry.name, tenant_id)

    async def may_act_for_all(self, entry: Entry) -> None:
        """Require that the caller's right covers every tenant, those that will come as well."""
        if entry.scope.tenants is not None:
            raise PermissionDenied(
                "The caller's right is for some tenants only.",
                remedy="Ask the pool's administrator for the right without tenants.",
            )
        await self.may_list(entry, "")

    async def may_touch(self, entry: Entry, instance_id: str) -> None:
        """Require that the instance belongs to a tenant that the caller's right covers.

        One that does not exist is refused the same way, so that ids of other tenants cannot be found out.
        """
        if entry.scope.tenants is None and not entry.scope.reviewed:
            return
        try:
            instance = await entry.pool.get_instance(instance_id)
        except InstanceNotFound as exc:
            raise PermissionDenied("The caller has no right for this tenant.") from exc
        await self.may_act_for(entry, instance.tenant_id)


def make_gate(
    auth: AuthSettings,
    pools: Pools,
    wall_clock: Callable[[], float],
    clock: Callable[[], float],
    reviewer: Reviewer | None = None,
    cluster: ClusterIssuer | None = None,
) -> Gate:
    """The gate that the settings describe.

    Args:
        reviewer: the cluster that decides on rights, in place of the grants of the settings.
        cluster: its tokens, if they are taken.
    """
    if auth.mode is AuthMode.INSECURE:
        return Gate(Anonymous(), AllowAll(), pools)
    sources = [(one, KeySource(one.issuer, _fetch(one), clock)) for one in auth.issuers]
    authorizer: Authorizer = StaticGrants(auth.grants)
    if reviewer is not None:
        authorizer = AccessReviews(reviewer, auth.tenant_binding, clock)
    return Gate(JwtAuthenticator(sources, wall_clock, cluster), authorizer, pools)


def _fetch(issuer: Issuer) -> Fetch:
    if issuer.jwks_file is not None:
        return fetch_file(issuer.jwks_file)
    return fetch_url(issuer.jwks_url or "")
