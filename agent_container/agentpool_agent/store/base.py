# SPDX-License-Identifier: Apache-2.0
"""The ownership protocol: what every store of instance state promises.

One incarnation owns an instance at a time. A claim on an owned instance succeeds only with proof that the
owner ended; a write is accepted only from the *equal* owner and epoch, so an owner that was replaced by
mistake loses nothing that was acknowledged: its next write fails, and it drops the instance.

    claim --> Ownership --> load, save*, release | erase
              (owner, epoch)        `-- OwnershipLost: drop the instance, the caller may retry
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from agentpool_core.lifecycle import Origin, PauseReason, Tier, Wish
from agentpool_core.names import Incarnation, InstanceKey

MICROSECONDS = 1_000_000
"""In a second: the unit of the stores' times and epochs."""

IDEMPOTENCY_KEPT = 64
"""Final events kept per instance; an older key is forgotten first."""

IDEMPOTENCY_SECONDS = 600
"""How long a final event is kept for its Idempotency-Key."""

SWAP_SECONDS = 2
"""A proven-dead owner is replaced at most once in this time per instance, so that two gateways with
opposite opinions cannot make an instance fly to and fro."""

RECOVERY_SECONDS = 10
"""After the loss of the store's data was noticed, only holders may register for this long."""

MAX_PAGE = 1000
"""Most records that one call of `Store.list` gives."""

PRUNE_BATCH = 200
"""Instances that one call of `Store.prune` removes at most."""


@dataclass(frozen=True, slots=True)
class Caps:
    """Bounds that span hosts, counted by the store in the same step as the claim. None: no bound."""

    total: int | None = None
    tier: int | None = None
    tenant: int | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """A wish to own an instance.

    Attributes:
        ended: incarnations that a trusted party (signed call token) says have ended: the proof.
        resume: lift a pause that a user asked for; without it such a claim raises InstancePaused.
        origin, declared_uid: who asked for the instance; kept in the record when it is new.
    """

    key: InstanceKey
    owner: Incarnation
    tier: Tier
    caps: Caps = Caps()
    ended: frozenset[Incarnation] = frozenset()
    resume: bool = False
    origin: Origin = Origin.OBSERVED
    declared_uid: str = ""


@dataclass(frozen=True, slots=True)
class Ownership:
    """Proof of a won claim; every later call of the owner carries it."""

    key: InstanceKey
    owner: Incarnation
    epoch: int
    tier: Tier
    generation: str
    """The store's generation as it was at the claim; a change of it means that data was lost."""
    fresh: bool = False
    """True when the instance had no stored state."""
    origin: Origin = Origin.OBSERVED
    declared_uid: str = ""
    """As in the record, so that `register` can write it again."""
    failures: bytes = b""
    """The failure history as it was at the claim, opaque to the store; see `note`."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The last acknowledged state of an instance: named parts and the rate bucket that travels with it."""

    parts: Mapping[str, bytes] = field(default_factory=dict)
    rate: bytes = b""
    """Opaque to the store: the serialised rate bucket (see `host.quota`)."""


@dataclass(frozen=True, slots=True)
class Write:
    """One fenced write: changed parts, removed parts, and final events by Idempotency-Key."""

    parts: Mapping[str, bytes] = field(default_factory=dict)
    removed: frozenset[str] = frozenset()
    finals: Mapping[str, bytes] = field(default_factory=dict)
    rate: bytes = b""
    """Replaces the stored bucket when not empty."""


@dataclass(frozen=True, slots=True)
class Record:
    """What the store knows of one instance."""

    key: InstanceKey
    tier: Tier
    owner: Incarnation | None
    """None when nobody holds it."""
    epoch: int
    origin: Origin
    declared_uid: str
    paused: PauseReason | None
    """Set when nobody holds it."""
    wish: Wish | None
    """What its owner is to do once it is not busy."""
    updated_at: float
    """Seconds since 1970, the store's clock, of the last claim, save or release."""
    failures: bytes = b""
    """The failure history, opaque to the store."""
    pinned: bool = False
    """Its tier was chosen by hand."""


@dataclass(frozen=True, slots=True)
class Page:
    """Part of a list: records in the order of their ids, and where to go on ("" at the end)."""

    records: Sequence[Record]
    cursor: str


@dataclass(frozen=True, slots=True)
class KeptFlags:
    """The flags that were set through a gateway, as JSON that the store does not read. Version 0: none ever
    were."""

    version: int = 0
    document: bytes = b""


class FlagBook(Protocol):
    """Keeps the flags of one pool."""

    async def read(self, known: int) -> KeptFlags | None:
        """What is kept; None when it still is version `known`. Raises StoreUnavailable."""

    async def replace(self, base: int, document: bytes) -> tuple[KeptFlags, bool]:
        """What is kept after the call, and whether it is this document: not when somebody else has replaced
        version `base` meanwhile. Raises StoreUnavailable, perhaps after it was done: to ask again is safe."""


class Store(Protocol):
    """State and ownership of the instances of one pool.

    Every method may raise StoreUnavailable (no answer within the store's own deadline, or refused) and, apart
    from `initialise` and `close`, StoreDataLost (with retry_after_seconds). What it does in trouble:

    - down or slow: StoreUnavailable within the deadline, which says whether the call may have been carried
      out all the same (`unheard`); nothing is sent twice by itself.
    - full: what needs memory (save, a new instance, plant) is refused as a whole; everything else goes on.
    - empty, or behind after a failover: StoreDataLost until holders had RECOVERY_SECONDS to register.
    - a foreign value under a key: StoreUnavailable, and nothing of the call is done.
    """

    async def initialise(self) -> None:
        """Say that the pool is new: its generation is drawn if there is none, without the pause that a
        loss of data brings. Called by whoever creates the pool, never by a host."""

    async def claim(self, claim: Claim) -> Ownership:
        """Own the instance, or raise.

        A claim by the present owner gives its ownership again with the same epoch. An unowned instance,
        one whose owner is in `ended`, and one owned by an earlier nonce of the same pod are taken over
        with a higher epoch: max(stored + 1, the store's time in microseconds).

        Raises:
            NotOwner: somebody else holds it, and there is no proof that he ended (or he was already
                replaced within SWAP_SECONDS).
            InstancePaused: paused by a user, and `resume` is not set.
            PoolExhausted: a cap is reached; the message names which.
        """

    async def load(self, ownership: Ownership, *, previous: bool = False) -> Checkpoint:
        """The stored state; `previous`: as it was before the last write that changed it.

        Raises:
            OwnershipLost: the caller is no longer the owner.
            StateCorrupt: a stored part does not match its digest, or cannot be unpacked; with `previous`
                also: there is no earlier state.
        """

    async def save(self, ownership: Ownership, write: Write, *, again: bool = False) -> None:
        """Make a change durable, all of it or nothing. One save per instance is under way at a time.

        A save that ended without an answer (StoreUnavailable with `unheard`, cancelled) may or may not have
        taken effect. The same write `again`, before any other, finds out: it is made once, whether it was
        made before or not. If another save follows instead, that one raises OwnershipLost if the unheard one
        took effect, for the owner's copy no longer is what is stored; after the next claim and load it is. If
        it did not take effect, it never will once the next save is answered.

        Raises:
            OwnershipLost: drop the instance; nothing of this write was kept.
            StoreDataLost: nothing of this write was kept; `register` the whole state.
        """

    async def register(self, ownership: Ownership, write: Write) -> Ownership:
        """After StoreDataLost: the holder writes its whole state again and gets a fresh epoch. May be
        repeated when it ended without an answer. Raises OwnershipLost when somebody else registered or
        claimed first, or when nothing was lost and the instance was erased."""

    async def recall(self, instance_id: str, idempotency_key: str) -> bytes | None:
        """The final event kept for a key, or None."""

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
        """Give the instance up and say why; its state stays. `tier`: the one of its next activation, with
        which a move gives it up; `cap`: most instances of that tier. Raises OwnershipLost, and PoolExhausted
        when a cap is reached: nothing changed then."""

    async def note(self, ownership: Ownership, failures: bytes, rate: bytes = b"") -> None:
        """Replace the failure history that is kept with the record; it outlives release and claim, and goes
        with the instance. `rate` replaces the stored bucket when not empty. Raises OwnershipLost."""

    async def place(self, instance_id: str, tier: Tier) -> Record:
        """Change the tier of an instance that nobody holds. Raises InstanceNotFound, and NotOwner when
        somebody holds it."""

    async def read(self, instance_id: str) -> tuple[Record, Checkpoint]:
        """The last acknowledged state, whoever holds the instance. Raises InstanceNotFound, StateCorrupt."""

    async def plant(self, key: InstanceKey, tier: Tier, checkpoint: Checkpoint, *, replace: bool) -> Record:
        """Make an instance from a state, held by nobody and PAUSED as Evicted; one that exists keeps its tier
        and origin.

        Raises:
            InstanceExists: it exists already, and `replace` is not set.
            NotOwner: somebody holds it.
        """

    async def prune(self, older_than: float) -> int:
        """Remove undeclared instances that nobody holds and that were not used since `older_than` (seconds
        since 1970, the store's clock), a bounded number at once; returns how many."""

    async def pause(self, instance_id: str, paused: PauseReason | None) -> Record:
        """Change why an instance that nobody holds is paused (None: as Evicted, a request may wake it).
        Raises InstanceNotFound, and NotOwner when somebody holds it."""

    async def wish(self, instance_id: str, wish: Wish | None) -> Record:
        """Record what the owner is to do once the instance is not busy. Raises InstanceNotFound."""

    async def mark(self, instance_id: str, *, declared_uid: str = "", pinned: bool | None = None) -> Record:
        """Write down who declares the instance from now on, and whether its tier was chosen by hand, whoever
        holds it; empty and None: as before. Raises InstanceNotFound."""

    async def erase(
        self, instance_id: str, by: Incarnation, ended: frozenset[Incarnation] = frozenset()
    ) -> None:
        """Remove record, state and keys of an instance that nobody, `by`, or a proven-dead incarnation
        holds. Raises InstanceNotFound, NotOwner."""

    async def reap(self, ended: Incarnation) -> int:
        """Release every instance that a proven-dead incarnation still holds, as Evicted, so that caps and
        lists are right; returns how many."""

    async def get(self, instance_id: str) -> Record | None:
        """One record."""

    async def list(self, cursor: str = "", limit: int = 100) -> Page:
        """Records in the order of their ids, after `cursor`, at most `limit`."""

    async def ping(self) -> None:
        """Answer, or raise: StoreUnavailable when the store is silent; StoreDataLost while only holders may
        register, which is how a host whose instances are idle notices that it has to."""

    async def problems(self) -> Sequence[str]:
        """What is wrong with the store's own settings (persistence, eviction policy), one sentence each."""

    @property
    def flags(self) -> FlagBook:
        """The feature flags that were set through a gateway."""

    @property
    def shared(self) -> bool:
        """Whether other hosts see the same state (Redis), or only this process does (memory)."""

    async def close(self) -> None:
        """Drop connections."""
