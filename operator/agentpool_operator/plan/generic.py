# SPDX-License-Identifier: Apache-2.0
"""How many generic pods there are to be: made, replaced, given up.

Never more than wanted plus surge, whatever state they are in; pods on their way out count. A pod is given
up only through `Retire`, which its host refuses when an instance got there first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from agentpool_core.cluster import ROLE_GENERIC
from agentpool_operator.plan.views import HostView, PodView

HOLD_SECONDS = 20.0
"""A pod that ended soon after its start, and that nobody had used, keeps its place for so long: a broken
agent costs three pods a minute, not hundreds."""
RAN_WELL_SECONDS = 60.0
"""A pod that ended after more than this is replaced at once."""
BATCH = 10
"""Pods made by one run: a large pool fills in a few runs, and a burst does not starve the API server."""
GENTLE = 2
"""Pods of a small pool on their way up at once, while at least half of those wanted wait: nobody misses the
others yet, and a start takes more than a second of a core from the requests beside it. Where cores are few,
ten that start together are all late; of two at a time the first is soon there."""
GENTLE_SHARE = 20
"""A pool of more than 40 has more nodes: a twentieth of it may come up at once."""
STARTING_SECONDS = 10.0
"""A pod that is not up after so long does not keep others from being made."""


@dataclass(frozen=True, slots=True)
class GenericPlan:
    """What is to be done about the waiting pods.

    Attributes:
        create: how many to make now.
        retire: pods whose hosts are to be asked to retire; those that agree are deleted.
        delete: pods that hold nothing and never will.
        wanted, ready: for the report.
        again_after: seconds until time alone changes the plan; None: it does not.
    """

    create: int = 0
    retire: tuple[PodView, ...] = ()
    delete: tuple[PodView, ...] = ()
    wanted: int = 0
    ready: int = 0
    again_after: float | None = None


def surge(wanted: int) -> int:
    """How many more than wanted there may be while templates change or pods end."""
    return max(1, math.ceil(wanted / 4)) if wanted else 1


def waiting(pods: Sequence[PodView]) -> list[PodView]:
    """The pods that belong to nobody in particular."""
    return [pod for pod in pods if pod.role == ROLE_GENERIC and not pod.instance]


def taken(pod: PodView, host: HostView | None) -> bool:
    """Whether a pod takes no instance any more: it got one, had one, or its host agreed to retire."""
    return host is not None and (host.used or host.residents > 0 or host.draining)


def plan_generic(
    pods: Sequence[PodView],
    hosts: Mapping[str, HostView],
    wanted: int,
    template: str,
    now: float,
    *,
    expected: int = 0,
    used_before: Set[str] = frozenset(),
) -> GenericPlan:
    """The plan.

    Args:
        pods: all pods of the pool, as they are at the API server.
        hosts: connected hosts by pod UID.
        template: hash of the wanted pod template.
        now: seconds since 1970.
        expected: pods that were made and that `pods` does not show yet.
        used_before: UIDs of pods that had an instance: what ends such a one says nothing about the next.
    """
    mine = waiting(pods)
    over = [pod for pod in mine if pod.ended and not pod.deleting]
    held = [pod for pod in over if _holds(pod, now) and pod.uid not in used_before]
    delete = [pod for pod in over if pod not in held]
    alive = [pod for pod in mine if not pod.ended and not pod.deleting]
    free = [pod for pod in alive if not taken(pod, hosts.get(pod.uid))]
    used = [pod for pod in alive if taken(pod, hosts.get(pod.uid)) and hosts[pod.uid].residents == 0]
    fresh = [pod for pod in free if pod.template == template]
    stale = [pod for pod in free if pod.template != template]
    # What just ended keeps its place: that is the pacing of a pod that cannot live.
    leaving = sum(1 for pod in mine if pod.deleting) + len(delete) + len(used)
    room = wanted + surge(wanted) - len(free) - len(held) - leaving - expected
    missing = wanted - len(fresh) - len(held) - expected
    starting = [pod for pod in free if not _ready(pod, hosts) and now < pod.created_at + STARTING_SECONDS]
    up = sum(1 for pod in free if _ready(pod, hosts))
    create = max(0, min(missing, room, _pace(up, wanted, len(starting) + expected)))
    retire = (*_surplus(fresh, stale, hosts, wanted), *used)
    changes = [pod.ended_at + HOLD_SECONDS for pod in held]
    if create < min(missing, room):
        changes += [pod.created_at + STARTING_SECONDS for pod in starting]
    pause = min((moment - now for moment in changes), default=None)
    return GenericPlan(create, retire, tuple(delete), wanted, min(up, wanted), pause)


def _pace(up: int, wanted: int, starting: int) -> int:
    """How many may be made now, for as many as are up and on their way."""
    at_once = max(GENTLE, wanted // GENTLE_SHARE)
    if 2 * up >= wanted:
        return at_once - starting
    return 2 * at_once - starting if 4 * up >= wanted else BATCH


def _surplus(
    fresh: Sequence[PodView], stale: Sequence[PodView], hosts: Mapping[str, HostView], wanted: int
) -> list[PodView]:
    """Free pods that are too many, or have an old template and can be spared."""
    fresh_ready = sum(1 for pod in fresh if _ready(pod, hosts))
    # A stale pod that works stays until a fresh one can stand in for it; one that does not goes at once.
    oldest = sorted(stale, key=lambda pod: pod.created_at)
    broken = [pod for pod in oldest if not _ready(pod, hosts)]
    working = [pod for pod in oldest if _ready(pod, hosts)]
    spare = max(0, fresh_ready + len(working) - wanted)
    youngest = sorted(fresh, key=lambda pod: (_ready(pod, hosts), -pod.created_at))
    return [*broken, *working[:spare], *youngest[: max(0, len(fresh) - wanted)]]


def _holds(pod: PodView, now: float) -> bool:
    return pod.ran_seconds < RAN_WELL_SECONDS and now < pod.ended_at + HOLD_SECONDS


def _ready(pod: PodView, hosts: Mapping[str, HostView]) -> bool:
    host = hosts.get(pod.uid)
    return host is not None and host.ready
