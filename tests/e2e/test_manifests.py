# SPDX-License-Identifier: Apache-2.0
"""Manifests with kubectl: what is refused, what becomes a condition, and the size of the shared tier."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from agentpool_core.cluster import ROLE_WARM
from support.e2e import Installed, Pool, declaration, load, manifest
from support.kubernetes import Object, condition, until


def changed(**spec: Any) -> Object:
    """A manifest with these fields in its spec."""
    body = manifest("", "bad")
    body["spec"].update(spec)
    return body


BAD = {
    "an entrypoint that names no class": (
        changed(agent={"entrypoint": "librarian"}),
        ["spec.agent.entrypoint names no class", "write package.module:Class"],
    ),
    "a tier that is larger than the pool": (
        changed(limits={"maxInstances": 5}, tiers={"cold": {"maxInstances": 6}}),
        ["spec.tiers.cold.maxInstances is more than spec.limits.maxInstances", "lower it"],
    ),
    "HOT by default without Redis": (
        changed(defaultTier="HOT", checkpoint={"storage": "Memory"}),
        ["spec.defaultTier HOT needs state that outlives a pod", "set spec.checkpoint.storage to Redis"],
    ),
    "a quantity that is none": (
        changed(tiers={"warm": {"quota": {"memory": "lots"}}}),
        ["spec.tiers.warm.quota.memory is not an amount of memory", "512Mi"],
    ),
    "an unknown tier": (changed(defaultTier="LUKEWARM"), ["spec.defaultTier", '"HOT", "WARM", "COLD"']),
    "a misspelt field": (changed(warmpu={"count": 1}), ["unknown field", "spec.warmpu"]),
    "a negative count": (changed(warmup={"count": -1}), ["spec.warmup.count", "greater than or equal to 0"]),
    "an instance of a pool with an impossible name": (
        declaration("", "bad", "Not A Name"),
        ["spec.pool is not a name of a pool", "use 1 to 63 lower-case letters"],
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_kubectl_apply_is_refused_with_field_and_remedy(
    installed: Installed, namespace: str, name: str
) -> None:
    body, words = BAD[name]
    text = yaml.safe_dump({**body, "metadata": {"name": "bad", "namespace": namespace}})
    refused = installed.kube.attempt("kubectl", "apply", "-f", "-", stdin=text)
    assert refused.returncode != 0, refused.stdout
    for word in words:
        assert word in refused.stderr


def test_an_entrypoint_that_cannot_be_loaded_becomes_a_condition_and_an_event(
    installed: Installed, namespace: str
) -> None:
    entrypoint = "agentpool_agent.agents.librarian:Nobody"
    pool = installed.pool(namespace, "unloadable", entrypoint=entrypoint)
    until(lambda: condition(pool.body, "Stalled").get("status") == "True", pool.explain, 60)
    ready = condition(pool.body, "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "AgentNotLoadable")
    assert "Nobody" in ready["message"]
    assert "Correct spec.agent.entrypoint" in ready["message"]
    told = f"regarding.name={pool.name},reason=AgentNotLoadable"
    events = ("get", "events.events.k8s.io", "-n", namespace, "--field-selector", told, "-o", "name")
    until(lambda: pool.kube.kubectl(*events).strip(), "an Event tells it", 10)
    pool.change(agent={"entrypoint": "agentpool_agent.agents.echo:Echo"})
    pool.ready()
    assert pool.answer("mended", "hello")["output"] == "hello"


def test_an_instance_without_a_pool_says_so(installed: Installed, namespace: str) -> None:
    body = declaration(namespace, "lonely", "nowhere")
    installed.kube.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(body))

    def reason() -> bool:
        found = installed.kube.get("agentinstances", namespace, "lonely")
        return condition(found, "Ready").get("reason") == "PoolNotFound"

    until(reason, "its condition names the missing pool", 20)


@pytest.fixture(scope="module")
def pool(installed: Installed, namespace: str) -> Pool:
    """One shared pod."""
    made = installed.pool(namespace, "sized")
    made.ready()
    return made


def test_kubectl_scale_changes_the_shared_pods_and_state_moves(pool: Pool) -> None:
    for number in range(4):
        pool.teach(f"moved-{number}", f"The word of {number}.")
    pool.kube.kubectl("scale", "-n", pool.namespace, f"ap/{pool.name}", "--replicas=3")
    until(lambda: len(pool.ready_pods(ROLE_WARM)) == 3, "three shared pods are ready", 40)
    pool.ready()
    assert pool.body["spec"]["tiers"]["warm"]["replicas"] == 3
    scale = pool.kube.kubectl(
        "get",
        "--raw",
        f"/apis/agentpool.dev/v1alpha1/namespaces/{pool.namespace}/agentpools/{pool.name}/scale",
    )
    assert '"replicas":3' in scale
    pool.kube.kubectl("scale", "-n", pool.namespace, f"ap/{pool.name}", "--replicas=1")
    until(lambda: len(pool.pods(ROLE_WARM)) == 1, "one shared pod is left", 60)
    for number in range(4):
        pool.knows(f"moved-{number}", "word", f"The word of {number}.")


def test_a_change_of_settings_reaches_running_pods_without_a_restart(pool: Pool) -> None:
    pool.ready()
    before = pool.ready_pods()
    pool.change(limits={"inputBytes": 100})
    pool.ready()
    response = pool.invoke("small", "x" * 200)
    assert (response.status_code, response.json()["code"]) == (413, "PayloadTooLarge")
    assert pool.ready_pods() == before


def test_a_change_of_the_template_rolls_the_pods_and_no_request_fails(pool: Pool) -> None:
    pool.change(limits={"inputBytes": 1048576})
    pool.ready()
    before = pool.ready_pods()
    pool.teach("rolled", "Rolling words.")
    resources = {"requests": {"cpu": "50m"}}
    with load(lambda: pool.invoke("rolled", "rolling")) as seen:
        pool.change(tiers={"warm": {"resources": resources}})
        until(
            lambda: pool.ready_pods() and not set(pool.ready_pods()) & set(before), "new pods are ready", 60
        )
        pool.ready()
    assert seen.failures == []
    assert seen.answered > 20
    assert pool.asked("rolled", "rolling") == "Rolling words."
