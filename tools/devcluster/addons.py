# SPDX-License-Identifier: Apache-2.0
"""The objects every cluster starts with: rights of its own daemons and a default storage class."""

from __future__ import annotations

from typing import Any

STORAGE_CLASS = "standard"
PROVISIONER = "agentpool.dev/local-volumes"
RBAC = "/apis/rbac.authorization.k8s.io/v1"


def objects() -> list[tuple[str, dict[str, Any]]]:
    """Each object with the path of its collection."""
    return [
        *_rights("system:coredns", [_rule("", "list watch", "endpoints services pods namespaces"), _SLICES]),
        *_rights(
            "system:local-volumes",
            [
                _rule("", "get list watch", "persistentvolumeclaims"),
                _rule("", "get list watch create delete", "persistentvolumes"),
            ],
        ),
        ("/apis/storage.k8s.io/v1/storageclasses", _storage_class()),
    ]


def _storage_class() -> dict[str, Any]:
    default = {"storageclass.kubernetes.io/is-default-class": "true"}
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": STORAGE_CLASS, "annotations": default},
        "provisioner": PROVISIONER,
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "WaitForFirstConsumer",
    }


def _rule(group: str, verbs: str, resources: str) -> dict[str, Any]:
    return {"apiGroups": [group], "verbs": verbs.split(), "resources": resources.split()}


_SLICES = _rule("discovery.k8s.io", "list watch", "endpointslices")


def _rights(user: str, rules: list[dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    api_version = "rbac.authorization.k8s.io/v1"
    group = "rbac.authorization.k8s.io"
    role = {"apiVersion": api_version, "kind": "ClusterRole", "metadata": {"name": user}, "rules": rules}
    binding = {
        "apiVersion": api_version,
        "kind": "ClusterRoleBinding",
        "metadata": {"name": user},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": user},
        "subjects": [{"apiGroup": group, "kind": "User", "name": user}],
    }
    return [(f"{RBAC}/clusterroles", role), (f"{RBAC}/clusterrolebindings", binding)]
