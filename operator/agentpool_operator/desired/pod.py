# SPDX-License-Identifier: Apache-2.0
"""The pod of an agent: container `host` with the ports and the secrets, container `workers` with the code."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agentpool_core.api import AgentPool
from agentpool_core.api.quantity import cpu_millis, memory_bytes
from agentpool_core.api.v1alpha1 import ResourcesSpec, Storage
from agentpool_core.cluster import (
    ANNOTATION_TEMPLATE,
    CONTAINER_HOST,
    CONTAINER_WORKERS,
    HOST_METRICS_PORT,
    HOST_PORT,
    HOST_UID,
    LABEL_INSTANCE,
    LABEL_TIER,
    LIVENESS_SERVICE,
    POD_GID,
    REDIS_URL_FILE,
    ROLE_GENERIC,
    ROLE_HOT,
    ROLE_WARM,
    RUN_DIRECTORY,
    WORK_DIRECTORY,
    WORKERS_UID,
)
from agentpool_core.config import MIB, EffectivePool
from agentpool_core.lifecycle import Tier
from agentpool_operator.desired.naming import Owner, fingerprint

RELEASE_SECONDS = 10
"""Beyond the longest request: every instance is checkpointed and released."""
END_SECONDS = 10
"""Beyond the drain: the processes end, and the node notices."""
SOCKET = f"{RUN_DIRECTORY}/zygote.sock"
REDIS_VOLUME, RUN_VOLUME, WORK_VOLUME, TMP_VOLUME = "redis", "run", "work", "tmp"
ZYGOTE_BYTES = 192 * MIB
"""Interpreter, agent and libraries, before any instance."""
AWAIT_HANDLER = (
    # Not every sandbox tells which signals a process handles.
    "grep -q ^SigCgt: /proc/1/status || exit 0; "
    "tries=100; "
    # Before it becomes this program, the first process is the container runtime's, which handles all signals.
    "until { grep -q agentpool_agent /proc/1/cmdline && grep -Eq '^SigCgt:.*[4-7c-f].{3}$' /proc/1/status; } "
    "|| [ $tries -le 0 ]; do "
    "tries=$((tries - 1)); sleep 0.1; done"
)
"""Returns once the container's first process handles SIGTERM (signal 15: bit 14 of the mask), at the latest
after about 10 s."""
SAFE_TO_EVICT = "cluster-autoscaler.kubernetes.io/safe-to-evict"


@dataclass(frozen=True, slots=True)
class PodDefaults:
    """What holds for the agent pods of every pool.

    Attributes:
        image: image of pools that name none.
        public_keys: of call tokens, PEM, newest first.
        tracing: variables by which hosts make traces; none where they are off.
    """

    image: str
    pull_policy: str
    public_keys: str
    log_level: str = "INFO"
    tracing: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Template:
    """A pod template of one role and what tells two of them apart."""

    role: str
    labels: Mapping[str, str]
    spec: Mapping[str, Any]

    @property
    def hash(self) -> str:
        """Changes with everything that a running pod cannot take on."""
        return fingerprint(self.spec)

    def pod(self, owner: Owner, name: str) -> dict[str, Any]:
        """A waiting pod of the pool."""
        return {
            "metadata": {
                "name": name,
                "namespace": owner.namespace,
                "labels": dict(self.labels),
                "annotations": {ANNOTATION_TEMPLATE: self.hash, SAFE_TO_EVICT: "true"},
                "ownerReferences": [owner.reference],
            },
            "spec": dict(self.spec),
        }

    def own_pod(
        self, owner: Owner, name: str, instance_id: str, reference: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The pod of one instance; `reference` names its AgentInstance."""
        body = self.pod(owner, name)
        body["metadata"]["labels"] |= {LABEL_INSTANCE: instance_id, LABEL_TIER: Tier.HOT.value.lower()}
        body["metadata"]["annotations"][SAFE_TO_EVICT] = "false"
        body["metadata"]["ownerReferences"] = [dict(reference)]
        return body


def template(
    role: str, owner: Owner, pool: AgentPool, effective: EffectivePool, base: PodDefaults
) -> Template:
    """The template of a role's pods."""
    agent = pool.spec.agent
    spec = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "restartPolicy": "Always" if role == ROLE_WARM else "Never",
        "terminationGracePeriodSeconds": drain_seconds(effective) + END_SECONDS,
        "securityContext": {
            "runAsNonRoot": True,
            "fsGroup": POD_GID,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_host(role, owner, pool, effective, base), _workers(role, pool, effective, base)],
        "volumes": _volumes(owner, effective),
    }
    if agent.image_pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in agent.image_pull_secrets]
    runtime_class = _tier_spec(pool, _sizing_tier(role), "runtime_class_name")
    if runtime_class:
        spec["runtimeClassName"] = runtime_class
    if role == ROLE_WARM:
        spec["topologySpreadConstraints"] = [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": owner.warm_selector},
            }
        ]
    return Template(role, owner.pod_labels(role), spec)


def generic_tiers(pool: AgentPool, effective: EffectivePool) -> tuple[Tier, ...]:
    """The tiers that a waiting pod can take: not HOT when its runtime is another one than HOT's."""
    tiers = []
    hot, cold = (_tier_spec(pool, tier, "runtime_class_name") for tier in (Tier.HOT, Tier.COLD))
    if hot == cold and effective.tier(Tier.HOT).max_instances > 0:
        tiers.append(Tier.HOT)
    if effective.tier(Tier.COLD).max_instances > 0:
        tiers.append(Tier.COLD)
    return tuple(tiers)


def _sizing_tier(role: str) -> Tier:
    return {ROLE_WARM: Tier.WARM, ROLE_HOT: Tier.HOT, ROLE_GENERIC: Tier.COLD}[role]


def _tier_spec(pool: AgentPool, tier: Tier, name: str) -> Any:
    tiers = pool.spec.tiers
    return getattr(getattr(tiers, tier.value.lower()), name, None) if tiers is not None else None


def _container(pool: AgentPool, base: PodDefaults) -> dict[str, Any]:
    agent = pool.spec.agent
    policy = agent.image_pull_policy.value if agent.image_pull_policy else base.pull_policy
    return {
        "image": agent.image or base.image,
        "imagePullPolicy": policy,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        # The kernel drops a signal that the first process does not handle yet. A pod that is deleted while
        # it starts would miss SIGTERM, serve on, and stay until the end of its grace time.
        "lifecycle": {"preStop": {"exec": {"command": ["/bin/sh", "-c", AWAIT_HANDLER]}}},
    }


def _security(uid: int) -> dict[str, Any]:
    return {
        "runAsUser": uid,
        "runAsGroup": POD_GID if uid == HOST_UID else uid,
        "runAsNonRoot": True,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def _env(values: Mapping[str, str]) -> list[dict[str, Any]]:
    return [{"name": name, "value": value} for name, value in values.items()]


def _field(name: str, path: str) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}}


def _host(
    role: str, owner: Owner, pool: AgentPool, effective: EffectivePool, base: PodDefaults
) -> dict[str, Any]:
    redis = effective.checkpoint.storage is Storage.REDIS
    mounts: list[dict[str, Any]] = [{"name": RUN_VOLUME, "mountPath": RUN_DIRECTORY}]
    if redis:
        folder = REDIS_URL_FILE.rpartition("/")[0]
        mounts.append({"name": REDIS_VOLUME, "mountPath": folder, "readOnly": True})
    return {
        "name": CONTAINER_HOST,
        **_container(pool, base),
        "command": ["python", "-m", "agentpool_agent.host"],
        "env": _host_env(role, owner, pool, effective, base),
        "ports": [
            {"name": "grpc", "containerPort": HOST_PORT, "protocol": "TCP"},
            {"name": "metrics", "containerPort": HOST_METRICS_PORT, "protocol": "TCP"},
        ],
        # Ready: configured, zygote there, store reached. Alive: the event loop answers; a host that waits for
        # its configuration is alive.
        "readinessProbe": _probe("", 2, 3),
        "livenessProbe": _probe(LIVENESS_SERVICE, 20, 4),
        "resources": {
            # A waiting pod does nothing, measured at under 10m, and there are many.
            "requests": {"cpu": "10m" if role == ROLE_GENERIC else "50m", "memory": "96Mi"},
            "limits": {"memory": "1Gi" if role == ROLE_WARM else "384Mi"},
        },
        "securityContext": _security(HOST_UID),
        "volumeMounts": mounts,
    }


def drain_seconds(effective: EffectivePool) -> int:
    """How long a host may take to leave: the longest request that it may have accepted ends, and the rest is
    released."""
    return math.ceil(effective.limits.request_timeout_seconds) + RELEASE_SECONDS


def _host_env(
    role: str, owner: Owner, pool: AgentPool, effective: EffectivePool, base: PodDefaults
) -> list[dict[str, Any]]:
    generic = generic_tiers(pool, effective) or (Tier.COLD,)
    tiers = {ROLE_WARM: (Tier.WARM,), ROLE_HOT: (Tier.HOT,), ROLE_GENERIC: generic}[role]
    redis = effective.checkpoint.storage is Storage.REDIS
    values = {
        "AGENTPOOL_LISTEN": f"0.0.0.0:{HOST_PORT}",
        "AGENTPOOL_METRICS_PORT": str(HOST_METRICS_PORT),
        "AGENTPOOL_RUN_DIR": RUN_DIRECTORY,
        "AGENTPOOL_POOL": owner.name,
        "AGENTPOOL_ROLE": "Shared" if role == ROLE_WARM else "Generic",
        "AGENTPOOL_TIERS": ",".join(tier.value for tier in tiers),
        "AGENTPOOL_PUBLIC_KEYS": base.public_keys,
        "AGENTPOOL_DRAIN_SECONDS": str(drain_seconds(effective)),
        "AGENTPOOL_LOG_LEVEL": base.log_level,
        **({"AGENTPOOL_REDIS_URL_FILE": REDIS_URL_FILE} if redis else {}),
        **base.tracing,
    }
    # Nobody else's instance gets in before its own does.
    reserved = [_field("AGENTPOOL_RESERVED_FOR", f"metadata.labels['{LABEL_INSTANCE}']")]
    return [
        *_env(values),
        *(reserved if role == ROLE_HOT else []),
        _field("AGENTPOOL_POD", "metadata.name"),
        _field("AGENTPOOL_POD_UID", "metadata.uid"),
        _field("AGENTPOOL_NAMESPACE", "metadata.namespace"),
    ]


def _probe(service: str, period: int, failures: int) -> dict[str, Any]:
    return {
        "grpc": {"port": HOST_PORT, "service": service},
        "periodSeconds": period,
        "failureThreshold": failures,
        "timeoutSeconds": 2,
    }


def _workers(role: str, pool: AgentPool, effective: EffectivePool, base: PodDefaults) -> dict[str, Any]:
    zygote = ["python", "-m", "agentpool_agent.zygote", "--socket", SOCKET]
    values = {"TMPDIR": "/tmp", "HOME": WORK_DIRECTORY, "PYTHONDONTWRITEBYTECODE": "1"}  # noqa: S108  # a volume
    return {
        "name": CONTAINER_WORKERS,
        **_container(pool, base),
        "command": [
            *zygote,
            "--entrypoint",
            pool.spec.agent.entrypoint,
            "--work-dir",
            f"{WORK_DIRECTORY}/workers",
        ],
        "env": _env(values),
        "resources": workers_resources(role, pool, effective),
        "securityContext": _security(WORKERS_UID),
        "volumeMounts": [
            {"name": RUN_VOLUME, "mountPath": RUN_DIRECTORY},
            {"name": WORK_VOLUME, "mountPath": WORK_DIRECTORY},
            {"name": TMP_VOLUME, "mountPath": "/tmp"},  # noqa: S108  # a volume
        ],
    }


def workers_resources(role: str, pool: AgentPool, effective: EffectivePool) -> dict[str, Any]:
    """Requests and limits of the workers.

    What the manifest leaves open follows from the quota. A shared pod's memory limit lets every place be
    filled to its quota, and its CPU has no limit; a pod of one instance is held to that instance's quota.
    """
    tier = _sizing_tier(role)
    quota = effective.tier(tier).quota
    if role == ROLE_WARM:
        limits = {"memory": ZYGOTE_BYTES + effective.instances_per_host * quota.memory_bytes}
        requests = {"cpu": 100, "memory": 256 * MIB}
    else:
        limits = {"cpu": quota.cpu_millis, "memory": ZYGOTE_BYTES + quota.memory_bytes}
        share = 2 if role == ROLE_HOT else 25
        requests = {"cpu": max(10, quota.cpu_millis // share), "memory": 64 * MIB + quota.memory_bytes // 4}
    given: ResourcesSpec | None = _tier_spec(pool, tier, "resources")
    return {
        "requests": _amounts(_over(requests, given.requests if given else None)),
        "limits": _amounts(_over(limits, given.limits if given else None)),
    }


def _over(amounts: Mapping[str, int], given: Any) -> dict[str, int]:
    found = dict(amounts)
    if given is not None and given.cpu is not None:
        found["cpu"] = cpu_millis(given.cpu)
    if given is not None and given.memory is not None:
        found["memory"] = memory_bytes(given.memory)
    return found


def _amounts(amounts: Mapping[str, int]) -> dict[str, str]:
    """In the one form that the API server gives back, so that comparing texts is enough."""
    found = {}
    if "cpu" in amounts:
        millis = amounts["cpu"]
        found["cpu"] = f"{millis}m" if millis % 1000 else str(millis // 1000)
    if "memory" in amounts:
        found["memory"] = _binary(amounts["memory"])
    return found


def _binary(value: int) -> str:
    for suffix in ("", "Ki", "Mi", "Gi", "Ti", "Pi"):
        if value % 1024 or suffix == "Pi":
            return f"{value}{suffix}"
        value //= 1024
    raise AssertionError("the loop ends at the last suffix")


def _volumes(owner: Owner, effective: EffectivePool) -> Sequence[dict[str, Any]]:
    volumes: list[dict[str, Any]] = [
        {"name": RUN_VOLUME, "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        {"name": WORK_VOLUME, "emptyDir": {"sizeLimit": "1Gi"}},
        {"name": TMP_VOLUME, "emptyDir": {"sizeLimit": "256Mi"}},
    ]
    if effective.checkpoint.storage is Storage.REDIS:
        secret = {"secretName": owner.secret_name, "defaultMode": 0o440}
        volumes.append({"name": REDIS_VOLUME, "secret": secret})
    return volumes
