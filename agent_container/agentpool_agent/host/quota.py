# SPDX-License-Identifier: Apache-2.0
"""Exact permits and a request rate for one instance.

An instance lives on one host at a time, so both are exact. The bucket travels in the checkpoint: an
eviction does not refill it. Times are wall-clock seconds, because the bucket moves between machines.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from agentpool_agent.host.table import Entry
from agentpool_core.errors import ConcurrencyExceeded, RateExceeded

_FORM = struct.Struct("<Bdd")
_VERSION = 1
BUCKET_BYTES = _FORM.size
"""Length of a packed bucket."""

PERMIT_RETRY_SECONDS = 1.0
"""Nobody knows when a permit comes free; one second keeps a polite client from spinning."""


@dataclass(slots=True)
class RateBucket:
    """A token bucket that holds one minute's worth of requests.

    Attributes:
        per_minute: capacity, and tokens that come back in a minute; 0 means no limit.
        tokens: what is left, at `stamp`.
    """

    per_minute: int
    tokens: float
    stamp: float

    @classmethod
    def full(cls, per_minute: int, now: float) -> RateBucket:
        """A bucket nobody took from."""
        return cls(per_minute, float(per_minute), now)

    @classmethod
    def unpack(cls, stored: bytes, per_minute: int, now: float) -> RateBucket:
        """The bucket out of a checkpoint; a full one when there is none or it cannot be read. What follows
        the first BUCKET_BYTES is not the bucket's."""
        if len(stored) < BUCKET_BYTES or stored[0] != _VERSION:
            return cls.full(per_minute, now)
        _, tokens, stamp = _FORM.unpack_from(stored)
        # A stamp of the future is another machine's clock: the tokens count from now.
        return cls(per_minute, min(max(tokens, 0.0), float(per_minute)), min(stamp, now))

    def pack(self) -> bytes:
        """What the checkpoint carries."""
        return _FORM.pack(_VERSION, self.tokens, self.stamp)

    def resize(self, per_minute: int) -> None:
        """Take on a new limit; what was used up stays used up."""
        self.tokens = max(0.0, self.tokens + per_minute - self.per_minute)
        self.per_minute = per_minute

    def take(self, now: float) -> None:
        """Use one token; raises RateExceeded, with the time until the next one, when there is none."""
        self.check(now)
        if self.per_minute > 0:
            self.tokens -= 1.0

    def check(self, now: float) -> None:
        """Raise RateExceeded if `take` would, and use nothing."""
        if self.per_minute <= 0:
            return
        elapsed = max(0.0, now - self.stamp)
        self.tokens = min(float(self.per_minute), self.tokens + elapsed * self.per_minute / 60.0)
        self.stamp = now
        if self.tokens < 1.0:
            wait = (1.0 - self.tokens) * 60.0 / self.per_minute
            raise RateExceeded(
                f"The project's {self.per_minute} requests per minute are used up.", retry_after_seconds=wait
            )


def carried(bucket: RateBucket, entry: Entry) -> bytes:
    """What the checkpoint of an instance takes along besides its state."""
    return bucket.pack() + entry.breaker.pack()


def permits_taken(limit: int) -> ConcurrencyExceeded:
    """The refusal of a request that found no permit free, or no place to wait for one."""
    return ConcurrencyExceeded(
        f"The instance works on {limit} requests, as many as its quota allows, and no permit came free.",
        retry_after_seconds=PERMIT_RETRY_SECONDS,
    )
