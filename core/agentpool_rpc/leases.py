# SPDX-License-Identifier: Apache-2.0
"""Ids of leases: what a lease is about, signed, so that no gateway has to remember it.

Any gateway of the release, also one that started later, can tell what a report is about. An id is no call
token: its audience is no host.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from agentpool_core.errors import InvalidRequest
from agentpool_rpc.tokens import ALGORITHM

AUDIENCE = "agentpool-lease"
REPORT_SECONDS = 3600.0
"""How long after its end a lease may still be reported: a handle can be held for longer than its last
lease."""
MAX_REQUESTS = 1_000_000
MAX_HELD_SECONDS = 30 * 86400.0
"""More than these is no report but a mistake, and would spoil the statistics for good."""


@dataclass(frozen=True, slots=True)
class LeaseClaims:
    """What a lease is about. `expires_at` is Unix time in seconds."""

    namespace: str
    pool: str
    tenant_id: str
    project_id: str
    expires_at: float


@dataclass(frozen=True, slots=True)
class LeaseReport:
    """What was done with a lease: requests that were sent, those of them that failed, and the time it was
    held.

    Raises InvalidRequest for numbers that cannot be.
    """

    requests: int
    failures: int
    held_seconds: float

    def __post_init__(self) -> None:
        if not 0 <= self.failures <= self.requests <= MAX_REQUESTS:
            raise InvalidRequest(
                f"requests and failures do not fit together, or are over {MAX_REQUESTS}.",
                remedy="Report the requests that were sent, and those of them that failed.",
            )
        if not (math.isfinite(self.held_seconds) and 0 <= self.held_seconds <= MAX_HELD_SECONDS):
            raise InvalidRequest(f"held_seconds is not a number from 0 to {MAX_HELD_SECONDS:g}.")


class LeaseIds:
    """Makes ids of leases, and reads them.

    Args:
        private_key: Ed25519 key of call tokens, PEM.
        clock: seconds since 1970.
    """

    def __init__(self, private_key: bytes, clock: Callable[[], float]) -> None:
        key = load_pem_private_key(private_key, password=None)
        if not isinstance(key, Ed25519PrivateKey):
            raise ValueError("the call token key must be an Ed25519 private key")
        self._private = key
        self._public = key.public_key()
        self._clock = clock

    def seconds_until(self, moment: float) -> float:
        """From now to a Unix time; 0 when it has passed."""
        return max(moment - self._clock(), 0.0)

    def issue(self, claims: LeaseClaims) -> str:
        """The id of a lease."""
        payload = {
            "aud": AUDIENCE,
            "exp": int(claims.expires_at),
            "key": [claims.namespace, claims.pool, claims.tenant_id, claims.project_id],
        }
        return jwt.encode(payload, self._private, algorithm=ALGORITHM)

    def read(self, lease_id: str) -> LeaseClaims:
        """What a lease is about, also after its end; InvalidRequest when it was not issued here."""
        try:
            payload = jwt.decode(
                lease_id,
                self._public,
                algorithms=[ALGORITHM],
                audience=AUDIENCE,
                # A report comes after the end, too; `countable` says until when.
                options={"require": ["exp", "aud", "key"], "verify_exp": False},
            )
            namespace, pool, tenant_id, project_id = map(str, payload["key"])
        except (jwt.InvalidTokenError, ValueError, TypeError) as exc:
            raise InvalidRequest(
                "The lease was not issued here.", remedy="Give the id of a lease as it was acquired."
            ) from exc
        return LeaseClaims(namespace, pool, tenant_id, project_id, float(payload["exp"]))

    def countable(self, claims: LeaseClaims) -> bool:
        """Whether a report of the lease still counts."""
        return self._clock() <= claims.expires_at + REPORT_SECONDS
