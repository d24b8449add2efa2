# SPDX-License-Identifier: Apache-2.0
"""The cluster as the gateway uses it: membership by watches, tokens of its issuer, access reviews."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from random import Random
from typing import Any
from urllib.parse import quote

from agentpool_core.cluster import AGENT_NAME, API_VERSION, GROUP, LABEL_NAME
from agentpool_core.names import Incarnation
from agentpool_gateway.admission.reviews import Question, ReviewFailed
from agentpool_gateway.kube.client import METADATA_ONLY, KubeApi, KubeError, connect
from agentpool_gateway.kube.reflector import Reflector
from agentpool_gateway.membership.base import PoolMember, PoolName
from agentpool_gateway.membership.cluster import ClusterMembership
from agentpool_gateway.settings import KubernetesSettings

AGENT_PODS = f"{LABEL_NAME}={AGENT_NAME}"
_REVIEWS = "/apis/authorization.k8s.io/v1"


def pools_path(namespace: str) -> str:
    """The collection of AgentPools, of all namespaces for an empty one."""
    return f"/apis/{API_VERSION}{_within(namespace)}/agentpools"


def pods_path(namespace: str) -> str:
    """The collection of pods."""
    return f"/api/v1{_within(namespace)}/pods"


def _within(namespace: str) -> str:
    return f"/namespaces/{quote(namespace, safe='')}" if namespace else ""


KEY_SET = "application/jwk-set+json"
"""The API server offers its keys in this form alone."""


class Cluster:
    """The connection to one cluster; is a Membership and a Reviewer."""

    def __init__(self, settings: KubernetesSettings, random: Random) -> None:
        self._settings = settings
        self._random = random
        self._namespaces = settings.namespaces or ("",)
        self._api: KubeApi | None = None
        self._membership = ClusterMembership(self._present, time.monotonic)
        self._pool_mirrors = {one: self._membership.pool_mirror() for one in self._namespaces}
        self._pod_mirrors = {one: self._membership.pod_mirror() for one in self._namespaces}

    async def connect(self) -> None:
        """Find the cluster; OSError when its address or the credentials cannot be read."""
        self._api = await connect(self._settings)

    async def close(self) -> None:
        """Drop connections."""
        if self._api is not None:
            await self._api.close()

    @property
    def api(self) -> KubeApi:
        """The API, after `connect`."""
        if self._api is None:
            raise RuntimeError("not connected")
        return self._api

    @property
    def pools(self) -> Mapping[PoolName, PoolMember]:
        """See Membership."""
        return self._membership.pools

    @property
    def ready(self) -> bool:
        """See Membership."""
        return self._membership.ready

    def subscribe(self, listener: Callable[[], None]) -> None:
        """See Membership."""
        self._membership.subscribe(listener)

    def announced(self, incarnation: Incarnation) -> None:
        """See Membership."""
        self._membership.announced(incarnation)

    async def ended(self, incarnation: Incarnation) -> bool:
        """See Membership."""
        return await self._membership.ended(incarnation)

    async def run(self) -> None:
        """Watch until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._membership.run(), name="owners")
            for namespace in self._namespaces:
                pools = (pools_path(namespace), "", self._pool_mirrors[namespace])
                pods = (pods_path(namespace), AGENT_PODS, self._pod_mirrors[namespace])
                for path, selector, mirror in (pools, pods):
                    reflector = Reflector(
                        self.api, path, selector, mirror, self._membership.changed, self._random
                    )
                    tasks.create_task(reflector.run(), name=f"watch {path}")

    async def _present(self) -> frozenset[str]:
        found: set[str] = set()
        for namespace in self._namespaces:
            try:
                items, _ = await self.api.list(pods_path(namespace), AGENT_PODS, METADATA_ONLY)
            except KubeError as exc:
                raise OSError(str(exc)) from exc
            found.update(item["metadata"]["uid"] for item in items)
        return frozenset(found)

    # Who may call.

    async def issuer(self) -> str:
        """The issuer of the cluster's ServiceAccount tokens; OSError when the cluster cannot tell."""
        try:
            document = await self.api.get("/.well-known/openid-configuration")
        except KubeError as exc:
            raise OSError(str(exc)) from exc
        return str(document.get("issuer") or "")

    async def keys(self) -> bytes:
        """The public keys of those tokens, as a JWKS; OSError when the cluster cannot tell."""
        try:
            return await self.api.get_bytes("/openid/v1/jwks", accept=KEY_SET)
        except KubeError as exc:
            raise OSError(str(exc)) from exc

    def watches(self, namespace: str) -> bool:
        """Whether pools of this namespace are served."""
        return not self._settings.namespaces or namespace in self._settings.namespaces

    async def review(self, question: Question) -> bool:
        """Ask whether somebody may do something; ReviewFailed when the cluster does not tell."""
        local = bool(self._settings.namespaces)
        path = f"{_REVIEWS}{_within(question.namespace)}/localsubjectaccessreviews" if local else ""
        try:
            answer = await self.api.post(
                path or f"{_REVIEWS}/subjectaccessreviews", review_body(question, local)
            )
        except KubeError as exc:
            raise ReviewFailed(f"{exc} {exc.remedy}".strip()) from exc
        return bool((answer.get("status") or {}).get("allowed"))


def review_body(question: Question, local: bool) -> Mapping[str, Any]:
    """The (Local)SubjectAccessReview of a question."""
    attributes = {
        "group": GROUP,
        "resource": "agentpools",
        "subresource": question.subresource,
        "namespace": question.namespace,
        "name": question.name,
        "verb": question.verb,
    }
    return {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "LocalSubjectAccessReview" if local else "SubjectAccessReview",
        "metadata": {"namespace": question.namespace} if local else {},
        "spec": {
            "user": question.user,
            "groups": list(question.groups),
            "resourceAttributes": {name: value for name, value in attributes.items() if value},
        },
    }
