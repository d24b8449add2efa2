# SPDX-License-Identifier: Apache-2.0
"""The ownership protocol on Redis: every decision is one Lua script on the keys of one hash tag."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from agentpool_core.errors import OwnershipLost, StoreUnavailable
from agentpool_core.lifecycle import Origin, PauseReason, Tier, Wish
from agentpool_core.names import Incarnation, InstanceKey, StoreKeys, tenant_hash

from . import encoding
from .base import (
    IDEMPOTENCY_SECONDS,
    MAX_PAGE,
    MICROSECONDS,
    PRUNE_BATCH,
    SWAP_SECONDS,
    Checkpoint,
    Claim,
    Ownership,
    Page,
    Record,
    Write,
)
from .calls import Calls, instance_keys
from .client import CALL_SECONDS, Argument, RedisClient
from .copies import Copy
from .encoding import text
from .flags import RedisFlags
from .refusals import data_lost, not_found, ownership_lost
from .scripts import SCRIPTS, Script
from .server_settings import problems
from .threads import restored, written

REAP_BATCH = 200
"""Instances released by one script: well under a millisecond, so that others do not notice."""

PING_SECONDS = 1.0
"""Bound of a sign of life."""


class RedisStore:
    """State and ownership of one pool's instances in Redis.

    Needs the commands EVALSHA, EVAL, TIME, PING, CONFIG GET (optional) and those of hashes,
    sorted sets, strings and keys, on the pool's prefix alone.

    Args:
        url: `redis://`, `rediss://`, `unix://`, or of Sentinel (see `agentpool_core.store_address`).
        pool_uid: UID of the pool; everything lies under it.
        clock: microseconds since 1970; None: Redis' own clock, read inside the scripts.
        timeout_seconds: bound of each call.
        client: use this connection instead of one of its own.
        scripts: the Lua to run.
        random: draws the name of a new generation or of a write, which has no blank.
    """

    def __init__(
        self,
        url: str,
        pool_uid: str,
        namespace: str,
        pool: str,
        *,
        clock: Callable[[], int] | None = None,
        timeout_seconds: float = CALL_SECONDS,
        client: RedisClient | None = None,
        scripts: Mapping[str, Script] = SCRIPTS,
        random: Callable[[], str] = lambda: secrets.token_hex(16),
    ) -> None:
        self._client = client or RedisClient(url, timeout_seconds=timeout_seconds, greeting=self._greeting)
        self._keys = StoreKeys(pool_uid)
        self._namespace, self._pool = namespace, pool
        self._clock = clock
        self._random = random
        self._calls = Calls(self._client, self._keys, scripts, clock, random)
        self.flags = RedisFlags(self._calls)
        self._copies: dict[str, Copy] = {}
        self._pruned = ""
        self._attempt = 0

    @property
    def shared(self) -> bool:
        """True: other hosts see the same state."""
        return True

    async def initialise(self) -> None:
        """See `Store.initialise`."""
        await self._client.command("SET", self._keys.generation, f"{self._random()} 0", "NX")
        await self._client.greet_again()

    async def claim(self, claim: Claim) -> Ownership:
        """See `Store.claim`."""
        caps = (claim.caps.total, claim.caps.tier, claim.caps.tenant)
        reply = await self._calls.run(
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
        *texts, failures = reply
        epoch, version, tier, fresh, generation, origin, declared_uid = (text(value) for value in texts)
        self._copies[claim.key.instance_id] = Copy(int(epoch), int(version))
        return Ownership(
            claim.key,
            claim.owner,
            int(epoch),
            Tier(tier),
            generation,
            bool(fresh),
            Origin(origin),
            declared_uid,
            bytes(failures),
        )

    async def load(self, ownership: Ownership, *, previous: bool = False) -> Checkpoint:
        """See `Store.load`."""
        instance_id = ownership.key.instance_id
        # The version is read before the state: a late write in between makes the next save fail, no mixture.
        facts = ("HMGET", self._keys.record(instance_id), "owner", "epoch", "version")
        commands: list[tuple[str, ...]] = [
            ("GET", self._keys.generation),
            facts,
            ("HGETALL", self._keys.checkpoint(instance_id)),
        ]
        if previous:
            commands += [("HGETALL", self._keys.previous(instance_id)), facts]
        generation, held, fields, *more = await self._client.pipeline(commands)
        owner, epoch, version = (text(value or b"") for value in held)
        if text(generation or b"").split(" ")[0] != ownership.generation or (
            epoch and int(epoch) < ownership.epoch
        ):
            raise data_lost(0.0)
        # Two hashes that were read while one write came in do not belong together.
        torn = previous and more[1] != held
        if torn or owner != str(ownership.owner) or int(epoch) != ownership.epoch:
            self._forget(ownership)
            raise ownership_lost()
        found = await restored(fields, more[0] if previous else None, ownership.epoch)
        self._copies[instance_id] = Copy(ownership.epoch, int(version), previous)
        return found

    async def save(self, ownership: Ownership, write: Write, *, again: bool = False) -> None:
        """See `Store.save`."""
        instance_id, copy = ownership.key.instance_id, self._copy(ownership)
        if again and not copy.unheard:
            # A claim or a load in between replaced what the write rested on.
            raise ownership_lost()
        if not again:
            copy = replace(copy, unheard=self._random())
            self._copies[instance_id] = copy
        reply = await self._run_fenced(
            "save", ownership, copy.version, "1" if copy.previous else "", copy.unheard, *await written(write)
        )
        previous = copy.previous and not (write.parts or write.removed)
        if self._copies.get(instance_id) is copy:
            self._copies[instance_id] = Copy(ownership.epoch, int(reply[0]), previous)

    async def register(self, ownership: Ownership, write: Write) -> Ownership:
        """See `Store.register`."""
        self._attempt = max(self._attempt + 1, time.monotonic_ns())
        key = ownership.key
        reply = await self._run_fenced(
            "register",
            ownership,
            self._copy(ownership).version,
            f"{self._attempt:020d}",
            ownership.tier.value,
            key.tenant_id,
            key.project_id,
            tenant_hash(key.tenant_id),
            ownership.origin.value,
            ownership.declared_uid,
            ownership.failures,
            *await written(write),
        )
        epoch, generation = int(reply[0]), text(reply[1])
        self._copies[key.instance_id] = Copy(epoch, 0)
        return Ownership(
            key,
            ownership.owner,
            epoch,
            ownership.tier,
            generation,
            not write.parts,
            ownership.origin,
            ownership.declared_uid,
            ownership.failures,
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
        self,
        ownership: Ownership,
        paused: PauseReason,
        *,
        rate: bytes = b"",
        clear_wish: bool = True,
        tier: Tier | None = None,
        cap: int | None = None,
    ) -> None:
        """See `Store.release`."""
        arguments = (
            paused.value,
            rate,
            "1" if clear_wish else "",
            tier.value if tier else "",
            "" if cap is None else cap,
        )
        await self._run_fenced("release", ownership, *arguments)
        self._forget(ownership)

    async def note(self, ownership: Ownership, failures: bytes, rate: bytes = b"") -> None:
        """See `Store.note`."""
        await self._run_fenced("note", ownership, failures, rate)

    async def place(self, instance_id: str, tier: Tier) -> Record:
        """See `Store.place`."""
        return self._record((await self._calls.run("place", instance_id, tier.value))[0])

    async def read(self, instance_id: str) -> tuple[Record, Checkpoint]:
        """See `Store.read`."""
        # The state first: what is erased in between is not found, instead of found empty.
        fields, record = await self._client.pipeline(
            [
                ("HGETALL", self._keys.checkpoint(instance_id)),
                ("HGETALL", self._keys.record(instance_id)),
            ]
        )
        if not record:
            await self.ping()
            raise not_found()
        return encoding.record(self._namespace, self._pool, record), await restored(fields)

    async def plant(self, key: InstanceKey, tier: Tier, checkpoint: Checkpoint, *, replace: bool) -> Record:
        """See `Store.plant`."""
        reply = await self._calls.run(
            "plant",
            key.instance_id,
            "1" if replace else "",
            tier.value,
            key.tenant_id,
            key.project_id,
            tenant_hash(key.tenant_id),
            Origin.OBSERVED.value,
            *await written(Write(checkpoint.parts, rate=checkpoint.rate)),
        )
        return self._record(reply[0])

    async def prune(self, older_than: float) -> int:
        """See `Store.prune`; each call looks at the next PRUNE_BATCH instances, and after the last one at the
        first ones again."""
        first = f"({self._pruned}" if self._pruned else "-"
        found: list[bytes] = await self._client.command(
            "ZRANGEBYLEX", self._keys.index, first, "+", "LIMIT", 0, PRUNE_BATCH
        )
        ids = [instance_id.decode() for instance_id in found]
        keys = [key for instance_id in ids for key in instance_keys(self._keys, instance_id)]
        reply = await self._calls.execute("prune", keys, [int(older_than * MICROSECONDS), *ids])
        self._pruned = ids[-1] if len(ids) == PRUNE_BATCH else ""
        return int(reply[0])

    async def pause(self, instance_id: str, paused: PauseReason | None) -> Record:
        """See `Store.pause`."""
        reason = paused or PauseReason.EVICTED
        return self._record((await self._calls.run("pause", instance_id, reason.value))[0])

    async def wish(self, instance_id: str, wish: Wish | None) -> Record:
        """See `Store.wish`."""
        return self._record((await self._calls.run("wish", instance_id, wish.value if wish else ""))[0])

    async def mark(self, instance_id: str, *, declared_uid: str = "", pinned: bool | None = None) -> Record:
        """See `Store.mark`."""
        pin = "" if pinned is None else "1" if pinned else "0"
        return self._record((await self._calls.run("mark", instance_id, declared_uid, pin))[0])

    async def erase(
        self, instance_id: str, by: Incarnation, ended: frozenset[Incarnation] = frozenset()
    ) -> None:
        """See `Store.erase`."""
        await self._calls.run(
            "erase", instance_id, str(by), *sorted(str(incarnation) for incarnation in ended)
        )
        self._copies.pop(instance_id, None)

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
            reply = await self._calls.execute("reap", records, [str(ended), *ids])
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
        """See `Store.ping`; bounded more tightly than a write, so that a silent store shows soon."""
        try:
            async with asyncio.timeout(PING_SECONDS):
                await self._client.open()
                await self._calls.execute("observe", (), ("",))
        except TimeoutError as exc:
            raise StoreUnavailable("The store is silent.", retry_after_seconds=1.0) from exc

    async def problems(self) -> Sequence[str]:
        """See `Store.problems`."""
        return await problems(self._client)

    async def close(self) -> None:
        """See `Store.close`."""
        await self._client.close()

    def _copy(self, ownership: Ownership) -> Copy:
        copy = self._copies.get(ownership.key.instance_id)
        return copy if copy and copy.epoch == ownership.epoch else Copy(ownership.epoch, 0)

    def _forget(self, ownership: Ownership) -> None:
        instance_id = ownership.key.instance_id
        # A stale ownership must not take the present one's number along.
        if self._copies.get(instance_id, Copy(0, 0)).epoch == ownership.epoch:
            del self._copies[instance_id]

    def _greeting(self, address: str) -> tuple[Argument, ...]:
        return self._calls.greeting(address)

    def _record(self, flat: Sequence[bytes]) -> Record:
        return encoding.record(self._namespace, self._pool, encoding.pairs(flat))

    async def _run_fenced(self, name: str, ownership: Ownership, *args: Argument) -> Sequence[Any]:
        fence = (str(ownership.owner), ownership.epoch, ownership.generation)
        try:
            return await self._calls.run(name, ownership.key.instance_id, *fence, *args)
        except OwnershipLost:
            self._forget(ownership)
            raise
