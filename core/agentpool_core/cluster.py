# SPDX-License-Identifier: Apache-2.0
"""Names that operator, gateway, chart and agent pods share on Kubernetes: labels, annotations, ports, paths.

Everything that a selector, a policy or a mount refers to is named here once.
"""

from __future__ import annotations

from typing import Final

GROUP: Final = "agentpool.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
FIELD_MANAGER: Final = "agentpool"
"""Field manager of everything the operator applies."""

LABEL_NAME: Final = "app.kubernetes.io/name"
LABEL_MANAGED_BY: Final = "app.kubernetes.io/managed-by"
LABEL_COMPONENT: Final = "app.kubernetes.io/component"
AGENT_NAME: Final = "agentpool-agent"
"""Value of LABEL_NAME on every agent pod; watches and policies select by it."""
MANAGED_BY: Final = "agentpool"
"""Value of LABEL_MANAGED_BY on every object that the operator makes."""

LABEL_POOL: Final = f"{GROUP}/pool"
"""Name of the pool (hashed when over 63 characters) on everything that belongs to one."""
LABEL_POOL_UID: Final = f"{GROUP}/pool-uid"
LABEL_ROLE: Final = f"{GROUP}/role"
ROLE_WARM: Final = "warm"
"""A pod of the WARM Deployment: many instances."""
ROLE_HOT: Final = "hot"
"""A pod made for one HOT instance."""
ROLE_GENERIC: Final = "generic"
"""A pod that waits for the instance it will be the own pod of."""
LABEL_TIER: Final = f"{GROUP}/tier"
LABEL_INSTANCE: Final = f"{GROUP}/instance"
"""Id of the instance whose own pod this is; absent on shared and waiting pods."""
LABEL_ORIGIN: Final = f"{GROUP}/origin"
"""On the AgentInstances that the operator records: `observed`; absent on those that users declare."""
ANNOTATION_TEMPLATE: Final = f"{GROUP}/template-hash"
"""Hash of the pod template that a HOT or generic pod was made from."""
DELETION_COST: Final = "controller.kubernetes.io/pod-deletion-cost"
"""Kubernetes' annotation: of pods of one ReplicaSet the one with the lowest cost goes first."""
ANNOTATION_DRAIN: Final = f"{GROUP}/draining"

HOST_PORT: Final = 7400
"""gRPC port of the host container."""
HOST_METRICS_PORT: Final = 7401
LIVENESS_SERVICE: Final = "liveness"
"""Name in the host's gRPC health service that is SERVING while its event loop answers, configured or not."""
GATEWAY_REST_PORT: Final = 8000
GATEWAY_GRPC_PORT: Final = 9000
OPERATOR_METRICS_PORT: Final = 8080
OPERATOR_HEALTH_PORT: Final = 8081

CONTAINER_HOST: Final = "host"
CONTAINER_WORKERS: Final = "workers"
HOST_UID: Final = 64010
WORKERS_UID: Final = 64011
"""Two users: what the host may read, tenants' code may not."""
POD_GID: Final = 64010
"""Group of both containers, owner of the shared volume (fsGroup)."""

RUN_DIRECTORY: Final = "/run/agentpool"
"""Small in-memory volume with the zygote's socket, mounted into both containers."""
WORK_DIRECTORY: Final = "/work"
"""Volume of the workers container with one directory per instance."""
REDIS_URL_FILE: Final = "/etc/agentpool/redis/url"
"""Mounted from the pool's Secret into the host container alone."""

CALL_TOKEN_SECRET: Final = "agentpool-call-token"  # noqa: S105  # a name
"""Secret of the release namespace with the keys below; the operator makes it when it is missing."""
CALL_TOKEN_PRIVATE: Final = "private.pem"  # noqa: S105  # a name
CALL_TOKEN_PUBLIC: Final = "public.pem"  # noqa: S105  # a name
REDIS_ADMIN_SECRET: Final = "agentpool-redis"  # noqa: S105  # a name
"""Secret of the release namespace: key `url`, an administrator's URL that only the operator reads."""
REDIS_ADMIN_USER: Final = "agentpool"
"""Administrator of a Redis that the release deploys; its Secret has a key `password` as well."""

AUDIENCE: Final = "agentpool"
"""Audience of the ServiceAccount tokens that applications send to the gateway."""
