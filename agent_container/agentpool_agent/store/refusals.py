# SPDX-License-Identifier: Apache-2.0
"""What the scripts of the Redis store answer when they refuse, as errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agentpool_core.errors import (
    InstanceExists,
    InstanceNotFound,
    InstancePaused,
    NotOwner,
    OwnershipLost,
    PoolExhausted,
    StateCorrupt,
    StoreDataLost,
)

from .base import MICROSECONDS

_CAPS = {
    "total": "The pool's limits.maxInstances is reached.",
    "tier": "The tier's maxInstances is reached.",
    "tenant": "The tenant's bound on instances is reached.",
}


def data_lost(retry_after_seconds: float) -> StoreDataLost:
    """Only holders are heard for so long."""
    return StoreDataLost(
        "The store lost its data; holders of instances register them again.",
        retry_after_seconds=retry_after_seconds,
    )


def ownership_lost() -> OwnershipLost:
    """The caller is to drop the instance."""
    return OwnershipLost("This host no longer owns the instance.", retry_after_seconds=0.1)


def not_found() -> InstanceNotFound:
    """There is no record."""
    return InstanceNotFound("The store knows no such instance.")


def no_earlier_state() -> StateCorrupt:
    """The state before the last write is asked for, and there is none."""
    return StateCorrupt(
        "There is no earlier state of this instance.",
        remedy="Import a copy of its state, or terminate the instance to start anew.",
    )


def raise_refusal(word: str, facts: Sequence[Any]) -> None:
    """Raise what the first word of an answer says; nothing when it is OK."""
    match word:
        case "LOST":
            raise data_lost(int(facts[0]) / MICROSECONDS)
        case "GONE":
            raise ownership_lost()
        case "NOT_OWNER":
            raise NotOwner(facts[0].decode())
        case "PAUSED":
            raise InstancePaused("A user paused this instance.")
        case "FULL":
            raise PoolExhausted(_CAPS[facts[0].decode()], retry_after_seconds=1.0)
        case "MISSING":
            raise not_found()
        case "EXISTS":
            raise InstanceExists("The instance exists already.")
