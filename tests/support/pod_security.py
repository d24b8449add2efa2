# SPDX-License-Identifier: Apache-2.0
"""Kubernetes' pod security profile `restricted`, and what the project asks of its pods beyond it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

VOLUMES = frozenset(
    {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
)
HOST_FIELDS = ("hostNetwork", "hostPID", "hostIPC")


def violations(pod: Mapping[str, Any]) -> list[str]:
    """What a pod spec lacks, one sentence each; empty for a good one."""
    return [*_of_the_pod(pod), *(text for one in containers(pod) for text in _of_a_container(pod, one))]


def containers(pod: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """All containers of a pod spec, those that run first included."""
    return [*pod.get("initContainers", ()), *pod["containers"]]


def _of_the_pod(pod: Mapping[str, Any]) -> Iterator[str]:
    for name in HOST_FIELDS:
        if pod.get(name):
            yield f"{name} is on"
    if pod.get("enableServiceLinks") is not False:
        yield "enableServiceLinks is not off"
    if "automountServiceAccountToken" not in pod:
        yield "automountServiceAccountToken is left to chance"
    for volume in pod.get("volumes", ()):
        if not (volume.keys() - {"name"}) <= VOLUMES:
            yield f"volume {volume['name']} is of a kind that is not allowed"


def _of_a_container(pod: Mapping[str, Any], container: Mapping[str, Any]) -> Iterator[str]:
    name = container["name"]
    own = container.get("securityContext", {})
    both = {**pod.get("securityContext", {}), **own}
    if both.get("runAsNonRoot") is not True or both.get("runAsUser") in (None, 0):
        yield f"{name} may run as root"
    if both.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield f"{name} has no seccomp profile"
    if own.get("allowPrivilegeEscalation") is not False:
        yield f"{name} may gain privileges"
    if own.get("privileged"):
        yield f"{name} is privileged"
    if own.get("capabilities") != {"drop": ["ALL"]}:
        yield f"{name} keeps capabilities"
    if own.get("readOnlyRootFilesystem") is not True:
        yield f"{name} may write its root file system"
    if any("hostPort" in port for port in container.get("ports", ())):
        yield f"{name} takes a port of the node"
    if "requests" not in container.get("resources", {}):
        yield f"{name} requests nothing"
