# SPDX-License-Identifier: Apache-2.0
"""Real objects with only the interesting part written out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agentpool_core.api import AgentPool
from agentpool_core.config import EffectivePool, resolve
from agentpool_core.names import Incarnation, InstanceKey

ENTRYPOINT = "agentpool_agent.agents.echo:Echo"


def manifest(spec: Mapping[str, Any] | None = None, *, name: str = "support") -> dict[str, Any]:
    """The object of an AgentPool as it comes from YAML; `spec` goes over an agent that echoes."""
    return {
        "apiVersion": "agentpool.dev/v1alpha1",
        "kind": "AgentPool",
        "metadata": {"name": name},
        "spec": {"agent": {"entrypoint": ENTRYPOINT}, **(spec or {})},
    }


def agent_pool(spec: Mapping[str, Any] | None = None, *, name: str = "support") -> AgentPool:
    """An AgentPool."""
    return AgentPool.model_validate(manifest(spec, name=name))


def effective_pool(
    spec: Mapping[str, Any] | None = None,
    *,
    name: str = "support",
    uid: str = "pool-uid",
    generation: int = 1,
    environ: Mapping[str, str] | None = None,
) -> EffectivePool:
    """What a host is configured with."""
    return resolve(agent_pool(spec, name=name), environ or {}, uid, generation)


def pool_object(
    spec: Mapping[str, Any] | None = None,
    *,
    name: str = "support",
    uid: str = "pool-uid",
    generation: int = 1,
    resolved: bool = True,
    effective_uid: str | None = None,
) -> dict[str, Any]:
    """An AgentPool as the API server has it once the operator has resolved it."""
    body = manifest(spec, name=name)
    body["metadata"] |= {"namespace": "default", "uid": uid, "generation": generation, "resourceVersion": "1"}
    if resolved:
        config = effective_pool(spec, name=name, uid=effective_uid or uid, generation=generation)
        body["status"] = {"effective": config.model_dump(mode="json")}
    return body


def pod(
    name: str,
    *,
    namespace: str = "default",
    uid: str = "",
    pool_uid: str = "pool-uid",
    ip: str = "10.0.0.1",
    phase: str = "Running",
    hosts: Sequence[Mapping[str, Any]] = (),
    conditions: Sequence[Mapping[str, Any]] = (),
    deleted: bool = False,
) -> dict[str, Any]:
    """An agent pod; `hosts` are its containerStatuses."""
    labels = {"app.kubernetes.io/name": "agentpool-agent", "agentpool.dev/pool-uid": pool_uid}
    metadata = {"namespace": namespace, "name": name, "uid": uid or f"uid-{name}", "labels": labels}
    if deleted:
        metadata["deletionTimestamp"] = "2026-11-21T12:00:09Z"
    status = {"phase": phase, "podIP": ip, "containerStatuses": list(hosts), "conditions": list(conditions)}
    return {"metadata": metadata, "status": status}


def instance_key(project: str = "project", tenant: str = "tenant") -> InstanceKey:
    """The key of an instance of pool default/support."""
    return InstanceKey("default", "support", tenant, project)


def incarnation(pod: str = "pod-1", time_ns: int = 1) -> Incarnation:
    """One life of a host."""
    return Incarnation.draw(pod, time_ns, b"\0\0\0\0")
