# SPDX-License-Identifier: Apache-2.0
"""What a Pod object proves about the hosts that ran, or run, in it. Pure.

A host draws its nonce from the clock of its node, and the kubelet of the same node writes the times of its
container; so they can be compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from agentpool_core.cluster import CONTAINER_HOST, LABEL_POOL_UID
from agentpool_core.names import Incarnation

NONCE_TIME_DIGITS = 16
"""Hexadecimal digits of nanoseconds at the start of a nonce."""
_OVER = frozenset({"Succeeded", "Failed"})


@dataclass(frozen=True, slots=True)
class PodView:
    """An agent pod, as far as the gateway needs it."""

    namespace: str
    name: str
    uid: str
    pool_uid: str
    ip: str
    """Empty before it has one."""
    over: bool
    """No container of it runs or will run again."""
    stopped: bool
    """Its host container does not run now, but did."""
    restarted_at: float
    """Hosts that started before this time, seconds since 1970, have ended; 0: none is known to."""
    unready: bool
    """It was Ready, and is not now."""
    leaving: bool
    """It is being deleted."""

    @property
    def reachable(self) -> bool:
        """Whether a host may answer at its address."""
        return bool(self.ip) and not self.over

    def proves_end(self, incarnation: Incarnation) -> bool:
        """Whether this host of the pod is no more, given that its channel is broken."""
        if self.over or self.stopped or self.unready:
            return True
        return self.restarted_at > 0 and started_at(incarnation) < self.restarted_at


def started_at(incarnation: Incarnation) -> float:
    """When a host started, seconds since 1970; infinity when its nonce does not tell."""
    try:
        return int(incarnation.nonce[:NONCE_TIME_DIGITS], 16) / 1e9
    except ValueError:
        return float("inf")


def pod_view(body: Mapping[str, Any]) -> PodView:
    """The view of a Pod object; KeyError or ValueError when it has not the form of one."""
    metadata, status = body["metadata"], body.get("status") or {}
    host = _host_container(status.get("containerStatuses") or ())
    state, last = host.get("state") or {}, host.get("lastState") or {}
    running, ended = state.get("running"), last.get("terminated")
    started = _seconds((running or {}).get("startedAt"))
    return PodView(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        pool_uid=(metadata.get("labels") or {}).get(LABEL_POOL_UID, ""),
        ip=status.get("podIP") or "",
        over=status.get("phase") in _OVER,
        stopped="terminated" in state or ("waiting" in state and ended is not None),
        # The kubelet cuts fractions of seconds off: an earlier life began before either time.
        restarted_at=max(started, _seconds((ended or {}).get("finishedAt"))) if ended else 0.0,
        unready=_lost_readiness(status.get("conditions") or (), started),
        leaving=bool(metadata.get("deletionTimestamp")),
    )


def _host_container(statuses: Iterable[Mapping[str, Any]]) -> Mapping[str, Any]:
    return next((one for one in statuses if one.get("name") == CONTAINER_HOST), {})


def _lost_readiness(conditions: Iterable[Mapping[str, Any]], started: float) -> bool:
    # A pod that is not Ready *yet* proves nothing: its host may have been found before its first probe.
    ready = next((one for one in conditions if one.get("type") == "Ready"), None)
    if ready is None or ready.get("status") == "True" or not started:
        return False
    return _seconds(ready.get("lastTransitionTime")) > started


def _seconds(time: str | None) -> float:
    return datetime.fromisoformat(time).timestamp() if time else 0.0
