# SPDX-License-Identifier: Apache-2.0
"""As much of the Deployment controller as the operator can notice: one pod beyond the wanted ones while a
template rolls, none below, deletion cost, a progress deadline, conditions."""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Sequence
from typing import Any

from agentpool_operator.desired.naming import fingerprint
from agentpool_operator.kube.kinds import DEPLOYMENTS, PODS, Object

HASH = "pod-template-hash"
COST = "controller.kubernetes.io/pod-deletion-cost"
SURGE = 1


class DeploymentController:
    """Makes and ends the pods of Deployments.

    Args:
        client: of the API server, unguarded.

    Attributes:
        progress_seconds: how long a rollout may stand still.
    """

    def __init__(self, client: Any, namespace: str) -> None:
        self._client = client
        self._namespace = namespace
        self.progress_seconds = math.inf
        self._progress: dict[str, tuple[tuple[Any, ...], float]] = {}

    async def replicate(self, deployment: Object, pods: list[Object], ready: Sequence[str]) -> None:
        """One look at a Deployment; `pods`: all of the namespace, to which it adds those that it makes;
        `ready`: UIDs of those that work."""
        metadata, spec = deployment["metadata"], deployment["spec"]
        wanted, hash_ = spec["replicas"], fingerprint(spec["template"]["spec"])
        mine = [one for one in pods if one["metadata"]["name"].startswith(metadata["name"] + "-")]
        new = [one for one in mine if one["metadata"]["labels"].get(HASH) == hash_]
        old = [one for one in mine if one not in new]
        most = wanted + (SURGE if old else 0)
        made = max(0, min(wanted - len(new), most - len(mine)))
        pods.extend([await self._make(metadata["name"], spec["template"], hash_) for _ in range(made)])
        for body in self._spare(new, old, wanted, ready):
            await self._client.delete(
                PODS, self._namespace, body["metadata"]["name"], body["metadata"]["uid"]
            )
        await self._report(deployment, mine, new, ready)

    async def _make(self, owner: str, template: Object, hash_: str) -> Object:
        labels = {**template["metadata"]["labels"], HASH: hash_}
        name = f"{owner}-{secrets.token_hex(3)}"
        body = {"metadata": {"name": name, "labels": labels}, "spec": template["spec"]}
        made: Object = await self._client.create(PODS, self._namespace, body)
        return made

    @staticmethod
    def _spare(new: list[Object], old: list[Object], wanted: int, ready: Sequence[str]) -> list[Object]:
        def works(body: Object) -> bool:
            return body["metadata"]["uid"] in ready

        def cost(body: Object) -> tuple[bool, int]:
            return works(body), int((body["metadata"].get("annotations") or {}).get(COST, 0))

        broken = [one for one in old if not works(one)]
        serving = sum(1 for one in (*new, *old) if works(one))
        working = [one for one in old if works(one)][: max(0, serving - wanted)]
        extra = sorted(new, key=cost)[: max(0, len(new) - wanted)] if not old else []
        return [*broken, *working, *extra]

    async def _report(
        self, deployment: Object, mine: list[Object], new: list[Object], ready: Sequence[str]
    ) -> None:
        metadata, wanted = deployment["metadata"], deployment["spec"]["replicas"]
        working = sum(1 for one in mine if one["metadata"]["uid"] in ready)
        facts = (metadata["generation"], len(mine), len(new), working)
        before, since = self._progress.get(metadata["uid"], ((), 0.0))
        if before != facts:
            before, since = facts, time.monotonic()
        self._progress[metadata["uid"]] = (before, since)
        done = len(new) == len(mine) == wanted == working
        late = not done and time.monotonic() - since > self.progress_seconds
        reason = "ProgressDeadlineExceeded" if late else "NewReplicaSetAvailable"
        status = {
            "observedGeneration": metadata["generation"],
            "replicas": len(mine),
            "readyReplicas": working,
            "updatedReplicas": len(new),
            "conditions": [
                _condition("Available", working >= wanted, "MinimumReplicas", deployment),
                _condition("Progressing", not late, reason, deployment),
            ],
        }
        present = deployment.get("status") or {}
        if any((present.get(key) or 0) != value for key, value in status.items()):
            await self._client.merge(
                DEPLOYMENTS, self._namespace, metadata["name"], {"status": status}, "status"
            )


def _condition(kind: str, holds: bool, reason: str, deployment: Object) -> Object:
    before = {one["type"]: one for one in (deployment.get("status") or {}).get("conditions") or ()}
    past, status = before.get(kind) or {}, str(holds)
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    at = past["lastTransitionTime"] if past.get("status") == status else now
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        # An empty one would not be kept, and each look would write it again.
        "message": reason,
        "lastTransitionTime": at,
        "lastUpdateTime": past.get("lastUpdateTime", now),
    }
