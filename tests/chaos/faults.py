# SPDX-License-Identifier: Apache-2.0
"""What is broken, and how: processes by SIGKILL, pods by deletion without grace.

Never the last of a kind: of gateways and shared pods one of two at a time, a pod of one instance only while a
waiting one could take over. Otherwise what is measured is an outage that no redundancy was given against.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import psutil

from agentpool_core.cluster import LABEL_INSTANCE, LABEL_ROLE, LABEL_TIER, ROLE_GENERIC, ROLE_HOT, ROLE_WARM
from chaos import processes
from chaos.history import Fault
from support.e2e import SYSTEM, Installed, Pool
from support.kubernetes import Object, pod_ready

KILLS: dict[str, Callable[[str], list[psutil.Process]]] = {
    "SIGKILL worker": processes.workers,
    "SIGKILL zygote": processes.zygote,
    "SIGKILL host": lambda uid: processes.running(uid, "agentpool_agent.host"),
}
PARTS = {"gateway": "agentpool_gateway", "operator": "agentpool_operator", "redis": "redis-server"}
"""Of the release, with a word of their command lines."""
SPARE = 1
"""Waiting pods there are before a pod of one instance is broken."""


@dataclass
class Faults:
    """Breaks parts of one pool and of the release.

    Attributes:
        only: what a fault's name has to hold.
    """

    installed: Installed
    pool: Pool
    rng: random.Random
    only: str = ""
    done: list[Fault] = field(default_factory=list)

    def one(self) -> Fault | None:
        """Break something that may be broken now; None when nothing is."""
        possible = [one for one in self._possible() if self.only in one[0]]
        if not possible:
            return None
        kind = self.rng.choice(sorted({kind for kind, _ in possible}))
        _, act = self.rng.choice([one for one in possible if one[0] == kind])
        fault = act()
        if fault is not None:
            self.done.append(fault)
        return fault

    def _possible(self) -> list[tuple[str, Callable[[], Fault | None]]]:
        found: list[tuple[str, Callable[[], Fault | None]]] = []
        for part, pod in self._targets():
            # A killed worker restarts no container.
            kinds = [kind for kind in KILLS if kind == "SIGKILL worker" or not _restarted(pod)]
            found += [(f"{kind} {part}", self._killing(kind, part, pod)) for kind in kinds]
            found.append((f"deletion {part}", self._deleting(part, pod, self.pool.namespace)))
        for part in PARTS:
            pods = [pod for pod in self.installed.parts(part) if pod_ready(pod)]
            enough = len(pods) > (1 if part == "gateway" else 0)
            if enough:
                pod = self.rng.choice(pods)
                # The kubelet makes the second restart of a container wait; a new pod starts at once.
                act = self._deleting(part, pod, SYSTEM) if _restarted(pod) else self._ending(part, pod)
                found.append((part, act))
        return found

    def _targets(self) -> list[tuple[str, Object]]:
        """Ready agent pods with their tier, or "waiting"."""
        ready = [pod for pod in self.pool.pods() if pod_ready(pod)]
        by_part: dict[str, list[Object]] = {}
        for pod in ready:
            by_part.setdefault(part_of(pod), []).append(pod)
        warm, waiting = by_part.pop("WARM", []), by_part.pop("waiting", [])
        found = [("WARM", pod) for pod in warm] if len(warm) > 1 else []
        if len(waiting) > SPARE:
            found += [("waiting", pod) for pod in waiting]
        if len(waiting) >= SPARE:
            found += [(part, pod) for part, pods in by_part.items() for pod in pods]
        return found

    def _killing(self, kind: str, part: str, pod: Object) -> Callable[[], Fault | None]:
        def act() -> Fault | None:
            found = KILLS[kind](pod["metadata"]["uid"])
            return self._kill(kind, part, pod, [self.rng.choice(found)]) if found else None

        return act

    def _ending(self, part: str, pod: Object) -> Callable[[], Fault | None]:
        def act() -> Fault | None:
            found = processes.running(pod["metadata"]["uid"], PARTS[part])
            return self._kill("SIGKILL", part, pod, found) if found else None

        return act

    def _kill(self, kind: str, part: str, pod: Object, found: list[psutil.Process]) -> Fault:
        began = time.monotonic()
        for process in found:
            processes.sigkill(process)
        processes.wait_until_gone(found)
        return _fault(kind, part, pod, began)

    def _deleting(self, part: str, pod: Object, namespace: str) -> Callable[[], Fault]:
        def act() -> Fault:
            found = processes.of_pod(pod["metadata"]["uid"])
            began = time.monotonic()
            self.pool.kube.delete("pods", namespace, pod["metadata"]["name"], 0)
            processes.wait_until_gone(found)
            return _fault("deletion", part, pod, began)

        return act


def part_of(pod: Object) -> str:
    """The tier of an agent pod's instances, or "waiting"."""
    labels: dict[str, Any] = pod["metadata"]["labels"]
    match labels.get(LABEL_ROLE):
        case role if role == ROLE_WARM:
            return "WARM"
        case role if role == ROLE_HOT:
            return "HOT"
        case role if role == ROLE_GENERIC and LABEL_INSTANCE in labels:
            return str(labels.get(LABEL_TIER, "cold")).upper()
    return "waiting"


def _restarted(pod: Object) -> bool:
    return any(one["restartCount"] for one in pod["status"].get("containerStatuses", ()))


def _fault(kind: str, part: str, pod: Object, began: float) -> Fault:
    name = pod["metadata"]["name"]
    return Fault(kind, part, name, began, time.monotonic(), shared=part in PARTS and part != "operator")
