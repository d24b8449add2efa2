# SPDX-License-Identifier: Apache-2.0
"""Pods that are one instance's own: adopted, kept, made anew, given up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from agentpool_core.cluster import ROLE_GENERIC, ROLE_HOT, ROLE_WARM
from agentpool_core.lifecycle import State, Tier
from agentpool_operator.plan.generic import HOLD_SECONDS
from agentpool_operator.plan.views import HeldView, HostView, PodView

CAME_UP_SECONDS = 10.0
"""A HOT pod that lived for longer had started its agent: it was killed, or crashed later, and while it keeps
its place its instance waits. How soon that one starts again is its own failure history's decision."""
ADOPTION_SECONDS = 5.0
"""How long a lost HOT instance may take to reappear on a waiting pod, where the gateway puts it, before a new
pod is made for it."""


@dataclass(frozen=True, slots=True)
class OwnWish:
    """An instance with an AgentInstance.

    Attributes:
        hot: it is to have a pod of its own at all times.
        had_pod: it had one before, so its loss may be mended by an adoption.
        lost_for: seconds since it was first missed; 0 now.
        declared: a user wrote the AgentInstance; the operator recorded it otherwise.
    """

    id: str
    name: str
    uid: str
    hot: bool
    had_pod: bool = False
    lost_for: float = 0.0
    declared: bool = True


@dataclass(frozen=True, slots=True)
class OwnPlan:
    """What is to be done about the pods of single instances.

    Attributes:
        adopt: a waiting pod and the instance that moved in.
        retier: an own pod whose instance has another tier than its label says.
        create: instances that need a pod.
        retire: pods whose hosts hold nothing any more and are wanted no more.
        delete: pods that ended, or whose template is out of date and whose instance can move.
        forget: recorded instances without pod and host; their records go.
        lost: instances that should have a pod and have none; the caller remembers since when.
        capped: how many HOT pods are wanted beyond the tier's cap.
        again_after: seconds until time alone changes the plan.
    """

    adopt: tuple[tuple[PodView, HeldView], ...] = ()
    retier: tuple[tuple[PodView, HeldView], ...] = ()
    create: tuple[OwnWish, ...] = ()
    retire: tuple[PodView, ...] = ()
    delete: tuple[PodView, ...] = ()
    forget: tuple[OwnWish, ...] = ()
    lost: frozenset[str] = frozenset()
    capped: int = 0
    again_after: float | None = None


@dataclass(frozen=True, slots=True)
class OwnState:
    """Everything the plan rests on.

    Attributes:
        pods: all pods of the pool.
        hosts: connected hosts by pod UID.
        wishes: by instance id; doubles apart.
        templates: hashes that are up to date for the own pod of a HOT instance.
        waiting_template: the hash of waiting pods, and so of the pods of instances of other tiers.
        max_hot: cap on HOT pods.
        now: seconds since 1970.
    """

    pods: Sequence[PodView]
    hosts: Mapping[str, HostView]
    wishes: Mapping[str, OwnWish]
    templates: frozenset[str] = frozenset()
    max_hot: int = 100
    now: float = 0.0
    known: bool = True
    """Whether `wishes` is complete; false right after the start."""
    waiting_template: str = ""


@dataclass(slots=True)
class _Draft:
    retire: list[PodView] = field(default_factory=list)
    delete: list[PodView] = field(default_factory=list)
    placed: set[str] = field(default_factory=set)
    waits: list[float] = field(default_factory=list)


def plan_own(state: OwnState) -> OwnPlan:
    """The plan."""
    adopt = _adoptions(state)
    draft = _Draft(placed={held.id for _, held in adopt})
    for pod in state.pods:
        if pod.instance and not pod.deleting:
            _keep_or_end(pod, state, draft)
    _roll(state, draft)
    held, shared = _held(state)
    absent = [wish for wish in state.wishes.values() if wish.id not in draft.placed and wish.id not in held]
    missing = sorted((wish for wish in absent if wish.hot), key=lambda wish: wish.id)
    # One that lives on a shared host is served there until its pod is ready: no adoption will come.
    due = [w for w in missing if not w.had_pod or w.id in shared or w.lost_for >= ADOPTION_SECONDS]
    draft.waits.extend(ADOPTION_SECONDS - wish.lost_for for wish in missing if wish not in due)
    room = max(0, state.max_hot - _hot_pods(state))
    leaving = {pod.instance for pod in state.pods if pod.instance}
    forget = [w for w in absent if not w.declared and not w.hot and w.id not in leaving and state.known]
    return OwnPlan(
        adopt=tuple(adopt),
        retier=tuple(_retiered(state)),
        create=tuple(due[:room]),
        retire=tuple(draft.retire),
        delete=tuple(draft.delete),
        forget=tuple(forget),
        lost=frozenset(wish.id for wish in missing),
        capped=max(0, len(due) - room),
        again_after=min((max(0.05, wait) for wait in draft.waits), default=None),
    )


_RESIDENT = frozenset({State.CREATED, State.INITIALIZING, State.READY, State.BUSY})


def _held(state: OwnState) -> tuple[set[str], set[str]]:
    """Ids of the instances that a pod of one instance holds, and of those that a shared one does."""
    shared_pods = {pod.uid for pod in state.pods if pod.role == ROLE_WARM}
    own, shared = set[str](), set[str]()
    for uid, host in state.hosts.items():
        (shared if uid in shared_pods else own).update(
            one.id for one in host.instances.values() if one.state in _RESIDENT
        )
    return own, shared


def _retiered(state: OwnState) -> list[tuple[PodView, HeldView]]:
    """Own pods whose instance got another tier where it is."""
    found = []
    for pod in state.pods:
        host = state.hosts.get(pod.uid)
        held = host.instances.get(pod.instance) if host is not None and pod.instance else None
        if held is not None and held.owned and pod.tier and pod.tier != held.tier and not pod.deleting:
            found.append((pod, held))
    return found


def _adoptions(state: OwnState) -> list[tuple[PodView, HeldView]]:
    found = []
    for pod in state.pods:
        host = state.hosts.get(pod.uid)
        if pod.role != ROLE_GENERIC or pod.instance or pod.deleting or pod.ended or host is None:
            continue
        owned = [one for one in host.instances.values() if one.owned]
        if owned:
            found.append((pod, max(owned, key=lambda one: one.epoch)))
    return found


def _keep_or_end(pod: PodView, state: OwnState, draft: _Draft) -> None:
    wish = state.wishes.get(pod.instance)
    if pod.ended:
        held_back = pod.ended_at + HOLD_SECONDS - state.now
        if pod.ran_seconds < CAME_UP_SECONDS and held_back > 0 and wish is not None and wish.hot:
            # As for waiting pods: one that cannot live is not made anew at once.
            draft.placed.add(pod.instance)
            draft.waits.append(held_back)
        else:
            draft.delete.append(pod)
        return
    if wish is None and state.known:
        # Its AgentInstance was deleted: the pod drains, and the state stays where it is.
        draft.delete.append(pod)
        return
    draft.placed.add(pod.instance)
    host = state.hosts.get(pod.uid)
    if wish is None or wish.hot or host is None or host.residents > 0:
        return
    draft.retire.append(pod)


def _roll(state: OwnState, draft: _Draft) -> None:
    """Pods with an old template: one that never started goes at once, for it holds nothing. One that works
    goes when its instance is idle: it drains, and the instance comes back on a new one. One at a time, and
    only while the new template is seen to work: a mistake costs one instance its place, not all."""
    if not state.templates:
        return
    own = [pod for pod in state.pods if pod.instance and not pod.deleting and not pod.ended]
    wished = [pod for pod in own if _is_old(pod, state) and pod not in draft.retire]
    draft.delete.extend(pod for pod in wished if _never_started(pod, state))
    going = any(pod.instance and pod.deleting for pod in state.pods) or bool(draft.delete)
    if going or not _works(state):
        return
    for pod in wished:
        host = state.hosts.get(pod.uid)
        if host is not None and all(one.state is not State.BUSY for one in host.instances.values()):
            draft.delete.append(pod)
            return


def _never_started(pod: PodView, state: OwnState) -> bool:
    return pod.phase == "Pending" and not pod.ready and pod.uid not in state.hosts


def _is_old(pod: PodView, state: OwnState) -> bool:
    wish = state.wishes.get(pod.instance)
    if wish is None:
        return False
    if wish.hot:
        return pod.template not in state.templates
    return bool(state.waiting_template) and pod.template != state.waiting_template


def _works(state: OwnState) -> bool:
    """Whether pods of the present templates come up: every one that is some instance's own, and one of those
    that wait where there are any."""
    living = [pod for pod in state.pods if not pod.deleting and not pod.ended]
    present = {*state.templates, state.waiting_template}
    own_ready = all(pod.ready for pod in living if pod.instance and pod.template in present)
    spare = [pod for pod in living if pod.role == ROLE_GENERIC and not pod.instance]
    return own_ready and (not spare or any(pod.ready and pod.template in present for pod in spare))


def _hot_pods(state: OwnState) -> int:
    hot = {wish.id for wish in state.wishes.values() if wish.hot}
    return sum(1 for pod in state.pods if not pod.ended and (pod.role == ROLE_HOT or (pod.instance in hot)))


def is_hot(tier: str, default: Tier) -> bool:
    """Whether a tier that a manifest names ("" for none) means HOT."""
    return (tier or default.value) == Tier.HOT.value
