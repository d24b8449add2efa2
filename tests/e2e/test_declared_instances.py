# SPDX-License-Identifier: Apache-2.0
"""AgentInstances with kubectl: declared, paused, resumed, ended; and those that traffic made."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from agentpool_core.cluster import ROLE_HOT
from support.e2e import Installed, Pool, declaration
from support.kubernetes import Object, condition, until

TEXT = "The code word is thistle."
QUESTION = "code word"
TIERS = pytest.mark.parametrize("tier", ["WARM", "HOT"])


@pytest.fixture(scope="module")
def pool(installed: Installed, namespace: str) -> Pool:
    """One shared pod, one that waits."""
    made = installed.pool(namespace, "declared", waiting=1)
    made.ready()
    return made


def apply(pool: Pool, name: str, **spec: Any) -> None:
    """`kubectl apply` of a declaration."""
    body = yaml.safe_dump(declaration(pool.namespace, name, pool.name, **spec))
    pool.kube.kubectl("apply", "-f", "-", stdin=body)


def wait_ready(pool: Pool, name: str) -> None:
    """`kubectl wait` for it."""
    pool.kube.kubectl("wait", "-n", pool.namespace, "--for=condition=Ready", f"ai/{name}", "--timeout=50s")


def state(pool: Pool, name: str) -> tuple[str, str]:
    """State and reason of the status."""
    body = pool.kube.get("agentinstances", pool.namespace, name) or {}
    status = body.get("status") or {}
    return status.get("state", ""), status.get("reason", "")


def reported(pool: Pool, name: str) -> Object:
    """The status once it names an id."""

    def status() -> Object | None:
        body = pool.kube.get("agentinstances", pool.namespace, name) or {}
        found: Object = body.get("status") or {}
        return found if found.get("id") else None

    return until(status, f"{name} is reported on", 20)


def erased(pool: Pool, instance: str) -> bool:
    """Whether the gateway knows it no more, or knows that it ended."""
    found = pool.instance(instance)
    return found.status_code == 404 or found.json()["state"] == "TERMINATED"


@TIERS
def test_a_declared_one_is_ready_before_its_first_request(pool: Pool, tier: str) -> None:
    name = f"early-{tier.lower()}"
    apply(pool, name, tier=tier)
    wait_ready(pool, name)
    until(lambda: state(pool, name)[0] == "READY", "it is READY", 30)
    status = reported(pool, name)
    answer = pool.teach(name, TEXT)
    assert (answer["instance_id"], answer["tier"], answer["pod"]) == (status["id"], tier, status["pod"])
    assert status["isolation"]
    if tier == "HOT":
        until(lambda: status["pod"] in pool.ready_pods(ROLE_HOT), "its own pod is ready", 10)


@TIERS
def test_it_is_paused_and_resumed_by_its_spec(pool: Pool, tier: str) -> None:
    name = f"turns-{tier.lower()}"
    apply(pool, name, tier=tier, state="Running")
    wait_ready(pool, name)
    pool.teach(name, TEXT)
    apply(pool, name, tier=tier, state="Paused")
    until(lambda: state(pool, name) == ("PAUSED", "UserRequested"), "it is paused", 20)
    response = pool.invoke(name, QUESTION)
    assert (response.status_code, response.json()["code"]) == (409, "InstancePaused")
    apply(pool, name, tier=tier, state="Running")
    until(lambda: state(pool, name)[0] != "PAUSED", "it is resumed", 30)
    assert pool.knows(name, QUESTION, TEXT)["tier"] == tier


@TIERS
def test_a_declared_one_that_is_deleted_is_erased(pool: Pool, tier: str) -> None:
    name = f"erased-{tier.lower()}"
    apply(pool, name, tier=tier)
    wait_ready(pool, name)
    instance = pool.teach(name, TEXT)["instance_id"]
    pool.kube.kubectl("delete", "ai", "-n", pool.namespace, name)
    until(lambda: erased(pool, instance), "it is erased", 30)
    answer = pool.answer(name, QUESTION)["output"]["answer"]
    assert answer.startswith("I have no documents yet.")


def test_one_that_was_declared_terminated_is_erased_and_its_object_stays(pool: Pool) -> None:
    apply(pool, "ended", tier="WARM")
    wait_ready(pool, "ended")
    instance = pool.teach("ended", TEXT)["instance_id"]
    apply(pool, "ended", tier="WARM", state="Terminated")
    until(lambda: state(pool, "ended")[0] == "TERMINATED", "it is terminated", 20)
    until(lambda: erased(pool, instance), "the gateway knows it, too", 10)


def test_rest_does_not_overrule_a_declared_state(pool: Pool) -> None:
    apply(pool, "firm", tier="WARM", state="Running")
    wait_ready(pool, "firm")
    path = f"{pool.path}/instances/{reported(pool, 'firm')['id']}"
    for response in (pool.client.post(f"{path}/pause"), pool.client.delete(path)):
        assert (response.status_code, response.json()["code"]) == (409, "InstanceDeclared"), response.text
        assert "spec.state" in response.json()["remedy"]


def test_the_record_of_an_undeclared_one_is_deleted_its_pod_ends_and_its_state_stays(pool: Pool) -> None:
    pool.ready()
    first = pool.teach("made-by-traffic", TEXT, "COLD")
    record = until(lambda: pool.record(first["instance_id"]), "it is recorded", 10)
    pool.kube.kubectl("delete", "ai", "-n", pool.namespace, record["metadata"]["name"])
    until(lambda: pool.kube.get("pods", pool.namespace, first["pod"]) is None, "its pod ends", 30)
    pool.ready()
    again = pool.knows("made-by-traffic", QUESTION, TEXT)
    assert (again["instance_id"], again["tier"]) == (first["instance_id"], "COLD")
    assert again["pod"] != first["pod"]
    fresh = until(lambda: pool.record(first["instance_id"]), "it is recorded again", 10)
    assert fresh["metadata"]["uid"] != record["metadata"]["uid"]


def test_its_rights_over_identity_end_with_its_creation(pool: Pool) -> None:
    apply(pool, "constant", tier="WARM")
    body = declaration(pool.namespace, "constant", pool.name, tier="WARM")
    body["spec"]["tenant"] = "another"
    refused = pool.kube.attempt("kubectl", "apply", "-f", "-", stdin=yaml.safe_dump(body))
    assert refused.returncode != 0
    assert "spec.tenant never changes: delete this AgentInstance and create another" in refused.stderr


def test_two_of_one_instance_are_told_apart(pool: Pool) -> None:
    apply(pool, "first", tier="WARM")
    wait_ready(pool, "first")
    double = declaration(pool.namespace, "second", pool.name, tier="WARM")
    double["spec"]["project"] = "first"
    pool.kube.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(double))

    def told() -> int:
        both = [pool.kube.get("agentinstances", pool.namespace, name) for name in ("first", "second")]
        return sum(condition(one, "Stalled").get("reason") == "Duplicate" for one in both)

    # The older one counts; made within one second, either may be.
    until(lambda: told() == 1, "one of the two is told that it is a double", 20)
