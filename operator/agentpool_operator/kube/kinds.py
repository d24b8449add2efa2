# SPDX-License-Identifier: Apache-2.0
"""What the operator wants of the Kubernetes API: kinds, calls and the errors they end with.

Objects are plain JSON, as the server sends them. Nothing here imports a client, so that everything above
can be tested with a fake.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from agentpool_core.cluster import API_VERSION

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Kind:
    """A namespaced kind.

    Attributes:
        plural: its name in paths.
    """

    api_version: str
    kind: str
    plural: str


POOLS = Kind(API_VERSION, "AgentPool", "agentpools")
INSTANCES = Kind(API_VERSION, "AgentInstance", "agentinstances")
PODS = Kind("v1", "Pod", "pods")
SECRETS = Kind("v1", "Secret", "secrets")
SERVICES = Kind("v1", "Service", "services")
DEPLOYMENTS = Kind("apps/v1", "Deployment", "deployments")
BUDGETS = Kind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets")
EVENTS = Kind("events.k8s.io/v1", "Event", "events")
LEASES = Kind("coordination.k8s.io/v1", "Lease", "leases")


class KubeError(Exception):
    """The API server did not do what it was asked.

    Attributes:
        status: HTTP status; 0 when no answer came.
        reason: the server's machine-readable reason, for example AlreadyExists.
        message: the server's words.
    """

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message


class Retry(KubeError):
    """Worth trying again later: no answer, too many requests, a server's trouble."""


class Conflict(KubeError):
    """The object is not what it was when it was read, or exists already: read again."""


class Gone(KubeError):
    """The object, or its namespace, is not there (any more)."""


class Refused(KubeError):
    """The server refuses the request as it is: no right, a quota, or an invalid object."""

    @property
    def quota(self) -> bool:
        """Whether a ResourceQuota refused it."""
        return self.status == 403 and "exceeded quota" in self.message


class NotLeader(Exception):
    """Another operator leads, or may by now; nothing was written."""


class Cluster(Protocol):
    """Calls on the API. Each is bounded in time and raises KubeError; each write raises NotLeader first when
    the lease may have run out."""

    async def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        """The object as it is now (never from a stale cache), or None."""

    async def list(self, kind: Kind, namespace: str, selector: str = "") -> list[Object]:
        """All objects of a namespace ("": of all) as they are now."""

    async def create(self, kind: Kind, namespace: str, body: Mapping[str, Any]) -> Object:
        """Make an object; raises Conflict when its name is taken."""

    async def apply(
        self, kind: Kind, namespace: str, body: Mapping[str, Any], subresource: str = ""
    ) -> Object:
        """Server-side apply, forced. With `metadata.uid` in the body it raises Conflict for another object of
        the same name instead of making a new one."""

    async def merge(
        self, kind: Kind, namespace: str, name: str, body: Mapping[str, Any], subresource: str = ""
    ) -> Object:
        """JSON merge patch; uid and resourceVersion in `metadata` are preconditions."""

    async def resize(self, namespace: str, pod: str, container: str, resources: Mapping[str, Any]) -> None:
        """Change the resources of a running container in place (Kubernetes 1.33 and later; Gone before)."""

    async def delete(self, kind: Kind, namespace: str, name: str, uid: str) -> None:
        """Delete exactly this object; nothing happens when it is gone, or another one has its name."""
