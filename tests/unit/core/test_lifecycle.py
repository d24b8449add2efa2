# SPDX-License-Identifier: Apache-2.0
"""The lifecycle table: every edge of A22-A29 is there, and nothing else."""

from __future__ import annotations

import itertools

import pytest

from agentpool_core.errors import IllegalTransition
from agentpool_core.lifecycle import MOVES, OPERATIONS, State, allowed, transition

EDGES = {
    ("CREATED", "INITIALIZING"): "initialize",
    ("INITIALIZING", "READY"): "ready",
    ("INITIALIZING", "ERROR"): "fail",
    ("READY", "BUSY"): "acquire",
    ("READY", "PAUSED"): "pause",
    ("READY", "TERMINATED"): "terminate",
    ("BUSY", "READY"): "release",
    ("BUSY", "ERROR"): "fail",
    ("PAUSED", "READY"): "resume",
    ("PAUSED", "TERMINATED"): "terminate",
    ("ERROR", "INITIALIZING"): "retry",
    ("ERROR", "TERMINATED"): "terminate",
}
REFUSED = sorted(set(itertools.product(State, State)) - {(State(a), State(b)) for a, b in EDGES})


@pytest.mark.parametrize(("old", "new"), EDGES, ids=[f"{a} may go to {b}" for a, b in EDGES])
def test_allows(old: str, new: str) -> None:
    assert transition(State(old), State(new)) is State(new)


@pytest.mark.parametrize(("old", "new"), REFUSED, ids=[f"{a} may not go to {b}" for a, b in REFUSED])
def test_refuses(old: State, new: State) -> None:
    assert not allowed(old, new)
    with pytest.raises(IllegalTransition) as refused:
        transition(old, new)
    assert refused.value.details == {"from": old, "to": new}
    assert str(old) in refused.value.message
    for after in MOVES[old]:
        assert after in refused.value.hint


def test_every_pair_of_states_is_allowed_or_refused() -> None:
    assert len(EDGES) + len(REFUSED) == len(State) ** 2 == 49


def test_every_move_has_its_name_and_nothing_else_has_one() -> None:
    assert {(str(a), str(b)): name for (a, b), name in OPERATIONS.items()} == EDGES
    assert set(OPERATIONS) == {(old, new) for old, after in MOVES.items() for new in after}


def test_every_state_can_be_reached_and_every_one_but_the_last_can_end() -> None:
    def reach(start: State) -> set[State]:
        seen, waiting = {start}, [start]
        while waiting:
            for after in MOVES[waiting.pop()] - seen:
                seen.add(after)
                waiting.append(after)
        return seen

    assert reach(State.CREATED) == set(State)
    assert all(State.TERMINATED in reach(state) for state in State)
    assert MOVES[State.TERMINATED] == frozenset()


def test_the_table_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        MOVES[State.TERMINATED] = frozenset({State.READY})  # type: ignore[index]
