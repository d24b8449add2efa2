# SPDX-License-Identifier: Apache-2.0
"""What the operator observes, with only the interesting part written out."""

from __future__ import annotations

from typing import Any

from agentpool_core.cluster import LABEL_INSTANCE, LABEL_POOL_UID, LABEL_ROLE, ROLE_GENERIC
from agentpool_core.lifecycle import State, Tier
from agentpool_operator.plan.views import HeldView, HostView, PodView

NOW = 1_800_000_000.0


def pod(name: str, role: str = ROLE_GENERIC, **fields: Any) -> PodView:
    """A pod that runs, made from the present template."""
    facts: dict[str, Any] = {"phase": "Running", "ready": True, "template": "new", "ip": "10.0.0.1"}
    return PodView(name=name, uid=f"uid-{name}", resource_version="1", role=role, **(facts | fields))


def held(id_: str = "inst-1", state: State = State.READY, tier: Tier = Tier.COLD, **fields: Any) -> HeldView:
    """An instance that a host holds."""
    return HeldView(id=id_, tenant="acme", project=id_, tier=tier, state=state, **({"epoch": 7} | fields))


def host(of: PodView, *instances: HeldView, **fields: Any) -> HostView:
    """A ready host of a pod; one with instances made each of them."""
    facts: dict[str, Any] = {"ready": True, "created": len(instances), "generation": 1}
    return HostView(
        pod_uid=of.uid,
        incarnation=f"{of.uid}/1",
        instances={one.id: one for one in instances},
        **(facts | fields),
    )


def pod_body(name: str = "pod-1", *, role: str = ROLE_GENERIC, **status: Any) -> dict[str, Any]:
    """A Pod object as the API server has it."""
    return {
        "metadata": {
            "name": name,
            "namespace": "default",
            "uid": f"uid-{name}",
            "resourceVersion": "1",
            "labels": {LABEL_ROLE: role, LABEL_POOL_UID: "pool-uid", LABEL_INSTANCE: ""},
        },
        "spec": {"restartPolicy": "Never"},
        "status": status,
    }


def container(name: str, **facts: Any) -> dict[str, Any]:
    """A container's status; `waiting`, `terminated`: its state."""
    state: dict[str, Any] = {key: facts.pop(key) for key in ("waiting", "terminated") if key in facts}
    return {"name": name, "image": "registry.test/agent:1", "state": state or {"running": {}}, **facts}
