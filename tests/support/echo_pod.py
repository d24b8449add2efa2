# SPDX-License-Identifier: Apache-2.0
"""A restricted pod, its volume and its service, as the API server takes them."""

from __future__ import annotations

from typing import Any

PORT = 8080
NODE_PORT = 30990


def objects(namespace: str, image: str, name: str = "echo") -> tuple[dict[str, Any], ...]:
    """The claim, the pod and the service of one echo program."""
    metadata = {"name": name, "namespace": namespace, "labels": {"app": name}}
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": metadata,
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "16Mi"}}},
    }
    ports = [{"port": 80, "targetPort": PORT, "nodePort": NODE_PORT}]
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        # Not the pod's name, which the pod itself finds without DNS.
        "metadata": {**metadata, "name": f"{name}-service"},
        "spec": {"type": "NodePort", "selector": {"app": name}, "ports": ports},
    }
    return (
        claim,
        {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": _spec(image, name)},
        service,
    )


def _spec(image: str, claim: str) -> dict[str, Any]:
    return {
        "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": False,
        "securityContext": {
            "runAsNonRoot": True,
            "fsGroup": 10001,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [
            {
                "name": "echo",
                "image": image,
                "imagePullPolicy": "Never",
                "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1},
                "securityContext": {
                    "readOnlyRootFilesystem": True,
                    "allowPrivilegeEscalation": False,
                    "capabilities": {"drop": ["ALL"]},
                },
                "volumeMounts": [{"name": "data", "mountPath": "/data"}],
            }
        ],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}],
    }
