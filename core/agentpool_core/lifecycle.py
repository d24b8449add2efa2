# SPDX-License-Identifier: Apache-2.0
"""The lifecycle of an agent instance: seven states and one table (A22-A29, X19).

The table is law: every component that changes a state asks `transition`, the documentation and its
diagram are printed from `MOVES`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from agentpool_core.errors import IllegalTransition


class State(StrEnum):
    """Where an instance is in its life."""

    CREATED = "CREATED"
    """Made, not initialised: a slot is reserved and ownership is being won."""
    INITIALIZING = "INITIALIZING"
    """The agent is constructed, set up and its state restored. Has a deadline."""
    READY = "READY"
    """Takes requests."""
    BUSY = "BUSY"
    """Works on at least one request."""
    PAUSED = "PAUSED"
    """Holds no process; its state is kept. The pause reason tells who may resume it."""
    ERROR = "ERROR"
    """A fault that can be recovered from. Has a reason."""
    TERMINATED = "TERMINATED"
    """Destroyed and erased. Final."""


class PauseReason(StrEnum):
    """Why an instance is PAUSED."""

    USER_REQUESTED = "UserRequested"
    """Somebody paused it; it stays until resumed."""
    EVICTED = "Evicted"
    """Idle, least recently used or drained; its next request resumes it, on any host."""


class Wish(StrEnum):
    """What is to happen to a BUSY instance once it is released (X19)."""

    PAUSE = "Pause"
    TERMINATE = "Terminate"


class Tier(StrEnum):
    """How an instance is placed."""

    HOT = "HOT"
    """A pod of its own, always on."""
    WARM = "WARM"
    """A process of its own in a shared pod."""
    COLD = "COLD"
    """A generic pod on demand, given back when idle."""


class Origin(StrEnum):
    """Who asked for an instance."""

    OBSERVED = "observed"
    """Its first request did."""
    DECLARED = "declared"
    """A user wrote an AgentInstance for it."""


MOVES: Mapping[State, frozenset[State]] = MappingProxyType(
    {
        State.CREATED: frozenset({State.INITIALIZING}),
        State.INITIALIZING: frozenset({State.READY, State.ERROR}),
        State.READY: frozenset({State.BUSY, State.PAUSED, State.TERMINATED}),
        State.BUSY: frozenset({State.READY, State.ERROR}),
        State.PAUSED: frozenset({State.READY, State.TERMINATED}),
        State.ERROR: frozenset({State.INITIALIZING, State.TERMINATED}),
        State.TERMINATED: frozenset(),
    }
)
"""Which state may follow which. A state that is not listed after another may not follow it."""

OPERATIONS: Mapping[tuple[State, State], str] = MappingProxyType(
    {
        (State.CREATED, State.INITIALIZING): "initialize",
        (State.INITIALIZING, State.READY): "ready",
        (State.INITIALIZING, State.ERROR): "fail",
        (State.READY, State.BUSY): "acquire",
        (State.READY, State.PAUSED): "pause",
        (State.READY, State.TERMINATED): "terminate",
        (State.BUSY, State.READY): "release",
        (State.BUSY, State.ERROR): "fail",
        (State.PAUSED, State.READY): "resume",
        (State.PAUSED, State.TERMINATED): "terminate",
        (State.ERROR, State.INITIALIZING): "retry",
        (State.ERROR, State.TERMINATED): "terminate",
    }
)
"""The name of each move."""


def allowed(current: State, wanted: State) -> bool:
    """Whether the table has the edge `current` -> `wanted`."""
    return wanted in MOVES[current]


def transition(current: State, wanted: State) -> State:
    """`wanted`, if the table allows it from `current`; raises IllegalTransition otherwise."""
    if not allowed(current, wanted):
        after = ", ".join(sorted(MOVES[current])) or "nothing: it is final"
        raise IllegalTransition(
            f"An instance cannot go from {current} to {wanted}.",
            remedy=f"After {current} may come: {after}.",
            details={"from": current, "to": wanted},
        )
    return wanted
