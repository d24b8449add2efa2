# SPDX-License-Identifier: Apache-2.0
"""What is to be done about one instance with an AgentInstance: a table over what is wanted and what is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from agentpool_core.api.v1alpha1 import WantedState
from agentpool_core.lifecycle import PauseReason, State, Tier
from agentpool_operator.plan.views import RESIDENT, HeldView


class Act(StrEnum):
    """One call on a host."""

    NONE = "none"
    AWAIT = "await"
    """No call: its own pod is on its way."""
    MARK = "mark"
    """Write down who declares it."""
    MOVE = "move"
    ACTIVATE = "activate"
    PAUSE = "pause"
    RESUME = "resume"
    TERMINATE = "terminate"


@dataclass(frozen=True, slots=True)
class InstanceState:
    """What the plan rests on.

    Attributes:
        wanted: state of the spec; None: nobody declared one.
        declared: a user wrote the AgentInstance.
        deleted: the declared AgentInstance is gone.
        tier: of the spec, else the one that it has, else the pool's default.
        present: the tier that it has; None: it is not known to exist.
        marked: its record names its AgentInstance, or that is not to be seen now.
        housed: its own pod is ready, or it needs none.
        migrated: its host moved it lately, because it ran out of memory: moved back, it would again.
        held: its state on the host that holds it; None: no host holds it.
        stored: its state as the store tells (PAUSED; READY: some host holds it); None: unknown there.
        reason: why it is PAUSED or in ERROR.
        lived: it was reported as alive before; unknown to the store now, it was terminated since.
        shared: state outlives a host (Redis). With memory the operator never activates: the gateway and it
            could do so on two hosts at once, and nothing would tell them apart.
    """

    wanted: WantedState | None
    tier: Tier
    present: Tier | None = None
    marked: bool = True
    housed: bool = True
    migrated: bool = False
    declared: bool = True
    deleted: bool = False
    held: State | None = None
    stored: State | None = None
    reason: str = ""
    lived: bool = False
    shared: bool = True


_HELD = frozenset({State.CREATED, State.INITIALIZING, State.READY, State.BUSY})


def plan_instance(state: InstanceState) -> Act:
    """The call that brings the instance on."""
    known = state.held is not None or state.stored is not None
    if state.deleted or state.wanted is WantedState.TERMINATED:
        return Act.TERMINATE if known and state.held is not State.TERMINATED else Act.NONE
    resident = state.held in _HELD
    if known and state.declared and not state.marked:
        return Act.MARK
    user_paused = not resident and state.reason == PauseReason.USER_REQUESTED
    if state.wanted is WantedState.PAUSED:
        if known and not user_paused and state.held is not State.ERROR:
            return Act.PAUSE
        return Act.MOVE if _elsewhere(state) else Act.NONE
    if _elsewhere(state):
        # Served where it is until its pod can take it: no request waits for a pod to start.
        return Act.MOVE if state.housed or not resident else Act.AWAIT
    if state.held is State.ERROR and state.shared:
        # Requests bring others back; an instance that is always on has nobody else to try again.
        return Act.ACTIVATE if state.declared and state.tier is Tier.HOT else Act.NONE
    if resident or not state.shared:
        return Act.RESUME if state.wanted is WantedState.RUNNING and user_paused else Act.NONE
    if user_paused:
        return Act.RESUME if state.wanted is WantedState.RUNNING else Act.NONE
    if not known and state.lived and state.wanted is None:
        return Act.NONE
    if state.tier is Tier.HOT:
        # Also when the store still names an owner: the host asks for proof that it ended, and gets it.
        return Act.ACTIVATE if state.declared or known else Act.NONE
    # The first activation of a declared one writes down that it was declared; later ones are the gateway's.
    first = state.declared and not known and state.tier is Tier.WARM
    return Act.ACTIVATE if first else Act.NONE


def _elsewhere(state: InstanceState) -> bool:
    """Whether it has another tier than its spec names."""
    other = state.present not in (None, state.tier)
    return other and state.declared and state.shared and not state.migrated


def is_out_of_sight(held: HeldView | None, shown: State) -> bool:
    """Whether a host that is not connected holds it, or did: no event comes when that host's pod goes.

    One that shows CREATED has no host: declared Paused from its beginning, it never had a process, and is not
    looked at again and again for that.
    """
    return held is None and shown in RESIDENT - {State.CREATED}
