# SPDX-License-Identifier: Apache-2.0
"""What is done about a declared or recorded instance: the table over what is wanted and what is."""

from __future__ import annotations

from typing import Any

import pytest

from agentpool_core.api.v1alpha1 import WantedState
from agentpool_core.lifecycle import State, Tier
from agentpool_operator.plan.instance import Act, InstanceState, is_out_of_sight, plan_instance
from agentpool_operator.plan.views import HeldView
from support.kube_objects import held

RUNNING, PAUSED, TERMINATED = WantedState.RUNNING, WantedState.PAUSED, WantedState.TERMINATED
USER = "UserRequested"

CASES: dict[str, tuple[dict[str, Any], Act]] = {
    "nothing wanted, held: left alone": ({"held": State.READY}, Act.NONE),
    "nothing wanted, evicted: left alone": ({"stored": State.PAUSED, "reason": "Evicted"}, Act.NONE),
    "declared and never used: activated, so that the store knows who declared it": ({}, Act.ACTIVATE),
    "declared COLD and never used: waits for a request": ({"tier": Tier.COLD}, Act.NONE),
    "terminated by its users while nothing was wanted: stays so": ({"lived": True}, Act.NONE),
    "terminated by its users though Running is wanted: comes back": (
        {"lived": True, "wanted": RUNNING},
        Act.ACTIVATE,
    ),
    "HOT and evicted: comes back": (
        {"tier": Tier.HOT, "stored": State.PAUSED, "reason": "Evicted"},
        Act.ACTIVATE,
    ),
    "HOT whose owner is not to be seen: asked for, with proof": (
        {"tier": Tier.HOT, "stored": State.READY},
        Act.ACTIVATE,
    ),
    "HOT in ERROR: tried again": ({"tier": Tier.HOT, "held": State.ERROR}, Act.ACTIVATE),
    "WARM in ERROR: its next request tries": ({"held": State.ERROR}, Act.NONE),
    "a HOT record that the store does not know: was terminated": (
        {"tier": Tier.HOT, "declared": False, "lived": True},
        Act.NONE,
    ),
    "paused by a user, nothing wanted: stays paused": ({"stored": State.PAUSED, "reason": USER}, Act.NONE),
    "paused by a user, HOT: stays paused": (
        {"tier": Tier.HOT, "stored": State.PAUSED, "reason": USER},
        Act.NONE,
    ),
    "paused by a user, Running wanted: resumed": (
        {"stored": State.PAUSED, "reason": USER, "wanted": RUNNING},
        Act.RESUME,
    ),
    "Running wanted and evicted: its next request resumes it": (
        {"stored": State.PAUSED, "reason": "Evicted", "wanted": RUNNING},
        Act.NONE,
    ),
    "Paused wanted and held: paused": ({"held": State.BUSY, "wanted": PAUSED}, Act.PAUSE),
    "Paused wanted and evicted: kept from requests": (
        {"stored": State.PAUSED, "reason": "Evicted", "wanted": PAUSED},
        Act.PAUSE,
    ),
    "Paused wanted and so it is": ({"stored": State.PAUSED, "reason": USER, "wanted": PAUSED}, Act.NONE),
    "Paused wanted of what was never used": ({"wanted": PAUSED}, Act.NONE),
    "Terminated wanted and held": ({"held": State.READY, "wanted": TERMINATED}, Act.TERMINATE),
    "Terminated wanted and stored": ({"stored": State.PAUSED, "wanted": TERMINATED}, Act.TERMINATE),
    "Terminated wanted and gone": ({"wanted": TERMINATED, "lived": True}, Act.NONE),
    "deleted and held": ({"deleted": True, "held": State.READY}, Act.TERMINATE),
    "deleted and stored": ({"deleted": True, "stored": State.PAUSED}, Act.TERMINATE),
    "deleted and gone": ({"deleted": True}, Act.NONE),
    "memory: never activated by the operator": ({"shared": False}, Act.NONE),
    "memory, paused by a user, Running wanted: resumed": (
        {"shared": False, "held": State.PAUSED, "reason": USER, "wanted": RUNNING},
        Act.RESUME,
    ),
    "declared anew, held: its record is told": ({"held": State.READY, "marked": False}, Act.MARK),
    "declared anew, evicted: its record is told": (
        {"stored": State.PAUSED, "reason": "Evicted", "marked": False},
        Act.MARK,
    ),
    "declared anew and deleted: terminated": (
        {"held": State.READY, "marked": False, "deleted": True},
        Act.TERMINATE,
    ),
    "WARM by traffic, declared HOT, its pod not there: served where it is": (
        {"tier": Tier.HOT, "present": Tier.WARM, "held": State.READY, "housed": False},
        Act.AWAIT,
    ),
    "WARM by traffic, declared HOT, its pod there: moved": (
        {"tier": Tier.HOT, "present": Tier.WARM, "held": State.BUSY},
        Act.MOVE,
    ),
    "WARM and paused by a user, declared HOT: moved, and then resumed there": (
        {
            "tier": Tier.HOT,
            "present": Tier.WARM,
            "stored": State.PAUSED,
            "reason": USER,
            "wanted": RUNNING,
            "housed": False,
        },
        Act.MOVE,
    ),
    "HOT, declared WARM: moved": ({"present": Tier.HOT, "held": State.READY}, Act.MOVE),
    "HOT, declared WARM and Paused: paused first": (
        {"present": Tier.HOT, "held": State.READY, "wanted": PAUSED},
        Act.PAUSE,
    ),
    "paused as wanted, in another tier: moved": (
        {"present": Tier.HOT, "stored": State.PAUSED, "reason": USER, "wanted": PAUSED},
        Act.MOVE,
    ),
    "in ERROR in another tier: moved, for more memory may be what it needs": (
        {"tier": Tier.HOT, "present": Tier.WARM, "held": State.ERROR},
        Act.MOVE,
    ),
    "moved by its host, for it ran out of memory: not moved back": (
        {"present": Tier.COLD, "held": State.READY, "migrated": True},
        Act.NONE,
    ),
    "memory: never moved": ({"present": Tier.COLD, "held": State.READY, "shared": False}, Act.NONE),
    "recorded: keeps the tier that it has": (
        {"declared": False, "tier": Tier.HOT, "present": Tier.HOT, "held": State.READY},
        Act.NONE,
    ),
    "recorded, evicted: left alone": (
        {"declared": False, "tier": Tier.COLD, "stored": State.PAUSED, "reason": "Evicted"},
        Act.NONE,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_table(name: str) -> None:
    facts, act = CASES[name]
    state = InstanceState(**{"wanted": None, "tier": Tier.WARM, **facts})
    assert plan_instance(state) is act


@pytest.mark.parametrize(
    ("of", "shown", "expected"),
    [
        pytest.param(None, State.READY, True, id="shown READY and held by nobody: looked for"),
        pytest.param(None, State.BUSY, True, id="shown BUSY and held by nobody: looked for"),
        pytest.param(None, State.CREATED, False, id="declared Paused, never had a process: left alone"),
        pytest.param(None, State.PAUSED, False, id="paused: nobody holds it"),
        pytest.param(held(), State.READY, False, id="held: its host tells"),
    ],
)
def test_what_is_out_of_sight_is_looked_for(of: HeldView | None, shown: State, expected: bool) -> None:
    assert is_out_of_sight(of, shown) is expected
