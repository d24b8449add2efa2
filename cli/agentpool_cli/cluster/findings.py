# SPDX-License-Identifier: Apache-2.0
"""What objects of a cluster say about the health of AgentPool, and what to do about it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from agentpool_core.cluster import LABEL_COMPONENT

Object = Mapping[str, Any]


class Level(StrEnum):
    """How a check ended."""

    OK = "OK"
    PROBLEM = "PROBLEM"
    UNKNOWN = "UNKNOWN"
    """It could not be made, for lack of a right for example."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    level: Level
    subject: str
    text: str
    remedy: str = ""


def ok(subject: str, text: str) -> Finding:
    """All is well."""
    return Finding(Level.OK, subject, text)


def problem(subject: str, text: str, remedy: str) -> Finding:
    """Something is wrong, and what to do."""
    return Finding(Level.PROBLEM, subject, text, remedy)


INSTALL = (
    "Install or upgrade the chart: helm upgrade --install agentpool charts/agentpool -n agentpool-system."
)
RESOURCES = ("agentpools", "agentinstances")
IMAGE_REMEDY = (
    "Push the image where the nodes can pull it, and correct image, tag or pull secret "
    "(spec.agent.image of the pool, image.* of the chart)."
)
_WAITING = {
    "ImagePullBackOff": IMAGE_REMEDY,
    "ErrImagePull": IMAGE_REMEDY,
    "ErrImageNeverPull": IMAGE_REMEDY,
    "InvalidImageName": IMAGE_REMEDY,
    "CreateContainerConfigError": "Create the Secret or ConfigMap that the message names.",
    "CreateContainerError": "See its events: kubectl -n {namespace} describe pod {pod}.",
    "CrashLoopBackOff": "See why it ends: kubectl -n {namespace} logs {pod} -c {container} --previous.",
    "RunContainerError": "See its events: kubectl -n {namespace} describe pod {pod}.",
}
_UNHEALTHY = {"Stalled": "True", "StoreDataLost": "True", "StoreReady": "False"}
"""Conditions beside Ready that mean trouble, and with which status."""


def definitions(discovery: Object | None) -> Iterator[Finding]:
    """Whether the API server knows the kinds; None: it does not know the group."""
    known = {one.get("name") for one in (discovery or {}).get("resources") or ()}
    missing = [name for name in RESOURCES if name not in known]
    if missing:
        yield problem("definitions", f"The cluster does not know {', '.join(missing)}.", INSTALL)
    else:
        yield ok("definitions", "AgentPool and AgentInstance are known.")


def workloads(found: Sequence[Object]) -> Iterator[Finding]:
    """Operator, gateway and Redis of the release."""
    by_component: dict[str, list[Object]] = {}
    for one in found:
        labels = one["metadata"].get("labels") or {}
        by_component.setdefault(labels.get(LABEL_COMPONENT, ""), []).append(one)
    for component in ("operator", "gateway", "redis"):
        these = by_component.get(component, [])
        if not these and component == "redis":
            yield ok("redis", "The release has none: an external one, or none, is used.")
        elif not these:
            yield problem(component, "It is not installed.", INSTALL)
        for one in these:
            yield _workload(component, one)


def _workload(component: str, one: Object) -> Finding:
    wanted = (one.get("spec") or {}).get("replicas", 1)
    ready = (one.get("status") or {}).get("readyReplicas", 0)
    where = f"{one['metadata']['namespace']}/{one['metadata']['name']}"
    if wanted == 0:
        return problem(component, f"{where} is scaled to zero.", f"Set {component}.replicas of the chart.")
    if ready < wanted:
        return problem(
            component,
            f"{where}: {ready} of {wanted} ready.",
            f"See its pods: kubectl -n {one['metadata']['namespace']} describe pods "
            f"-l {LABEL_COMPONENT}={component}.",
        )
    return ok(component, f"{where}: {ready} of {wanted} ready.")


def pods(found: Sequence[Object]) -> Iterator[Finding]:
    """Pods that cannot run; those that can are counted."""
    troubled = 0
    for one in found:
        troubles = list(_pod_troubles(one))
        troubled += bool(troubles)
        yield from troubles
    if found:
        yield ok("pods", f"{len(found) - troubled} of {len(found)} have no trouble to start.")


def _pod_troubles(one: Object) -> Iterator[Finding]:
    namespace, name = one["metadata"]["namespace"], one["metadata"]["name"]
    subject = f"pod {namespace}/{name}"
    status = one.get("status") or {}
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            yield problem(
                subject,
                f"No node takes it: {condition.get('message', '')}",
                "Add nodes, or ask for less: quota and resources of the pool's tier.",
            )
    for container in [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]:
        waiting = (container.get("state") or {}).get("waiting") or {}
        reason = str(waiting.get("reason", ""))
        if reason in _WAITING:
            message = str(waiting.get("message") or "").strip()
            text = f"Container {container.get('name')}: {reason}{': ' if message else ''}{message}"
            remedy = _WAITING[reason].format(namespace=namespace, pod=name, container=container.get("name"))
            yield problem(subject, text, remedy)


def pools(found: Sequence[Object]) -> Iterator[Finding]:
    """Pools by their conditions."""
    if not found:
        yield ok("pools", "There is none yet: kubectl apply -f examples/01-quickstart/pool.yaml makes one.")
    for one in found:
        yield from _pool(one)


def _pool(one: Object) -> Iterator[Finding]:
    metadata, status = one["metadata"], one.get("status") or {}
    subject = f"pool {metadata['namespace']}/{metadata['name']}"
    conditions = {str(each.get("type")): each for each in status.get("conditions") or ()}
    ready = conditions.get("Ready")
    if ready is None or status.get("observedGeneration") != metadata.get("generation"):
        yield problem(subject, "The operator has not looked at it yet.", "See that the operator is ready.")
        return
    for kind, status_of_trouble in _UNHEALTHY.items():
        each = conditions.get(kind)
        if each is not None and each.get("status") == status_of_trouble:
            yield _condition(subject, each)
    if ready.get("status") == "True":
        yield ok(subject, str(ready.get("message") or "Ready."))
    elif (conditions.get("Stalled") or {}).get("status") != "True":
        yield _condition(subject, ready)


def _condition(subject: str, condition: Object) -> Finding:
    text = f"{condition.get('type')} is {condition.get('status')}, {condition.get('reason')}"
    namespace, _, name = subject.removeprefix("pool ").partition("/")
    return problem(
        subject,
        f"{text}: {condition.get('message', '')}",
        f"Do what the message says; kubectl describe agentpool {name} -n {namespace} has its events.",
    )


def rights(who: str, namespace: str, answers: Mapping[str, bool | None]) -> Iterator[Finding]:
    """What a caller may do with the pools of a namespace, by verb; None: not known."""
    subject = f"rights of {who}"
    unknown = [verb for verb, may in answers.items() if may is None]
    missing = [verb for verb, may in answers.items() if may is False]
    if unknown:
        yield Finding(Level.UNKNOWN, subject, f"It cannot be found out: {', '.join(unknown)}.")
    if missing:
        yield problem(
            subject,
            f"No right to {', '.join(missing)} on agentpools in {namespace}.",
            f"Bind a Role with these verbs on agentpools of group agentpool.dev in namespace {namespace}.",
        )
    elif not unknown:
        yield ok(subject, f"May {', '.join(answers)} on agentpools in {namespace}.")


def audited(who: str, namespace: str, answers: Mapping[str, bool | None]) -> Finding:
    """What a caller may do beyond an application's rights; the gateway logs each such call. To lack one of
    these rights is no problem, and to have one may be news."""
    subject = f"audited rights of {who}"
    named = {
        words: [verb for verb, may in answers.items() if may is answer]
        for words, answer in (("May", True), ("May not", False), ("Not known:", None))
    }
    told = [f"{words} {', '.join(verbs)}" for words, verbs in named.items() if verbs]
    text = f"{'. '.join(told)}, on agentpools in {namespace}."
    return Finding(Level.UNKNOWN, subject, text) if named["Not known:"] else ok(subject, text)
