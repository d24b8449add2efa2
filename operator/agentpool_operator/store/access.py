# SPDX-License-Identifier: Apache-2.0
"""The pools' users, and the end of those whose pool is gone.

A pool's user reaches the keys below the pool's UID and nothing else: not other pools' keys, not their names,
not the server's settings. Which pools this operator gave users to is kept in Redis itself, so that two
operators on one Redis leave each other's pools alone: in a hash, and on each user, for a Redis that lost its
data may have kept its users.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

import structlog
from redis.exceptions import RedisError, ResponseError

from agentpool_core.names import StoreKeys
from agentpool_operator.store.servers import Servers

log = structlog.get_logger(__name__)

CALL_SECONDS = 3.0
SCAN_COUNT = 500
USER_PREFIX = "ap-"
COMMANDS = (
    *("+@hash", "+@sortedset", "+@string", "+@keyspace", "-@dangerous"),
    # They show keys, or the number of keys, of everybody.
    *("-scan", "-randomkey", "-dbsize"),
    *("+evalsha", "+eval", "+time", "+ping"),
)


class StoreAway(Exception):
    """Redis cannot be reached, or does not do what its administrator asks."""


@dataclass(frozen=True, slots=True)
class PoolAccess:
    """A pool's name and password."""

    uid: str
    password: str

    @property
    def user(self) -> str:
        """Name of the ACL user."""
        return USER_PREFIX + self.uid

    @property
    def digest(self) -> str:
        """The password as Redis keeps it."""
        return hashlib.sha256(self.password.encode()).hexdigest()

    def rules(self, registry: str) -> tuple[str, ...]:
        """What the user may. The channel tells whose user it is: no command for channels is among those."""
        pattern = "~" + StoreKeys(self.uid).prefix + "*"
        return ("reset", "on", f"#{self.digest}", "resetchannels", f"&{registry}", pattern, *COMMANDS)


def pool_url(admin_url: str, access: PoolAccess) -> str:
    """The URL for a pool's hosts: the administrator's server and database with the pool's own user."""
    parts = urlsplit(admin_url)
    place = parts.netloc.rpartition("@")[2]
    user = f"{quote(access.user, safe='')}:{quote(access.password, safe='')}"
    return urlunsplit(parts._replace(netloc=f"{user}@{place}"))


def password_of(url: str) -> str:
    """The password in a URL, empty when there is none."""
    return urlsplit(url).password or ""


class StoreAdmin:
    """See the module.

    Args:
        url: with an administrator's rights; a secret.
        realm: name of this operator among those that share the Redis.
    """

    def __init__(self, url: str, realm: str) -> None:
        self.url = url
        self._registry = f"agentpool:pools:{realm}"
        self._servers = Servers(url, CALL_SECONDS)
        self._granted: dict[str, str] = {}

    async def grant(self, access: PoolAccess, name: str, force: bool = False) -> None:
        """See to it that the pool's user exists with this password and these rights, and that Redis keeps it.

        Asserted once, and again with `force`; in between what was granted is trusted. Redis takes on all
        rules of one command at once, so a user in use is never without them.
        """
        wanted = access.digest + " ".join(COMMANDS)
        if not force and self._granted.get(access.uid) == wanted:
            return
        before, rules = await self._line(access.user), access.rules(self._registry)
        await self._do("ACL", "SETUSER", access.user, *rules)
        await self._on_replicas("ACL", "SETUSER", access.user, *rules)
        if before != await self._line(access.user):
            await self._save()
            log.info("store_user_set", pool_uid=access.uid)
        await self._do("HSET", self._registry, access.uid, name)
        self._granted[access.uid] = wanted

    async def initialise(self, uid: str, random: str) -> str:
        """Say that the pool is new, if its data has no name yet; returns the name that it has."""
        key = StoreKeys(uid).generation
        await self._do("SET", key, f"{random} 0", "NX")
        return await self.generation(uid) or random

    async def generation(self, uid: str) -> str | None:
        """The name of the pool's data; None when there is none."""
        value = await self._do("GET", StoreKeys(uid).generation)
        return str(value).split(" ")[0] if value else None

    async def sweep(self, living: Collection[str]) -> list[str]:
        """Remove users and keys of pools of this operator that live no more; returns their UIDs."""
        known = {*await self._do("HKEYS", self._registry), *await self._marked()}
        gone = sorted(known.difference(living))
        for uid in gone:
            # First the user, whose connections end with it: nobody writes any more. Then the keys.
            await self._do("ACL", "DELUSER", USER_PREFIX + uid)
            await self._on_replicas("ACL", "DELUSER", USER_PREFIX + uid)
            await self._save()
            await self._erase(StoreKeys(uid).prefix)
            await self._do("HDEL", self._registry, uid)
            self._granted.pop(uid, None)
            log.info("store_pool_removed", pool_uid=uid)
        return gone

    async def problems(self) -> Sequence[str]:
        """What is wrong with the server's settings, one sentence each; empty also when it does not tell."""
        try:
            policy = await self._setting("maxmemory-policy")
            persistent = await self._setting("appendonly")
        except StoreAway:
            # A hosted Redis often hides its settings.
            return ()
        found = []
        if policy not in ("noeviction", ""):
            found.append(f"maxmemory-policy is {policy}: state can vanish. Set it to noeviction.")
        if persistent == "no":
            found.append("appendonly is off: a restart of Redis loses all state. Turn it on.")
        return found

    async def close(self) -> None:
        """Drop connections."""
        await self._servers.close()

    async def _marked(self) -> list[str]:
        """UIDs of the pools whose users say that they are this operator's."""
        lines = [line.split() for line in await self._do("ACL", "LIST")]
        mine = [line[1] for line in lines if f"&{self._registry}" in line]
        return [user.removeprefix(USER_PREFIX) for user in mine if user.startswith(USER_PREFIX)]

    async def _line(self, user: str) -> str:
        lines: list[str] = await self._do("ACL", "LIST")
        # Redis lists commands in no fixed order.
        return next((" ".join(sorted(line.split())) for line in lines if line.split()[1] == user), "")

    async def _save(self) -> None:
        try:
            await self._do("ACL", "SAVE")
        except StoreAway as exc:
            # Without an aclfile users live in memory; each resync sets them again.
            log.info("acl_not_saved", reason=str(exc))

    async def _erase(self, prefix: str) -> None:
        cursor = 0
        pattern = prefix.replace("[", "\\[") + "*"
        while True:
            cursor, keys = await self._do("SCAN", cursor, "MATCH", pattern, "COUNT", SCAN_COUNT)
            if keys:
                await self._do("UNLINK", *keys)
            cursor = int(cursor)
            if cursor == 0:
                return

    async def _setting(self, name: str) -> str:
        answer = await self._do("CONFIG", "GET", name)
        pairs = answer if isinstance(answer, dict) else dict(zip(answer[::2], answer[1::2], strict=True))
        return str(pairs.get(name, ""))

    async def _on_replicas(self, *command: Any) -> None:
        # Redis does not replicate users. A replica that is away now gets them at the next full pass.
        try:
            async with asyncio.timeout(CALL_SECONDS):
                async for replica in self._servers.replicas():
                    await replica.execute_command(*command)
                    with suppress(ResponseError):
                        await replica.execute_command("ACL", "SAVE")
        except (TimeoutError, RedisError, OSError) as exc:
            log.warning("store_replica_not_told", reason=f"{type(exc).__name__}: {exc}")

    async def _do(self, *command: Any) -> Any:
        try:
            async with asyncio.timeout(CALL_SECONDS):
                return await self._servers.master.execute_command(*command)
        except TimeoutError as exc:
            raise StoreAway(f"Redis did not answer in {CALL_SECONDS:g} s.") from exc
        except (RedisError, OSError) as exc:
            raise StoreAway(f"Redis: {type(exc).__name__}: {exc}") from exc


def new_password() -> str:
    """A password that nobody can guess."""
    return secrets.token_urlsafe(32)
