# SPDX-License-Identifier: Apache-2.0
"""The other objects of a pool: Deployment, headless Service, disruption budget, Secret, records, adoption."""

from __future__ import annotations

from typing import Any

from agentpool_core.cluster import (
    AGENT_NAME,
    HOST_METRICS_PORT,
    HOST_PORT,
    LABEL_INSTANCE,
    LABEL_MANAGED_BY,
    LABEL_NAME,
    LABEL_ORIGIN,
    LABEL_POOL_UID,
    LABEL_TIER,
    MANAGED_BY,
    REDIS_ADMIN_USER,
)
from agentpool_operator.desired.naming import Owner, reference
from agentpool_operator.desired.pod import SAFE_TO_EVICT, Template
from agentpool_operator.plan.views import HeldView, PodView

PROGRESS_SECONDS = 300
"""How long a rollout may stand still before it counts as stuck."""


def _metadata(owner: Owner, name: str) -> dict[str, Any]:
    return {
        "name": name,
        "namespace": owner.namespace,
        "labels": owner.labels,
        "ownerReferences": [owner.reference],
    }


def deployment(owner: Owner, template: Template, replicas: int) -> dict[str, Any]:
    """The shared pods. A new one is up, and known to the gateways, before an old one drains."""
    return {
        "metadata": _metadata(owner, owner.warm_name),
        "spec": {
            "replicas": replicas,
            "revisionHistoryLimit": 2,
            "minReadySeconds": 2,
            "progressDeadlineSeconds": PROGRESS_SECONDS,
            "selector": {"matchLabels": owner.warm_selector},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 0}},
            "template": {"metadata": {"labels": dict(template.labels)}, "spec": dict(template.spec)},
        },
    }


def service(owner: Owner) -> dict[str, Any]:
    """A name for all agent pods of the pool, for scraping and debugging; requests go by the gateway."""
    return {
        "metadata": _metadata(owner, owner.service_name),
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {LABEL_NAME: AGENT_NAME, LABEL_POOL_UID: owner.uid},
            "ports": [
                {"name": "grpc", "port": HOST_PORT, "protocol": "TCP", "targetPort": HOST_PORT},
                {
                    "name": "metrics",
                    "port": HOST_METRICS_PORT,
                    "protocol": "TCP",
                    "targetPort": HOST_METRICS_PORT,
                },
            ],
        },
    }


def budget(owner: Owner, available: int) -> dict[str, Any]:
    """So many shared pods stay when others are evicted; see `plan.warm.min_available`. One that is not ready
    serves nobody, and may always go."""
    return {
        "metadata": _metadata(owner, owner.warm_name),
        "spec": {
            "minAvailable": available,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": owner.warm_selector},
        },
    }


def redis_secret(owner: Owner, url: str) -> dict[str, Any]:
    """The pool's own access to Redis."""
    return {"metadata": _metadata(owner, owner.secret_name), "type": "Opaque", "stringData": {"url": url}}


def admin_secret(namespace: str, name: str, address: str, password: str) -> dict[str, Any]:
    """The administrator of the release's own Redis; its pod reads `password`."""
    url = f"redis://{REDIS_ADMIN_USER}:{password}@{address}"
    return {
        "metadata": {"name": name, "namespace": namespace, "labels": {LABEL_MANAGED_BY: MANAGED_BY}},
        "type": "Opaque",
        "stringData": {"url": url, "password": password},
    }


def record(owner: Owner, held: HeldView) -> dict[str, Any]:
    """The AgentInstance of an instance that traffic made and that has a pod of its own: tier and state stay
    unset, and its spec is never written again. One that still waits for that pod says by a label that it is
    to be HOT."""
    metadata = _metadata(owner, held.id)
    awaited = {} if held.owned else {LABEL_TIER: held.tier.value.lower()}
    metadata["labels"] = owner.labels | {LABEL_ORIGIN: "observed"} | awaited
    return {
        "metadata": metadata,
        "spec": {"pool": owner.name, "tenant": held.tenant, "project": held.project},
    }


def adoption(pod: PodView, held: HeldView, name: str, uid: str) -> dict[str, Any]:
    """The patch that makes a pod an instance's own: another controller in place of the pool, all at once and
    only if the pod is still the one that was seen."""
    return {
        "metadata": {
            "uid": pod.uid,
            "resourceVersion": pod.resource_version,
            "labels": {LABEL_INSTANCE: held.id, LABEL_TIER: held.tier.value.lower()},
            "annotations": {SAFE_TO_EVICT: "false"},
            "ownerReferences": [reference("AgentInstance", name, uid)],
        }
    }
