# SPDX-License-Identifier: Apache-2.0
"""The ownership protocol inside one process: state lives as long as the process does."""

from __future__ import annotations

import bisect
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from agentpool_core.errors import InstanceExists, InstancePaused, NotOwner, PoolExhausted
from agentpool_core.lifecycle import Origin, PauseReason, Tier, Wish
from agentpool_core.names import Incarnation, InstanceKey

from .base import (
    IDEMPOTENCY_KEPT,
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
from .flags import MemoryFlags
from .refusals import no_earlier_state, not_found, ownership_lost

GENERATION = "memory"
"""Never changes: the data is lost together with every holder."""


@dataclass(slots=True)
class _Instance:
    key: InstanceKey
    tier: Tier
    origin: Origin
    declared_uid: str
    owner: Incarnation | None = None
    epoch: int = 0
    paused: PauseReason | None = None
    wish: Wish | None = None
    updated: int = 0
    swapped: int | None = None
    failures: bytes = b""
    pinned: bool = False
    parts: dict[str, bytes] = field(default_factory=dict)
    previous: dict[str, bytes] = field(default_factory=dict)
    """The parts before the last write that changed them; empty: not known."""
    taken_back: bool = False
    """Whether the owner's copy rests on the previous parts."""
    rate: bytes = b""
    finals: OrderedDict[str, tuple[int, bytes]] = field(default_factory=OrderedDict)
    """By Idempotency-Key, oldest first."""

    def record(self) -> Record:
        return Record(
            self.key,
            self.tier,
            self.owner,
            self.epoch,
            self.origin,
            self.declared_uid,
            self.paused,
            self.wish,
            self.updated / MICROSECONDS,
            self.failures,
            self.pinned,
        )

    def apply(self, write: Write, now: int) -> None:
        if write.parts or write.removed:
            before = self.previous if self.taken_back else self.parts
            after = {**before, **write.parts}
            self.parts = {name: body for name, body in after.items() if name not in write.removed}
            self.previous, self.taken_back = before, False
        self.rate = write.rate or self.rate
        for key, final in write.finals.items():
            self.finals.pop(key, None)
            self.finals[key] = (now, final)
        while len(self.finals) > IDEMPOTENCY_KEPT:
            self.finals.popitem(last=False)


class MemoryStore:
    """State and ownership of one pool's instances in this process.

    Args:
        clock: microseconds since 1970.
    """

    def __init__(
        self, namespace: str, pool: str, *, clock: Callable[[], int] = lambda: time.time_ns() // 1000
    ) -> None:
        self.namespace, self.pool = namespace, pool
        self._clock = clock
        self.flags = MemoryFlags(clock)
        self._instances: dict[str, _Instance] = {}
        self._ids: list[str] = []

    @property
    def shared(self) -> bool:
        """False: only this process sees the state."""
        return False

    async def initialise(self) -> None:
        """See `Store.initialise`; there is nothing to draw."""

    async def claim(self, claim: Claim) -> Ownership:
        """See `Store.claim`."""
        now = self._clock()
        found = self._instances.get(claim.key.instance_id)
        instance = found or _Instance(claim.key, claim.tier, claim.origin, claim.declared_uid)
        if instance.owner != claim.owner:
            swapped = _succession(instance, claim.owner, claim.ended, now)
            if instance.paused is PauseReason.USER_REQUESTED and not claim.resume:
                raise InstancePaused("A user paused this instance.")
            self._check_caps(instance, claim)
            if found is None:
                self._instances[claim.key.instance_id] = instance
                bisect.insort(self._ids, claim.key.instance_id)
            instance.owner, instance.tier, instance.paused = claim.owner, claim.tier, None
            instance.epoch = max(instance.epoch + 1, now)
            instance.swapped = swapped
        instance.updated, instance.taken_back = now, False
        return _ownership(instance, claim.owner)

    async def load(self, ownership: Ownership, *, previous: bool = False) -> Checkpoint:
        """See `Store.load`."""
        instance = self._owned(ownership)
        if previous and not instance.previous:
            raise no_earlier_state()
        instance.taken_back = previous
        return Checkpoint(dict(instance.previous if previous else instance.parts), instance.rate)

    async def save(self, ownership: Ownership, write: Write, *, again: bool = False) -> None:
        """See `Store.save`; each call is answered, so what comes again was made."""
        instance = self._owned(ownership)
        if again:
            return
        instance.updated = self._clock()
        instance.apply(write, instance.updated)

    async def register(self, ownership: Ownership, write: Write) -> Ownership:
        """See `Store.register`; as nothing is ever lost, only the present owner can."""
        instance = self._owned(ownership)
        now = self._clock()
        instance.epoch, instance.updated = max(instance.epoch + 1, now), now
        instance.parts, instance.rate, instance.taken_back = {}, b"", False
        instance.apply(write, now)
        instance.previous = {}
        return _ownership(instance, ownership.owner)

    async def recall(self, instance_id: str, idempotency_key: str) -> bytes | None:
        """See `Store.recall`."""
        instance = self._instances.get(instance_id)
        if instance is None or idempotency_key not in instance.finals:
            return None
        stamp, final = instance.finals[idempotency_key]
        return None if self._clock() - stamp > IDEMPOTENCY_SECONDS * MICROSECONDS else final

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
        instance = self._owned(ownership)
        held = sum(1 for one in self._instances.values() if one.owner is not None and one.tier is tier)
        if cap is not None and tier is not instance.tier and held >= cap:
            raise PoolExhausted("The tier's maxInstances is reached.", retry_after_seconds=1.0)
        instance.owner, instance.paused, instance.updated = None, paused, self._clock()
        instance.rate = rate or instance.rate
        instance.tier = tier or instance.tier
        if clear_wish:
            instance.wish = None

    async def note(self, ownership: Ownership, failures: bytes, rate: bytes = b"") -> None:
        """See `Store.note`."""
        instance = self._owned(ownership)
        instance.failures, instance.rate = failures, rate or instance.rate

    async def place(self, instance_id: str, tier: Tier) -> Record:
        """See `Store.place`."""
        instance = self._free(instance_id)
        instance.tier = tier
        return instance.record()

    async def read(self, instance_id: str) -> tuple[Record, Checkpoint]:
        """See `Store.read`."""
        instance = self._known(instance_id)
        return instance.record(), Checkpoint(dict(instance.parts), instance.rate)

    async def plant(self, key: InstanceKey, tier: Tier, checkpoint: Checkpoint, *, replace: bool) -> Record:
        """See `Store.plant`."""
        found = self._instances.get(key.instance_id)
        if found is not None and found.owner is not None:
            raise NotOwner(str(found.owner))
        if found is not None and not replace:
            raise InstanceExists("The instance exists already.")
        now = self._clock()
        planted = _Instance(key, tier, Origin.OBSERVED, "", paused=PauseReason.EVICTED, updated=now)
        planted.epoch = now
        if found is None:
            bisect.insort(self._ids, key.instance_id)
        else:
            planted.tier, planted.origin, planted.declared_uid = found.tier, found.origin, found.declared_uid
            planted.epoch = max(found.epoch + 1, now)
        planted.parts, planted.rate = dict(checkpoint.parts), checkpoint.rate
        self._instances[key.instance_id] = planted
        return planted.record()

    async def prune(self, older_than: float) -> int:
        """See `Store.prune`."""
        old = [
            instance_id
            for instance_id, instance in self._instances.items()
            if instance.owner is None
            and instance.origin is Origin.OBSERVED
            and instance.updated < int(older_than * MICROSECONDS)
        ]
        for instance_id in old[:PRUNE_BATCH]:
            self._remove(instance_id)
        return len(old[:PRUNE_BATCH])

    async def pause(self, instance_id: str, paused: PauseReason | None) -> Record:
        """See `Store.pause`."""
        instance = self._free(instance_id)
        instance.paused = paused or PauseReason.EVICTED
        return instance.record()

    async def wish(self, instance_id: str, wish: Wish | None) -> Record:
        """See `Store.wish`."""
        instance = self._known(instance_id)
        instance.wish = wish
        return instance.record()

    async def mark(self, instance_id: str, *, declared_uid: str = "", pinned: bool | None = None) -> Record:
        """See `Store.mark`."""
        instance = self._known(instance_id)
        if declared_uid:
            instance.origin, instance.declared_uid = Origin.DECLARED, declared_uid
        instance.pinned = instance.pinned if pinned is None else pinned
        return instance.record()

    async def erase(
        self, instance_id: str, by: Incarnation, ended: frozenset[Incarnation] = frozenset()
    ) -> None:
        """See `Store.erase`."""
        holder = self._known(instance_id).owner
        if not (holder is None or holder == by or holder in ended or _restarted(holder, by)):
            raise NotOwner(str(holder))
        self._remove(instance_id)

    async def reap(self, ended: Incarnation) -> int:
        """See `Store.reap`."""
        now = self._clock()
        held = [instance for instance in self._instances.values() if instance.owner == ended]
        for instance in held:
            instance.owner, instance.paused, instance.updated = None, PauseReason.EVICTED, now
        return len(held)

    async def get(self, instance_id: str) -> Record | None:
        """See `Store.get`."""
        instance = self._instances.get(instance_id)
        return instance.record() if instance else None

    async def list(self, cursor: str = "", limit: int = 100) -> Page:
        """See `Store.list`."""
        limit = min(max(limit, 1), MAX_PAGE)
        start = bisect.bisect_right(self._ids, cursor)
        ids = self._ids[start : start + limit]
        more = start + limit < len(self._ids)
        return Page([self._instances[instance_id].record() for instance_id in ids], ids[-1] if more else "")

    async def ping(self) -> None:
        """See `Store.ping`; memory is always there."""

    async def problems(self) -> Sequence[str]:
        """See `Store.problems`; that memory does not last was chosen with it."""
        return ()

    async def close(self) -> None:
        """See `Store.close`; there are no connections."""

    def _remove(self, instance_id: str) -> None:
        del self._instances[instance_id]
        self._ids.remove(instance_id)

    def _free(self, instance_id: str) -> _Instance:
        instance = self._known(instance_id)
        if instance.owner is not None:
            raise NotOwner(str(instance.owner))
        return instance

    def _known(self, instance_id: str) -> _Instance:
        instance = self._instances.get(instance_id)
        if instance is None:
            raise not_found()
        return instance

    def _owned(self, ownership: Ownership) -> _Instance:
        instance = self._instances.get(ownership.key.instance_id)
        if instance is None or (instance.owner, instance.epoch) != (ownership.owner, ownership.epoch):
            raise ownership_lost()
        return instance

    def _check_caps(self, instance: _Instance, claim: Claim) -> None:
        # What is already counted is not held against a cap that was lowered meanwhile.
        counts = Counter(name for other in self._instances.values() for name in _counted(other))
        already = set(_counted(instance))
        caps = (
            ("total", claim.caps.total, "The pool's limits.maxInstances is reached."),
            (f"tier:{claim.tier}", claim.caps.tier, "The tier's maxInstances is reached."),
            (
                f"tenant:{claim.key.tenant_id}",
                claim.caps.tenant,
                "The tenant's bound on instances is reached.",
            ),
        )
        for name, cap, message in caps:
            if cap is not None and name not in already and counts[name] >= cap:
                raise PoolExhausted(message, retry_after_seconds=1.0)


def _ownership(instance: _Instance, owner: Incarnation) -> Ownership:
    return Ownership(
        instance.key,
        owner,
        instance.epoch,
        instance.tier,
        GENERATION,
        not instance.parts,
        instance.origin,
        instance.declared_uid,
        instance.failures,
    )


def _counted(instance: _Instance) -> Iterator[str]:
    if instance.owner is not None:
        yield "total"
        yield f"tier:{instance.tier}"
        yield f"tenant:{instance.key.tenant_id}"


def _restarted(earlier: Incarnation, later: Incarnation) -> bool:
    return earlier.pod_uid == later.pod_uid and later.nonce > earlier.nonce


def _succession(
    instance: _Instance, wanted: Incarnation, ended: frozenset[Incarnation], now: int
) -> int | None:
    """When the instance was last swapped by proof, once `wanted` owns it; raises NotOwner."""
    holder = instance.owner
    if holder is None or _restarted(holder, wanted):
        return instance.swapped
    recent = instance.swapped is not None and now - instance.swapped < SWAP_SECONDS * MICROSECONDS
    if holder not in ended or recent:
        raise NotOwner(str(holder))
    return now
