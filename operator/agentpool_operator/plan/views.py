# SPDX-License-Identifier: Apache-2.0
"""What is observed, parsed once at the border: pods from the API's objects, hosts from their own reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from agentpool_core.cluster import (
    ANNOTATION_TEMPLATE,
    CONTAINER_WORKERS,
    DELETION_COST,
    LABEL_INSTANCE,
    LABEL_POOL_UID,
    LABEL_ROLE,
    LABEL_TIER,
)
from agentpool_core.lifecycle import State, Tier

RESIDENT = frozenset({State.CREATED, State.INITIALIZING, State.READY, State.BUSY})
"""States in which an instance takes up a place on its host."""


class Trouble(StrEnum):
    """Why a pod does not come up; the reasons of conditions and Events."""

    IMAGE = "ImageMissing"
    UNSCHEDULABLE = "Unschedulable"
    QUOTA = "QuotaExceeded"
    SECRET = "SecretMissing"  # noqa: S105  # a reason
    AGENT = "AgentNotLoadable"
    CRASH = "CrashLooping"
    REFUSED = "PodRefused"


@dataclass(frozen=True, slots=True)
class PodView:
    """One agent pod.

    Attributes:
        instance: id of the instance whose own pod it is; empty on shared and waiting ones.
        tier: of that instance, as its label says.
        owner_uid: UID of its controller.
        template: hash of the template that it was made from.
        ended: it holds no host or no workers any more, and never will again.
        ran_seconds: how long it ran before it ended.
        ended_at: when it ended, seconds since 1970; 0: not ended.
        ready_at: since when it is ready, seconds since 1970; 0: it is not.
        trouble: why it does not come up, and the details.
        cost: its deletion cost; the lowest goes first when a Deployment gets smaller.
    """

    name: str
    uid: str
    resource_version: str
    role: str
    instance: str = ""
    tier: str = ""
    owner_uid: str = ""
    template: str = ""
    phase: str = "Pending"
    ready: bool = False
    deleting: bool = False
    ended: bool = False
    ended_at: float = 0.0
    ran_seconds: float = 0.0
    created_at: float = 0.0
    ready_at: float = 0.0
    ip: str = ""
    trouble: Trouble | None = None
    details: str = ""
    cost: int = 0


@dataclass(frozen=True, slots=True)
class RecoveryView:
    """The last failure of an instance and what its host does about it; see types.proto."""

    cause: str
    strategy: str
    failures: int
    failed_at: float = 0.0
    message: str = ""

    @property
    def escalated(self) -> bool:
        """Its host tries it no more by itself, or hardly ever."""
        return self.strategy == "ESCALATE"


@dataclass(frozen=True, slots=True)
class BreakerView:
    """The circuit breaker of an instance, when it is not closed. Trials are no news: they end each wait, and
    closing it or another wait follows."""

    failures: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class HeldView:
    """One instance as a host reports it."""

    id: str
    tenant: str
    project: str
    tier: Tier
    state: State
    reason: str = ""
    epoch: int = 0
    isolation: tuple[str, ...] = ()
    busy_since: float = 0.0
    """When this operator first saw it BUSY without a break, its monotonic clock; 0: not BUSY."""
    declared_uid: str = ""
    pinned: bool = False
    """Its tier was chosen by hand."""
    recovery: RecoveryView | None = None
    breaker: BreakerView | None = None
    """None: requests are let through, and it never was otherwise as far as its host tells."""
    total_requests: int = field(default=0, compare=False)
    last_used_at: float = field(default=0.0, compare=False)
    """Load alone makes no difference between two views: it is no news."""

    @property
    def owned(self) -> bool:
        """The host won the ownership, or is past that: tenant code may have run."""
        return self.epoch > 0 and self.state in RESIDENT


@dataclass(frozen=True, slots=True)
class AwaitedView:
    """A new HOT instance that was asked for; `asked_at` in seconds since 1970."""

    id: str
    tenant: str
    project: str
    asked_at: float


@dataclass(frozen=True, slots=True)
class LoadView:
    """What a host bears; see HostLoad in host.proto."""

    workers_cpu_millis: int = 0
    host_cpu_millis: int = 0
    workers_memory_bytes: int = 0
    arrivals_per_second: float = 0.0
    completions_per_second: float = 0.0
    latency_p99_ms: float | None = None


@dataclass(frozen=True, slots=True)
class HostView:
    """What one host says of itself; `None` instead of one stands for a host that is not connected."""

    pod_uid: str
    incarnation: str
    ready: bool = False
    draining: bool = False
    generation: int = 0
    created: int = 0
    """Instances that it ever made."""
    spares: int = 0
    problems: tuple[str, ...] = ()
    isolation_missing: Mapping[str, str] = field(default_factory=dict)
    instances: Mapping[str, HeldView] = field(default_factory=dict)
    awaited: tuple[AwaitedView, ...] = ()
    active: int = 0
    """Requests that it works on."""
    queued: int = 0
    """Requests that wait for their turn there."""
    load: LoadView | None = None
    """None: it was not measured yet, or not by this host."""

    @property
    def residents(self) -> int:
        """Instances that take up a place."""
        return sum(1 for one in self.instances.values() if one.state in RESIDENT)

    @property
    def used(self) -> bool:
        """Whether some tenant's code ran or may have run here."""
        return self.created > 0 or any(one.state is not State.TERMINATED for one in self.instances.values())


def seconds(timestamp: str | None) -> float:
    """An RFC 3339 time as seconds since 1970; 0 for none."""
    if not timestamp:
        return 0.0
    return datetime.fromisoformat(timestamp.replace("Z", "+00:00")).timestamp()


_IMAGE_REASONS = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable"}
)


def pod_view(body: Mapping[str, Any]) -> PodView:
    """The view of a Pod object."""
    metadata, status = body["metadata"], body.get("status") or {}
    labels = metadata.get("labels") or {}
    containers: Sequence[Mapping[str, Any]] = status.get("containerStatuses") or ()
    ended, ended_at, began = _ended(status, containers, (body.get("spec") or {}).get("restartPolicy"))
    trouble, details = _trouble(metadata, status, containers)
    ready_since = _ready_since(status)
    owners: Sequence[Mapping[str, Any]] = metadata.get("ownerReferences") or ()
    return PodView(
        name=metadata["name"],
        uid=metadata["uid"],
        resource_version=metadata.get("resourceVersion", ""),
        role=labels.get(LABEL_ROLE, ""),
        instance=labels.get(LABEL_INSTANCE, ""),
        tier=labels.get(LABEL_TIER, "").upper(),
        owner_uid=next((str(one["uid"]) for one in owners if one.get("controller")), ""),
        template=(metadata.get("annotations") or {}).get(ANNOTATION_TEMPLATE, ""),
        phase=status.get("phase", "Pending"),
        ready=ready_since is not None,
        deleting=bool(metadata.get("deletionTimestamp")),
        ended=ended,
        ended_at=ended_at,
        ran_seconds=max(0.0, ended_at - began) if ended and began else 0.0,
        created_at=seconds(metadata.get("creationTimestamp")),
        ready_at=ready_since or 0.0,
        ip=status.get("podIP") or "",
        trouble=trouble,
        details=details,
        cost=_whole((metadata.get("annotations") or {}).get(DELETION_COST)),
    )


def _whole(text: str | None) -> int:
    """A number in an annotation; what is none counts for nothing, as it does to Kubernetes."""
    try:
        return int(text or 0)
    except ValueError:
        return 0


def _ready_since(status: Mapping[str, Any]) -> float | None:
    """Since when a pod is ready, 0 when that is not told; None: it is not."""
    for one in status.get("conditions") or ():
        if one.get("type") == "Ready":
            return seconds(one.get("lastTransitionTime")) if one.get("status") == "True" else None
    return None


def pool_uid(body: Mapping[str, Any]) -> str:
    """UID of the pool that a pod belongs to by its label."""
    return str((body["metadata"].get("labels") or {}).get(LABEL_POOL_UID, ""))


def _ended(
    status: Mapping[str, Any], containers: Sequence[Mapping[str, Any]], policy: str | None
) -> tuple[bool, float, float]:
    finished = [(one.get("state") or {}).get("terminated") or {} for one in containers]
    ended = status.get("phase") in ("Failed", "Succeeded")
    # A pod that restarts nothing is of no use without either of its two containers.
    ended = ended or (policy == "Never" and any(finished))
    if not ended:
        return False, 0.0, 0.0
    at = max((seconds(one.get("finishedAt")) for one in finished if one), default=0.0)
    began = max((seconds(one.get("startedAt")) for one in finished if one), default=0.0)
    return True, at, began


def _trouble(
    metadata: Mapping[str, Any], status: Mapping[str, Any], containers: Sequence[Mapping[str, Any]]
) -> tuple[Trouble | None, str]:
    for one in status.get("conditions") or ():
        if one.get("type") == "PodScheduled" and one.get("reason") == "Unschedulable":
            return Trouble.UNSCHEDULABLE, str(one.get("message", ""))
    for one in containers:
        state = one.get("state") or {}
        waiting = state.get("waiting") or {}
        reason, message = str(waiting.get("reason", "")), str(waiting.get("message", ""))
        if reason in _IMAGE_REASONS:
            return Trouble.IMAGE, f"{one.get('image', '')}: {message or reason}"
        if reason == "CreateContainerConfigError":
            return Trouble.SECRET, message or reason
        # A container that ended says why: the last lines of its output.
        past = state.get("terminated") or (one.get("lastState") or {}).get("terminated") or {}
        failed = bool(past) and past.get("exitCode") != 0
        if failed and not (metadata.get("deletionTimestamp") or one.get("ready")):
            words = str(past.get("message") or past.get("reason") or "").strip()
            says = words.splitlines()[-1][:400] if words else f"exit code {past.get('exitCode')}"
            agent = one.get("name") == CONTAINER_WORKERS and past.get("exitCode") == 3
            return (Trouble.AGENT if agent else Trouble.CRASH), f"container {one.get('name')}: {says}"
    if status.get("phase") == "Failed" and status.get("reason"):
        return Trouble.REFUSED, f"{status['reason']}: {status.get('message', '')}"
    return None, ""
