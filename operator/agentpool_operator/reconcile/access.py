# SPDX-License-Identifier: Apache-2.0
"""Each pool's access to Redis: its user there and its Secret here."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable

from agentpool_core.cluster import REDIS_ADMIN_SECRET
from agentpool_operator.desired.naming import Owner
from agentpool_operator.desired.objects import admin_secret, redis_secret
from agentpool_operator.kube.kinds import SECRETS, Cluster, Conflict, Object
from agentpool_operator.store import PoolAccess, StoreAdmin, StoreAway, pool_url
from agentpool_operator.store.access import new_password, password_of


class Access:
    """Gives pools their access, and knows the administrator's.

    Args:
        namespace: of the release, where the administrator's Secret is.
        secret: its name.
        address: of the release's own Redis; its administrator is made up when the Secret is missing.
        open_admin: makes the connection; tests give their own.
    """

    def __init__(
        self,
        cluster: Cluster,
        namespace: str,
        secret: str = REDIS_ADMIN_SECRET,
        address: str = "",
        open_admin: Callable[[str, str], StoreAdmin] = StoreAdmin,
        random: Callable[[], str] = lambda: secrets.token_hex(16),
    ) -> None:
        self._cluster = cluster
        self._namespace, self._secret = namespace, secret
        self._address = address
        self._open = open_admin
        self._random = random
        self._admin: StoreAdmin | None = None

    async def admin(self, renew: bool = False) -> StoreAdmin:
        """The administrator's connection; `renew`: look whether the Secret changed. Raises StoreAway."""
        if self._admin is not None and not renew:
            return self._admin
        body = await self._cluster.get(SECRETS, self._namespace, self._secret)
        if body is None and self._address:
            body = await self._make_administrator()
        url = value_of(body, "url")
        if not url:
            raise StoreAway(
                f"Secret {self._namespace}/{self._secret} with key url is missing. Create it with an "
                "administrator's URL of Redis, or set checkpoint.storage to Memory."
            )
        if self._admin is None or self._admin.url != url:
            before, self._admin = self._admin, self._open(url, self._namespace)
            if before is not None:
                await before.close()
        return self._admin

    async def _make_administrator(self) -> Object | None:
        password = new_password()
        secret = admin_secret(self._namespace, self._secret, self._address, password)
        try:
            return await self._cluster.create(SECRETS, self._namespace, secret)
        except Conflict:
            return await self._cluster.get(SECRETS, self._namespace, self._secret)

    async def ensure(self, owner: Owner, generation: str, force: bool) -> str:
        """See to the pool's user and Secret; returns the name of its data.

        Args:
            generation: the name reported before; empty: the pool is new, and the store is told so.
            force: assert also what was granted before.

        Raises StoreAway, KubeError.
        """
        admin = await self.admin()
        body = await self._cluster.get(SECRETS, owner.namespace, owner.secret_name)
        password = password_of(value_of(body, "url")) or new_password()
        access = PoolAccess(owner.uid, password)
        await admin.grant(access, f"{owner.namespace}/{owner.name}", force)
        url = pool_url(admin.url, access)
        if body is None:
            try:
                await self._cluster.create(SECRETS, owner.namespace, redis_secret(owner, url))
            except Conflict as exc:
                # Made meanwhile with another password: the next run grants that one.
                raise StoreAway("The pool's Secret appeared just now.") from exc
        elif value_of(body, "url") != url:
            await self._cluster.apply(SECRETS, owner.namespace, redis_secret(owner, url))
        if not generation:
            return await admin.initialise(owner.uid, self._random())
        return await admin.generation(owner.uid) or ""

    async def close(self) -> None:
        """Drop the connection."""
        if self._admin is not None:
            await self._admin.close()


def value_of(secret: Object | None, key: str) -> str:
    """A value of a Secret, empty when it is not there."""
    encoded = ((secret or {}).get("data") or {}).get(key, "")
    return base64.b64decode(encoded).decode().strip()
