# SPDX-License-Identifier: Apache-2.0
"""The ownership protocol on Redis: every decision is one Lua script on the keys of one hash tag."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from agentpool_core.errors import (
    InstanceNotFound,
    InstancePaused,
    NotOwner,
    OwnershipLost,
    PoolExhausted,
    StoreDataLost,
    StoreUnavailable,
)
from agentpool_core.lifecycle import Origin, PauseReason, Tier, Wish
from agentpool_core.names import Incarnation, StoreKeys, tenant_hash

from . import encoding
from .base import (
    IDEMPOTENCY_SECONDS,
    MAX_PAGE,
    RECOVERY_SECONDS,
    SWAP_SECONDS,
    Checkpoint,
    Claim,
    Ownership,
    Page,
    Record,
    Write,
)
from .client import Argument, RedisClient
from .encoding import MICROSECONDS, text
from .scripts import SCRIPTS, Script

REAP_BATCH = 200
"""Instances released by one script: well under a millisecond, so that others do not notice."""

_CAPS = {
    "total": "The pool's limits.maxInstances is reached.",
    "tier": "The tier's maxInstances is reached.",
    "tenant": "The tenant's bound on instances is reached.",
}


class RedisStore:
    """State and ownership of one pool's instances in Redis.

    Needs the commands EVALSHA, EVAL, TIME, PING, CONFIG GET (optional) and those of hashes,
    sorted sets, strings and keys, on the pool's prefix alone.

    Args:
        url: `redis://`, `rediss://` or `unix://`.
        pool_uid: UID of the pool; everything lies under it.
        clock: microseconds since 1970; None: Redis' own clock, read inside the scripts.
        timeout_seconds: bound of each call.
        client: use this connection instead of one of its own.
        scripts: the Lua to run.
        random: draws the name of a new generation, which has no blank.
    """

    def __init__(
        self,
        url: str,
        pool_uid: str,
        namespace: str,
        pool: str,
        *,
        clock: Callable[[], int] | None = None,
        timeout_seconds: float = 1.0,
        client: RedisClient | None = None,
        scripts: Mapping[str, Script] = SCRIPTS,
        random: Callable[[], str] = lambda: secrets.token_hex(16),
    ) -> None:
        self._client = client or RedisClient(url, timeout_seconds=timeout_seconds)
        self._keys = StoreKeys(pool_uid)
        self._namespace, self._pool = namespace, pool
        self._clock = clock
        self._scripts = scripts
        self._random = random
        # Epoch and number of the last write that this process knows of: what its copies rest on.
        self._versions: dict[str, tuple[int, int]] = {}
        self._attempt = 0

    @property
    def shared(self) -> bool:
        """True: other hosts see the same state."""
        return True

    async def initialise(self) -> None:
        """See `Store.initialise`."""
        await self._client.command("SET", self._keys.generation, f"{self._random()} 0", "NX")

    async def claim(self, claim: Claim) -> Ownership:
        """See `Store.claim`."""
        caps = (claim.caps.total, claim.caps.tier, claim.caps.tenant)
        reply = await self._run(
            "claim",
            claim.key.instance_id,
            str(claim.owner),
            claim.tier.value,
            claim.key.tenant_id,
            claim.key.project_id,
            tenant_hash(claim.key.tenant_id),
            claim.origin.value,
            claim.declared_uid,
            "1" if claim.resume else "",
            *("" if cap is None else cap for cap in caps),
            SWAP_SECONDS * MICROSECONDS,
            *sorted(str(incarnation) for incarnation in claim.ended),
        )
        epoch, version, tier, fresh, generation, origin, declared_uid = (text(value) for value in reply)
        self._versions[claim.key.instance_id] = (int(epoch), int(version))
        return Ownership(
            claim.key,
            claim.owner,
            int(epoch),
            Tier(tier),
            generation,
            bool(fresh),
            Origin(origin),
            declared_uid,
        )

    async def load(self, ownership: Ownership) -> Checkpoint:
        """See `Store.load`."""
        instance_id = ownership.key.instance_id
        # The version is read before the state: a late write in between makes the next save fail, no mixture.
        generation, held, fields = await self._client.pipeline(
            [
                ("GET", self._keys.generation),
                ("HMGET", self._keys.record(instance_id), "owner", "epoch", "version"),
                ("HGETALL", self._keys.checkpoint(instance_id)),
            ]
        )
        owner, epoch, version = (text(value or b"") for value in held)
        if text(generation or b"").split(" ")[0] != ownership.generation or (
            epoch and int(epoch) < ownership.epoch
        ):
            raise _data_lost(0.0)
        if owner != str(ownership.owner) or int(epoch) != ownership.epoch:
            self._forget(ownership)
            raise _ownership_lost()
        self._versions[instance_id] = (ownership.epoch, int(version))
        return encoding.checkpoint(fields)

    async def save(self, ownership: Ownership, write: Write) -> None:
        """See `Store.save`."""
        arguments = encoding.write_arguments(write)
        reply = await self._run_fenced("save", ownership, self._version(ownership), *arguments)
        self._versions[ownership.key.instance_id] = (ownership.epoch, int(reply[0]))

    async def register(self, ownership: Ownership, write: Write) -> Ownership:
        """See `Store.register`."""
        self._attempt = max(self._attempt + 1, time.monotonic_ns())
        key = ownership.key
        reply = await self._run_fenced(
            "register",
            ownership,
            self._version(ownership),
            f"{self._attempt:020d}",
            ownership.tier.value,
            key.tenant_id,
            key.project_id,
            tenant_hash(key.tenant_id),
            ownership.origin.value,
            ownership.declared_uid,
            *encoding.write_arguments(write),
        )
        epoch, generation = int(reply[0]), text(reply[1])
        self._versions[key.instance_id] = (epoch, 0)
        return Ownership(
            key,
            ownership.owner,
            epoch,
            ownership.tier,
            generation,
            not write.parts,
            ownership.origin,
            ownership.declared_uid,
        )

    async def recall(self, instance_id: str, idempotency_key: str) -> bytes | None:
        """See `Store.recall`."""
        final, stamp, server_time = await self._client.pipeline(
            [
                ("HGET", self._keys.idempotency(instance_id), idempotency_key),
                ("ZSCORE", self._keys.idempotency_order(instance_id), idempotency_key),
                ("TIME",),
            ]
        )
        if final is None or stamp is None:
            return None
        seconds, microseconds = server_time
        now = self._clock() if self._clock else int(seconds) * MICROSECONDS + int(microseconds)
        expired = now - float(stamp) > IDEMPOTENCY_SECONDS * MICROSECONDS
        return None if expired else bytes(final)

    async def release(
        self, ownership: Ownership, paused: PauseReason, *, rate: bytes = b"", clear_wish: bool = True
    ) -> None:
        """See `Store.release`."""
        await self._run_fenced("release", ownership, paused.value, rate, "1" if clear_wish else "")
        self._forget(ownership)

    async def pause(self, instance_id: str, paused: PauseReason | None) -> Record:
        """See `Store.pause`."""
        reason = paused or PauseReason.EVICTED
        return self._record((await self._run("pause", instance_id, reason.value))[0])

    async def wish(self, instance_id: str, wish: Wish | None) -> Record:
        """See `Store.wish`."""
        return self._record((await self._run("wish", instance_id, wish.value if wish else ""))[0])

    async def erase(
        self, instance_id: str, by: Incarnation, ended: frozenset[Incarnation] = frozenset()
    ) -> None:
        """See `Store.erase`."""
        await self._run("erase", instance_id, str(by), *sorted(str(incarnation) for incarnation in ended))
        self._versions.pop(instance_id, None)

    async def reap(self, ended: Incarnation) -> int:
        """See `Store.reap`."""
        prefix, released = f"{ended}|", 0
        after = f"[{prefix}"
        while True:
            members: list[bytes] = await self._client.command(
                "ZRANGEBYLEX", self._keys.owners, after, f"({ended}}}", "LIMIT", 0, REAP_BATCH
            )
            if not members:
                return released
            ids = [member.decode().removeprefix(prefix) for member in members]
            records = [self._keys.record(instance_id) for instance_id in ids]
            reply = await self._execute("reap", records, [str(ended), *ids])
            released += int(reply[0])
            after = f"({members[-1].decode()}"

    async def get(self, instance_id: str) -> Record | None:
        """See `Store.get`."""
        fields = await self._client.command("HGETALL", self._keys.record(instance_id))
        return encoding.record(self._namespace, self._pool, fields) if fields else None

    async def list(self, cursor: str = "", limit: int = 100) -> Page:
        """See `Store.list`."""
        limit = min(max(limit, 1), MAX_PAGE)
        first = f"({cursor}" if cursor else "-"
        found: list[bytes] = await self._client.command(
            "ZRANGEBYLEX", self._keys.index, first, "+", "LIMIT", 0, limit + 1
        )
        ids = [instance_id.decode() for instance_id in found[:limit]]
        if not ids:
            return Page((), "")
        hashes = await self._client.pipeline(
            [("HGETALL", self._keys.record(instance_id)) for instance_id in ids]
        )
        records = [encoding.record(self._namespace, self._pool, fields) for fields in hashes if fields]
        return Page(records, ids[-1] if len(found) > limit else "")

    async def ping(self) -> None:
        """See `Store.ping`."""
        await self._execute("observe", (), ("",))

    async def problems(self) -> Sequence[str]:
        """See `Store.problems`."""
        try:
            settings = {
                name: text((await self._client.command("CONFIG", "GET", name))[1])
                for name in ("appendonly", "maxmemory-policy")
            }
        except (StoreUnavailable, IndexError):
            # A pool's own user may not read them; its administrator, the operator, looks instead.
            await self._client.command("PING")
            return ()
        found = []
        if settings["appendonly"] != "yes":
            found.append("The store loses everything when it restarts: set appendonly yes.")
        if settings["maxmemory-policy"] != "noeviction":
            found.append(
                "The store may drop state when its memory is full "
                f"(maxmemory-policy {settings['maxmemory-policy']}): set noeviction."
            )
        return found

    async def close(self) -> None:
        """See `Store.close`."""
        await self._client.close()

    def _version(self, ownership: Ownership) -> int:
        epoch, version = self._versions.get(ownership.key.instance_id, (ownership.epoch, 0))
        return version if epoch == ownership.epoch else 0

    def _forget(self, ownership: Ownership) -> None:
        instance_id = ownership.key.instance_id
        # A stale ownership must not take the present one's number along.
        if self._versions.get(instance_id, (None, 0))[0] == ownership.epoch:
            del self._versions[instance_id]

    def _record(self, flat: Sequence[bytes]) -> Record:
        return encoding.record(self._namespace, self._pool, encoding.pairs(flat))

    async def _run_fenced(self, name: str, ownership: Ownership, *args: Argument) -> Sequence[Any]:
        fence = (str(ownership.owner), ownership.epoch, ownership.generation)
        try:
            return await self._run(name, ownership.key.instance_id, *fence, *args)
        except OwnershipLost:
            self._forget(ownership)
            raise

    async def _run(self, name: str, instance_id: str, *args: Argument) -> Sequence[Any]:
        keys = self._keys
        instance_keys = (
            keys.record(instance_id),
            keys.checkpoint(instance_id),
            keys.idempotency(instance_id),
            keys.idempotency_order(instance_id),
        )
        return await self._execute(name, instance_keys, (instance_id, *args))

    async def _execute(self, name: str, keys: Iterable[str], args: Iterable[Argument]) -> Sequence[Any]:
        pool = self._keys
        reply = await self._client.run(
            self._scripts[name],
            (pool.generation, pool.index, pool.owners, pool.counts, *keys),
            (
                self._clock() if self._clock else "",
                self._random(),
                RECOVERY_SECONDS * MICROSECONDS,
                *args,
            ),
        )
        _raise_refusal(text(reply[0]), reply[1:])
        return reply[1:]


def _data_lost(retry_after_seconds: float) -> StoreDataLost:
    return StoreDataLost(
        "The store lost its data; holders of instances register them again.",
        retry_after_seconds=retry_after_seconds,
    )


def _ownership_lost() -> OwnershipLost:
    return OwnershipLost("This host no longer owns the instance.", retry_after_seconds=0.1)


def _raise_refusal(word: str, facts: Sequence[Any]) -> None:
    match word:
        case "LOST":
            raise _data_lost(int(facts[0]) / MICROSECONDS)
        case "GONE":
            raise _ownership_lost()
        case "NOT_OWNER":
            raise NotOwner(text(facts[0]))
        case "PAUSED":
            raise InstancePaused("A user paused this instance.")
        case "FULL":
            raise PoolExhausted(_CAPS[text(facts[0])], retry_after_seconds=1.0)
        case "MISSING":
            raise InstanceNotFound("The store knows no such instance.")
