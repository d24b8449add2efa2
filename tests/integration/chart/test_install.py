# SPDX-License-Identifier: Apache-2.0
"""The chart in a real API server: its objects are taken, in a restricted namespace, with exact rights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pytest
import yaml

from support.apiserver import ApiServer
from support.chart import VARIANTS, Object, objects, pods
from tools.manifests import HelmMissing, helm

SYSTEM = "agentpool-system"
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
ORDER = ("ServiceAccount", "Role", "ClusterRole")
PLURALS = {"NetworkPolicy": "networkpolicies"}


@pytest.fixture(autouse=True, scope="session")
def _helm() -> None:
    try:
        helm()
    except HelmMissing as exc:
        pytest.skip(str(exc))


def collection(one: Object) -> str:
    version, namespace = one["apiVersion"], one["metadata"].get("namespace")
    root = f"/api/{version}" if "/" not in version else f"/apis/{version}"
    plural = PLURALS.get(one["kind"], one["kind"].lower() + "s")
    return f"{root}/namespaces/{namespace}/{plural}" if namespace else f"{root}/{plural}"


def ensure_namespaces(api: ApiServer, names: Iterable[str]) -> None:
    for name in names:
        answer = api.create("/api/v1/namespaces", {"metadata": {"name": name, "labels": RESTRICTED}})
        assert answer.status_code in (201, 409), answer.text


def known(one: Object) -> bool:
    """Whether the server knows the kind: monitors need the definitions of a Prometheus operator."""
    return one["kind"] != "CustomResourceDefinition" and not one["apiVersion"].startswith(
        "monitoring.coreos.com/"
    )


def install(api: ApiServer, found: tuple[Object, ...]) -> list[str]:
    """Create everything but the definitions, which are there, and what needs definitions of others; what was
    refused, with the server's words."""
    ensure_namespaces(api, {one["metadata"].get("namespace", SYSTEM) for one in found})
    refused = []
    for one in sorted(found, key=lambda one: one["kind"] not in ORDER):
        if not known(one):
            continue
        answer = api.create(collection(one), dict(one))
        if answer.status_code != 201:
            refused.append(answer.json()["message"])
    return refused


def remove(api: ApiServer, found: tuple[Object, ...]) -> None:
    for one in found:
        if known(one):
            api.client.delete(f"{collection(one)}/{one['metadata']['name']}")


@pytest.mark.parametrize("values", VARIANTS.values(), ids=VARIANTS)
def test_everything_is_taken_and_nothing_is_misspelt(api: ApiServer, values: tuple[str, ...]) -> None:
    found = objects(*values)
    try:
        assert install(api, found) == []
    finally:
        remove(api, found)


@pytest.mark.parametrize("values", VARIANTS.values(), ids=VARIANTS)
def test_pods_start_in_a_restricted_namespace(api: ApiServer, values: tuple[str, ...]) -> None:
    ensure_namespaces(api, [SYSTEM, "a"])
    for name, pod in pods(objects(*values)):
        body = yaml.safe_load(yaml.safe_dump({"apiVersion": "v1", "kind": "Pod", **pod}))
        body["metadata"] = {"name": f"trial-{name}"}
        # Its class is not in this server.
        body["spec"].pop("priorityClassName", None)
        if body["spec"].get("volumes") is not None:
            mounted = {one["name"] for box in body["spec"]["containers"] for one in box["volumeMounts"]}
            missing = mounted - {one["name"] for one in body["spec"]["volumes"]}
            body["spec"]["volumes"] += [{"name": one, "emptyDir": {}} for one in missing]
        answer = api.client.post(
            f"/api/v1/namespaces/{SYSTEM}/pods",
            json=body,
            params={"dryRun": "All", "fieldValidation": "Strict"},
        )
        assert answer.status_code == 201, answer.text


Question = tuple[str, str, str, str]
"""Verb, group, resource with subresource, namespace."""

RIGHTS: Mapping[str, Mapping[str, tuple[bool, Question, str]]] = {
    "operator": {
        "watches pools everywhere": (True, ("watch", "agentpool.dev", "agentpools", ""), ""),
        "reports on a pool": (True, ("patch", "agentpool.dev", "agentpools/status", "demo"), ""),
        "never writes a pool's spec": (False, ("patch", "agentpool.dev", "agentpools", "demo"), ""),
        "records an instance": (True, ("create", "agentpool.dev", "agentinstances", "demo"), ""),
        "never changes a declaration": (False, ("patch", "agentpool.dev", "agentinstances", "demo"), ""),
        "makes pods": (True, ("create", "", "pods", "demo"), ""),
        "ends pods": (True, ("delete", "", "pods", "demo"), ""),
        "moves a pod to its instance": (True, ("patch", "", "pods", "demo"), ""),
        "removes the record of an instance": (
            True,
            ("delete", "agentpool.dev", "agentinstances", "demo"),
            "",
        ),
        "rolls shared pods": (True, ("patch", "apps", "deployments", "demo"), ""),
        "makes the service of a pool": (True, ("create", "", "services", "demo"), ""),
        "guards shared pods": (True, ("create", "policy", "poddisruptionbudgets", "demo"), ""),
        "tells events": (True, ("create", "events.k8s.io", "events", "demo"), ""),
        "never runs a command in a pod": (False, ("create", "", "pods/exec", "demo"), ""),
        "makes a pool's Secret": (True, ("create", "", "secrets", "demo"), ""),
        "never lists Secrets": (False, ("list", "", "secrets", "demo"), ""),
        "reads the administrator's Secret": (True, ("get", "", "secrets", SYSTEM), "agentpool-redis"),
        "leads": (True, ("update", "coordination.k8s.io", "leases", SYSTEM), ""),
        "leads nowhere else": (False, ("update", "coordination.k8s.io", "leases", "demo"), ""),
        "gives no rights": (False, ("create", "rbac.authorization.k8s.io", "rolebindings", "demo"), ""),
        "never sees nodes": (False, ("list", "", "nodes", ""), ""),
    },
    "gateway": {
        "watches pools": (True, ("watch", "agentpool.dev", "agentpools", ""), ""),
        "watches pods": (True, ("watch", "", "pods", ""), ""),
        "asks for rights": (True, ("create", "authorization.k8s.io", "subjectaccessreviews", ""), ""),
        "makes no pod": (False, ("create", "", "pods", "demo"), ""),
        "never reads a Secret": (False, ("get", "", "secrets", SYSTEM), "agentpool-redis"),
        "writes no instance": (False, ("create", "agentpool.dev", "agentinstances", "demo"), ""),
        "reports nothing": (False, ("patch", "agentpool.dev", "agentpools/status", "demo"), ""),
    },
}


def allowed(api: ApiServer, user: str, question: Question, name: str) -> bool:
    verb, group, resource, namespace = question
    resource, _, subresource = resource.partition("/")
    attributes = {
        **{"verb": verb, "group": group, "resource": resource, "subresource": subresource},
        **{"namespace": namespace, "name": name},
    }
    spec: dict[str, Any] = {"user": user, "resourceAttributes": attributes}
    answer = api.client.post("/apis/authorization.k8s.io/v1/subjectaccessreviews", json={"spec": spec})
    return bool(answer.json()["status"]["allowed"])


@pytest.mark.parametrize("component", RIGHTS)
def test_each_program_may_do_its_own_and_no_more(api: ApiServer, component: str) -> None:
    found = objects()
    try:
        assert install(api, found) == []
        user = f"system:serviceaccount:{SYSTEM}:agentpool-{component}"
        wrong = [
            sentence
            for sentence, (wanted, question, name) in RIGHTS[component].items()
            if allowed(api, user, question, name) is not wanted
        ]
        assert wrong == []
    finally:
        remove(api, found)


@pytest.mark.parametrize("component", RIGHTS)
def test_in_namespaces_of_its_own_it_may_do_the_same_there_and_nothing_elsewhere(
    api: ApiServer, component: str
) -> None:
    found = objects(*VARIANTS["namespaces a and b alone"])
    try:
        assert install(api, found) == []
        user = f"system:serviceaccount:{SYSTEM}:agentpool-{component}"
        inside, outside = (("watch", "agentpool.dev", "agentpools", one) for one in ("a", "demo"))
        assert allowed(api, user, inside, "")
        assert not allowed(api, user, outside, "")
        assert not allowed(api, user, ("watch", "", "pods", ""), "")
    finally:
        remove(api, found)


def test_callers_have_the_verbs_of_their_role_in_their_namespace(api: ApiServer) -> None:
    found = objects()
    binding = {
        "metadata": {"name": "callers", "namespace": "demo"},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "ClusterRole",
            "name": "agentpool-caller",
        },
        "subjects": [{"kind": "ServiceAccount", "name": "web", "namespace": "shop"}],
    }
    try:
        ensure_namespaces(api, ["demo"])
        assert install(api, found) == []
        path = "/apis/rbac.authorization.k8s.io/v1/namespaces/demo/rolebindings"
        assert api.create(path, binding).status_code == 201
        user = "system:serviceaccount:shop:web"
        may = {
            (verb, namespace)
            for verb in ("invoke", "get", "pause", "terminate", "place")
            for namespace in ("demo", "shop")
            if allowed(api, user, (verb, "agentpool.dev", "agentpools", namespace), "support")
        }
        assert may == {("invoke", "demo"), ("get", "demo")}
    finally:
        remove(api, found)
