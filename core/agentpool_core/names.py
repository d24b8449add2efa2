# SPDX-License-Identifier: Apache-2.0
"""Names made once: instance ids, incarnations and the keys of the store.

Every part that needs one of these calls here; nobody formats a key by hand.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from functools import lru_cache

MAX_NAME_CHARS = 253
"""Longest tenant or project id, in characters: Kubernetes' own bound for a DNS subdomain."""
REMEMBERED_IDS = 2_000
"""Instances whose id is not computed anew for each request; one takes some 500 bytes."""


def _hash(parts: tuple[str, ...]) -> bytes:
    # Each part is prefixed by its length, so ("a/b", "c") and ("a", "b/c") never meet.
    digest = hashlib.sha256()
    for part in parts:
        encoded = part.encode()
        digest.update(len(encoded).to_bytes(4, "big"))
        digest.update(encoded)
    return digest.digest()


@lru_cache(maxsize=REMEMBERED_IDS)
def _instance_id(parts: tuple[str, str, str, str]) -> str:
    return "inst-" + base64.b32encode(_hash(parts))[:26].decode().lower()


@dataclass(frozen=True, slots=True)
class InstanceKey:
    """What one agent instance belongs to; the identity everywhere (X20)."""

    namespace: str
    pool: str
    tenant_id: str
    project_id: str

    @property
    def instance_id(self) -> str:
        """`inst-` and 26 characters of base32: safe as a Kubernetes name, the same on every host."""
        return _instance_id((self.namespace, self.pool, self.tenant_id, self.project_id))


@dataclass(frozen=True, slots=True, order=True)
class Incarnation:
    """One life of one host process: the pod's UID and a nonce drawn when the process started.

    Nonces of one pod sort by time, so a late message of an earlier life can never pass for a later one.
    """

    pod_uid: str
    nonce: str

    @classmethod
    def draw(cls, pod_uid: str, time_ns: int, random: bytes) -> Incarnation:
        """The incarnation of a process that starts at `time_ns` (wall clock) with four random bytes."""
        return cls(pod_uid, f"{time_ns:016x}{random[:4].hex()}")

    @classmethod
    def parse(cls, text: str) -> Incarnation:
        """Read `pod_uid/nonce`; raises ValueError when there is no slash."""
        pod_uid, slash, nonce = text.rpartition("/")
        if not slash:
            raise ValueError(f"not an incarnation: {text!r}")
        return cls(pod_uid, nonce)

    def __str__(self) -> str:
        return f"{self.pod_uid}/{self.nonce}"


def tenant_hash(tenant_id: str) -> str:
    """A short stable stand-in for a tenant id inside store keys (16 hex characters)."""
    return _hash((tenant_id,)).hex()[:16]


@dataclass(frozen=True, slots=True)
class StoreKeys:
    """The Redis keys of one pool, all in one hash slot, all under the pool's UID.

    The ACL user of the pool is limited to this prefix, and a pool that is created again under the same
    name never sees the old state.
    """

    pool_uid: str

    @property
    def prefix(self) -> str:
        """`ap:{uid}:`; the braces are Redis Cluster's hash tag."""
        return f"ap:{{{self.pool_uid}}}:"

    @property
    def generation(self) -> str:
        """String: the random generation; its absence means that the data was lost."""
        return self.prefix + "generation"

    @property
    def index(self) -> str:
        """Sorted set, all scores 0: every instance id, for lists in pages."""
        return self.prefix + "index"

    @property
    def owners(self) -> str:
        """Sorted set, all scores 0: members `incarnation|instance_id` of owned instances."""
        return self.prefix + "owners"

    @property
    def counts(self) -> str:
        """Hash: resident instances in total, per tier and per tenant, for the caps."""
        return self.prefix + "counts"

    @property
    def flags(self) -> str:
        """Hash: the feature flags that were set through a gateway, and their version."""
        return self.prefix + "flags"

    def record(self, instance_id: str) -> str:
        """Hash: identity, owner, epoch, tier, origin, pause reason and wish of one instance."""
        return f"{self.prefix}record:{instance_id}"

    def checkpoint(self, instance_id: str) -> str:
        """Hash: the named parts of one instance's state and their metadata."""
        return f"{self.prefix}checkpoint:{instance_id}"

    def previous(self, instance_id: str) -> str:
        """Hash: what the last changing write replaced in the state of one instance."""
        return f"{self.prefix}previous:{instance_id}"

    def idempotency(self, instance_id: str) -> str:
        """Hash: Idempotency-Key to final event of one instance."""
        return f"{self.prefix}idempotency:{instance_id}"

    def idempotency_order(self, instance_id: str) -> str:
        """Sorted set: Idempotency-Key by time in microseconds, to keep the last ones only."""
        return f"{self.prefix}idempotency-order:{instance_id}"
