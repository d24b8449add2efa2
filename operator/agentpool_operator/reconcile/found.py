# SPDX-License-Identifier: Apache-2.0
"""What is known of an instance with an AgentInstance, and what of it the plan and the report need."""

from __future__ import annotations

from dataclasses import dataclass

from agentpool_core.api.v1alpha1 import Storage, WantedState
from agentpool_core.config import EffectivePool
from agentpool_core.lifecycle import PauseReason, State, Tier
from agentpool_operator.cache import InstanceRef
from agentpool_operator.hosts.link import HostLink, recovery_view
from agentpool_operator.plan.instance import InstanceState
from agentpool_operator.plan.views import RESIDENT, HeldView, RecoveryView
from agentpool_proto.v1.types_pb2 import Instance


@dataclass(slots=True)
class Found:
    """What is known of an instance at this moment."""

    link: HostLink | None = None
    held: HeldView | None = None
    stored: Instance | None = None
    asked: bool = False
    """Some host told what the store knows."""

    @property
    def resident(self) -> bool:
        """Whether a connected host holds it."""
        return self.held is not None and self.held.state in RESIDENT


def present_tier(found: Found) -> Tier | None:
    """The tier that the instance has; None: it is not known to exist."""
    if found.held is not None:
        return found.held.tier
    return Tier(found.stored.tier) if found.stored is not None and found.stored.tier else None


def is_orphaned(found: Found, hears_all: bool) -> bool:
    """Whether the store goes on naming an owner that is gone: it ended without releasing the instance, which
    is in nobody's hands until it is claimed anew. An answer that names the pod comes from the owner itself.

    Args:
        hears_all: every host that could hold it is connected.
    """
    stored = found.stored
    if found.held is not None or stored is None or stored.pod:
        return False
    return State(stored.state) in RESIDENT and hears_all


def last_failure(found: Found) -> RecoveryView | None:
    """What is known of its last failure."""
    if found.held is not None:
        return found.held.recovery
    return recovery_view(found.stored) if found.stored is not None else None


def is_marked(ref: InstanceRef, found: Found) -> bool:
    """Whether the record names the AgentInstance. Of one that is not quite there its host does not tell."""
    if found.held is not None:
        return found.held.state not in (State.READY, State.BUSY) or found.held.declared_uid == ref.uid
    return found.stored is None or found.stored.declared_uid == ref.uid


def is_migrated(found: Found) -> bool:
    """Whether its host gave it another tier, because it ran out of memory."""
    failure = last_failure(found)
    return failure is not None and failure.strategy == "MIGRATE"


def is_misplaced(ref: InstanceRef, tier: Tier, state: State) -> bool:
    """Whether the spec names another tier than the instance has."""
    lives = state not in (State.CREATED, State.TERMINATED)
    return ref.declared and lives and bool(ref.tier) and ref.tier != tier


def wanted_tier(ref: InstanceRef, found: Found, effective: EffectivePool) -> Tier:
    """The tier that it is to have: of the spec, else the one that it has, else the pool's default."""
    if ref.tier and ref.declared:
        return Tier(ref.tier)
    present = present_tier(found)
    if present is not None:
        return present
    return Tier(ref.last_tier) if ref.last_tier and not ref.declared else effective.default_tier


def state_of(
    ref: InstanceRef,
    found: Found,
    effective: EffectivePool,
    *,
    wanted: WantedState | None = None,
    tier: Tier = Tier.WARM,
    deleted: bool = False,
    housed: bool = True,
) -> InstanceState:
    """What the plan rests on."""
    held, stored = found.held, found.stored
    reason = held.reason if held is not None else stored.reason if stored is not None else ""
    return InstanceState(
        wanted=wanted,
        tier=tier,
        present=present_tier(found),
        marked=is_marked(ref, found),
        housed=housed,
        migrated=is_migrated(found),
        declared=ref.declared,
        deleted=deleted,
        held=held.state if held is not None else None,
        stored=State(stored.state) if stored is not None else None,
        reason=reason,
        lived=ref.last_state not in ("", State.CREATED.value),
        shared=effective.checkpoint.storage is Storage.REDIS,
    )


def is_there(tier: Tier, state: State, reason: str) -> bool:
    """Whether a declared instance that the operator starts is there: one that is still on its way must not be
    Ready, for a request would make it elsewhere, in the pool's default tier."""
    ended = state is State.TERMINATED or reason == PauseReason.USER_REQUESTED
    if tier is Tier.COLD or ended:
        return True
    return state is not State.CREATED and (tier is Tier.WARM or state in RESIDENT)


def fits(wanted: WantedState, state: State, reason: str) -> bool:
    """Whether the state is what the spec wants."""
    if wanted is WantedState.TERMINATED:
        return state is State.TERMINATED
    user_paused = state is State.PAUSED and reason == PauseReason.USER_REQUESTED
    if wanted is WantedState.PAUSED:
        # What was never used has nothing to pause.
        return user_paused or state in (State.CREATED, State.TERMINATED)
    return not user_paused and state is not State.ERROR
