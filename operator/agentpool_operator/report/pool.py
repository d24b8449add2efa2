# SPDX-License-Identifier: Apache-2.0
"""The status of an AgentPool, pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agentpool_core.config import EffectivePool
from agentpool_core.lifecycle import State
from agentpool_operator.plan.views import RESIDENT, HeldView, HostView, PodView, Trouble
from agentpool_operator.report.circuits import CIRCUITS_OPEN, circuits
from agentpool_operator.report.conditions import Condition, Problem, kstatus, merged
from agentpool_operator.report.failures import failing
from agentpool_operator.report.scaling import ScalingReport, scaling_condition, scaling_status

BUSY_SECONDS = 10.0
"""An instance shows as BUSY only after so long: requests end in milliseconds, and each were two writes."""

_REMEDIES = {
    Trouble.IMAGE: "Check spec.agent.image and imagePullSecrets, and that the nodes reach the registry.",
    Trouble.UNSCHEDULABLE: "Add nodes, or lower the resources of the tier.",
    Trouble.QUOTA: "Raise the ResourceQuota of the namespace, or lower replicas or warmup.count.",
    Trouble.SECRET: "Create what is missing, or correct its name.",
    Trouble.AGENT: "Correct spec.agent.entrypoint or the image; container workers logs the whole error.",
    Trouble.CRASH: "See the log of the named container.",
    Trouble.REFUSED: "See the message of the node.",
}
STUCK = "ProgressDeadlineExceeded"
_STUCK_REMEDY = "Correct the spec, or restore the last one that worked: either goes on by itself."
_ORDER = [Trouble.AGENT, Trouble.IMAGE, Trouble.SECRET, Trouble.QUOTA, Trouble.UNSCHEDULABLE]
_NOT_LOADABLE = ("cannot import", "has no class", "has no setup", "importing the agent", "names no class")


@dataclass(frozen=True, slots=True)
class PoolReport:
    """What the status is made of.

    Attributes:
        problems: found while reconciling, the worst first.
        replicas: wanted; present and ready ones come from the Deployment.
        data_lost: the store lost its data since the last report, or is recovering from that.
        store: what is wrong with the store's settings; empty: nothing.
        scaling: what automatic scaling does; None: it is switched off.
    """

    generation: int
    effective: EffectivePool | None
    selector: str = ""
    problems: Sequence[Problem] = ()
    deployment: Mapping[str, Any] | None = None
    replicas: int = 0
    generic_wanted: int = 0
    generic_ready: int = 0
    pods: Sequence[PodView] = ()
    hosts: Mapping[str, HostView] = field(default_factory=dict)
    own_pods: int = 0
    store: Sequence[str] = ()
    store_generation: str = ""
    data_lost: bool = False
    scaling: ScalingReport | None = None


def shown_state(held: HeldView, clock: float) -> State:
    """The state as it is reported: BUSY only when it lasts."""
    brief = held.state is State.BUSY and clock - held.busy_since < BUSY_SECONDS
    return State.READY if brief else held.state


def pod_problems(pods: Iterable[PodView]) -> list[Problem]:
    """One problem for each kind of trouble that pods have, the clearest first."""
    of: dict[Trouble, list[PodView]] = {}
    for pod in pods:
        if pod.trouble is not None and not pod.deleting:
            of.setdefault(pod.trouble, []).append(pod)
    ranked = sorted(of, key=lambda one: (_ORDER.index(one) if one in _ORDER else len(_ORDER), one))
    return [
        Problem(
            trouble.value,
            f"{len(of[trouble])} pods: {of[trouble][0].details[:400]}. {_REMEDIES[trouble]}",
            trouble is Trouble.AGENT,
        )
        for trouble in ranked
    ]


def host_problems(hosts: Iterable[HostView]) -> list[Problem]:
    """What hosts that are not ready say is wrong."""
    found = {words for host in hosts if not host.ready and not host.draining for words in host.problems}
    broken = [words for words in sorted(found) if any(mark in words for mark in _NOT_LOADABLE)]
    if broken:
        remedy = _REMEDIES[Trouble.AGENT]
        return [Problem(Trouble.AGENT.value, f"{broken[0]} {remedy}", True)]
    return []


def deployment_problems(
    deployment: Mapping[str, Any] | None, troubles: Sequence[Problem] = ()
) -> list[Problem]:
    """What the Deployment's controller says is wrong; `troubles`: of its pods, the clearest first."""
    status = (deployment or {}).get("status") or {}
    said = {one.get("type"): one for one in status.get("conditions") or ()}
    problems = []
    failure, progress = said.get("ReplicaFailure") or {}, said.get("Progressing") or {}
    if failure.get("status") == "True":
        message = str(failure.get("message", ""))
        trouble = Trouble.QUOTA if "exceeded quota" in message else Trouble.REFUSED
        problems.append(Problem(trouble.value, f"{message[:400]}. {_REMEDIES[trouble]}"))
    generation = int(((deployment or {}).get("metadata") or {}).get("generation") or 0)
    seen = int(status.get("observedGeneration") or 0) >= generation
    # What it says of a spec that was replaced since is past.
    if seen and progress.get("status") == "False" and progress.get("reason") == STUCK:
        serving = int(status.get("readyReplicas") or 0)
        why = (*problems, *troubles)
        message = f"The rollout of the shared pods is stuck; {serving} pods serve on. "
        message += why[0].message if why else _STUCK_REMEDY
        problems.insert(0, Problem(STUCK, message, True))
    return problems


def pool_status(before: Mapping[str, Any], report: PoolReport, now: float, clock: float) -> dict[str, Any]:
    """The whole status; `now`: seconds since 1970, `clock`: the monotonic clock of `busy_since`."""
    status = (report.deployment or {}).get("status") or {}
    ready_replicas = int(status.get("readyReplicas") or 0)
    counts: dict[str, Counter[str]] = {}
    for host in report.hosts.values():
        for held in host.instances.values():
            counts.setdefault(held.tier.value, Counter())[shown_state(held, clock).value] += 1
    resident = sum(
        1 for host in report.hosts.values() for held in host.instances.values() if held.state in RESIDENT
    )
    troubles = [*host_problems(report.hosts.values()), *pod_problems(report.pods)]
    stuck = deployment_problems(report.deployment, troubles)
    problems = [*report.problems, *stuck, *troubles]
    reconciling = _under_way(report, ready_replicas)
    # Trouble of spare pods alone does not take the pool's readiness: requests are served.
    worst = problems[0] if problems and (report.problems or reconciling) else None
    conditions = kstatus(worst, reconciling, _ready_words(report, ready_replicas))
    conditions += _others(report, problems)
    found: dict[str, Any] = {
        "observedGeneration": report.generation,
        "conditions": merged(before.get("conditions") or (), conditions, report.generation, now),
        "replicas": int(status.get("replicas") or 0),
        "readyReplicas": ready_replicas,
        "selector": report.selector,
        "generic": {"wanted": report.generic_wanted, "ready": report.generic_ready},
        "resident": resident,
        "instances": {tier: dict(sorted(states.items())) for tier, states in sorted(counts.items())},
    }
    if report.effective is not None:
        found["effective"] = report.effective.model_dump(mode="json", exclude_none=False)
    if report.store_generation:
        found["storeGeneration"] = report.store_generation
    if report.scaling is not None:
        scaling = scaling_status(before.get("scaling") or {}, report.scaling, found["replicas"])
        found |= {"scaling": scaling} if scaling is not None else {}
    return found


def _under_way(report: PoolReport, ready: int) -> str:
    if report.effective is None:
        return "The configuration is not resolved yet."
    status = (report.deployment or {}).get("status") or {}
    observed = int(status.get("observedGeneration") or 0)
    generation = int(((report.deployment or {}).get("metadata") or {}).get("generation") or 0)
    if report.deployment is None or observed < generation:
        return "The shared pods are being rolled out."
    updated = int(status.get("updatedReplicas") or 0)
    if ready < report.replicas or updated < report.replicas:
        return f"{min(ready, updated)} of {report.replicas} shared pods are ready and up to date."
    if int(status.get("replicas") or 0) > report.replicas:
        return "Shared pods that are not wanted any more are draining."
    late = [
        host for host in report.hosts.values() if host.generation < report.generation and not host.draining
    ]
    if late:
        return f"{len(late)} hosts have not taken on the present configuration yet."
    alone = report.replicas == 0 and report.own_pods == 0
    if alone and report.generic_wanted > 0 and report.generic_ready == 0:
        return "No waiting pod is ready yet."
    return ""


def _ready_words(report: PoolReport, ready: int) -> str:
    return f"{ready} shared and {report.generic_ready} waiting pods are ready."


def _others(report: PoolReport, problems: Sequence[Problem]) -> list[Condition]:
    short = report.generic_wanted - report.generic_ready
    if short <= 0:
        warm = Condition("WarmupComplete", True, "Complete", f"{report.generic_ready} pods wait.")
    else:
        words = f"{report.generic_ready} of {report.generic_wanted} pods wait."
        reason = problems[0].reason if problems else "Progressing"
        warm = Condition(
            "WarmupComplete", False, reason, " ".join([words, *(p.message for p in problems[:1])])
        )
    lost = Condition(
        "StoreDataLost",
        report.data_lost,
        "DataLost" if report.data_lost else "Intact",
        "The store lost its data; hosts write what they hold again, everything else is gone."
        if report.data_lost
        else "",
    )
    store = Condition(
        "StoreReady", not report.store, "Unsafe" if report.store else "Ready", " ".join(report.store)
    )
    scaling = [scaling_condition(report.scaling)] if report.scaling is not None else []
    hosts = report.hosts.values()
    return [warm, store, lost, failing(hosts), circuits(hosts), *scaling]


_COUNTS = frozenset({"resident", "instances", "generic"})


def counts_only(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether two statuses differ in nothing but counts, of instances and of waiting pods, whose writing may
    be put off."""

    def rest(status: Mapping[str, Any]) -> dict[str, Any]:
        found = {key: value for key, value in status.items() if key not in _COUNTS}
        return found | {"conditions": [_essence(one) for one in status.get("conditions") or ()]}

    return rest(before) == rest(after)


def refills(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether as many pods wait as are wanted, and the status did not say so yet."""

    def full(status: Mapping[str, Any]) -> bool:
        generic = status.get("generic") or {}
        return bool(generic.get("wanted") == generic.get("ready"))

    return full(after) and not full(before)


def _essence(condition: Mapping[str, Any]) -> tuple[Any, ...]:
    """A condition without the words that count pods: they follow with the next write. That pods are being
    made is such a word, too; that they cannot be is not."""
    generation, kind = condition.get("observedGeneration"), condition.get("type")
    if kind == "WarmupComplete" and condition.get("reason") in ("Complete", "Progressing"):
        return kind, generation
    if kind == CIRCUITS_OPEN:
        return kind, generation
    return kind, condition.get("status"), condition.get("reason"), generation
