# SPDX-License-Identifier: Apache-2.0
"""The chart's objects, rendered with some values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from tools.manifests import render

Object = Mapping[str, Any]

VARIANTS: Mapping[str, tuple[str, ...]] = {
    "the defaults": (),
    "namespaces a and b alone": ("--set", "watchNamespaces={a,b}"),
    "a Redis of the user's": ("--set", "redis.mode=External"),
    "no Redis": ("--set", "redis.mode=None"),
    "everything that can be turned off": (
        *("--set", "crds.enabled=false", "--set", "networkPolicy.enabled=false"),
        *("--set", "gateway.podDisruptionBudget.enabled=false", "--set", "rbac.aggregate=false"),
        *("--set", "redis.persistence.enabled=false", "--set", "gateway.auth.clusterIssuer=false"),
        *("--set-json", 'gateway.auth.issuers=[{"issuer":"https://i","jwks_url":"https://i/keys"}]'),
        *("--set", "operator.replicas=0", "--set", "gateway.replicas=0"),
    ),
    "everything that can be added": (
        *("--set", "commonLabels.team=x", "--set", "commonAnnotations.note=y"),
        *("--set", "operator.replicas=2", "--set", "gateway.replicas=5"),
        *("--set", "image.registry=registry.example.com", "--set", "image.pullSecrets[0].name=pull"),
        *("--set", "gateway.priorityClassName=high", "--set", "gateway.podLabels.extra=z"),
        *("--set", "gateway.service.type=NodePort", "--set", "gateway.defaultPool=demo/support"),
        *("--set", "gateway.service.httpNodePort=30080", "--set", "networkPolicy.agentNamespaces={demo}"),
        *("--set-json", 'networkPolicy.metricsFrom=[{"namespaceSelector":{}}]'),
        *("--set", "directAccess.enabled=true"),
        *(
            "--set-json",
            'directAccess.from=[{"namespaceSelector":{},"podSelector":{"matchLabels":{"a":"b"}}}]',
        ),
        *("--set-json", 'gateway.env=[{"name":"A","value":"b"}]'),
        *("--set-json", 'gateway.auth.issuers=[{"issuer":"https://i","jwks_url":"https://i/keys"}]'),
        *("--set-json", 'redis.tolerations=[{"operator":"Exists"}]'),
        *("--set", "monitoring.monitors.enabled=true", "--set", "monitoring.rules.enabled=true"),
        *("--set", "monitoring.monitors.scraperNamespace=monitoring"),
        *("--set", "tracing.endpoint=http://collector.monitoring:4317", "--set", "tracing.identities=true"),
        *("--set-json", "tracing.sampleRatio=0.25"),
        *(
            "--set",
            "monitoring.dashboard.enabled=true",
            "--set",
            "monitoring.rules.labels.release=prometheus",
        ),
    ),
}


@cache
def objects(*arguments: str, release: str = "agentpool") -> tuple[Object, ...]:
    """The objects of the chart with these arguments of helm; hooks included."""
    return tuple(render(*arguments, release=release, namespace="agentpool-system"))


def of_kind(found: tuple[Object, ...], kind: str) -> list[Object]:
    """The objects of one kind."""
    return [one for one in found if one["kind"] == kind]


def named(found: tuple[Object, ...], kind: str, name: str) -> Object:
    """The one object of a kind and a name; fails when there is none."""
    return next(one for one in of_kind(found, kind) if one["metadata"]["name"] == name)


def pods(found: tuple[Object, ...]) -> Iterator[tuple[str, Object]]:
    """Name and pod, as metadata and spec, of everything that runs."""
    for one in found:
        if one["kind"] in ("Deployment", "StatefulSet"):
            yield one["metadata"]["name"], one["spec"]["template"]
        elif one["kind"] == "Pod":
            yield one["metadata"]["name"], one


def roles(found: tuple[Object, ...]) -> list[Object]:
    """Roles and cluster roles."""
    return [one for one in found if one["kind"] in ("Role", "ClusterRole")]


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a label selector that has only matchLabels picks these labels."""
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())
