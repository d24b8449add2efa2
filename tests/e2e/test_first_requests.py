# SPDX-License-Identifier: Apache-2.0
"""First requests in each tier, what users see of them, and eviction."""

from __future__ import annotations

import pytest

from agentpool_core.cluster import LABEL_INSTANCE, LABEL_ROLE, ROLE_GENERIC
from support.e2e import Installed, Pool
from support.kubernetes import until

PLACES = 2


@pytest.fixture(scope="module")
def pool(installed: Installed, namespace: str) -> Pool:
    """One shared pod with two places, two waiting pods."""
    made = installed.pool(namespace, "tiers", places=PLACES, waiting=2)
    made.ready()
    return made


def test_kubectl_wait_knows_that_a_pool_is_ready(pool: Pool) -> None:
    said = pool.kube.kubectl(
        "wait", "-n", pool.namespace, "--for=condition=Ready", f"ap/{pool.name}", "--timeout=60s"
    )
    assert "condition met" in said


def test_a_first_warm_request_is_answered_by_a_shared_pod(pool: Pool) -> None:
    answer = pool.teach("first-warm", "Warm words.")
    assert answer["output"] == {"taught": 1, "documents": 1}
    assert (answer["tier"], answer["pod"]) == ("WARM", pool.ready_pods()[0])


@pytest.mark.parametrize("tier", ["HOT", "COLD"])
def test_a_first_request_takes_a_waiting_pod_which_is_the_instance_s_own_from_then_on(
    pool: Pool, tier: str
) -> None:
    pool.ready()
    # A host says that it is ready up to two seconds before the kubelet has seen it.
    waiting = [one["metadata"]["name"] for one in pool.waiting()]
    answer = pool.teach(f"first-{tier}", "Rare words.", tier)
    assert answer["tier"] == tier
    assert answer["pod"] in waiting

    def adopted() -> bool:
        pod = pool.kube.get("pods", pool.namespace, answer["pod"])
        assert pod is not None
        owner = next(one for one in pod["metadata"]["ownerReferences"] if one["controller"])
        labelled = pod["metadata"]["labels"].get(LABEL_INSTANCE) == answer["instance_id"]
        return bool(labelled and owner["kind"] == "AgentInstance")

    until(adopted, "the pod belongs to the instance", 10)
    again = pool.answer(f"first-{tier}", "rare")
    assert (again["pod"], again["output"]["answer"]) == (answer["pod"], "Rare words.")
    until(lambda: len(pool.ready_pods(ROLE_GENERIC)) >= 2, "another pod waits in its place", 30)
    record = until(lambda: pool.record(answer["instance_id"]), "the instance is recorded", 10)
    assert record["spec"] == {"pool": pool.name, "tenant": "acme", "project": f"first-{tier}"}


def test_state_survives_eviction_by_others(pool: Pool) -> None:
    projects = [f"crowd-{number}" for number in range(2 * PLACES + 1)]
    for project in projects:
        pool.teach(project, f"The word of {project}.")

    def evicted() -> set[str]:
        listed = pool.client.get(f"{pool.path}/instances", params={"state": "PAUSED"}).json()["instances"]
        return {one["project_id"] for one in listed if one["reason"] == "Evicted"} & set(projects)

    until(lambda: len(evicted()) == len(projects) - PLACES, "those without a place are evicted", 10)
    for project in projects:
        assert pool.asked(project, "word") == f"The word of {project}."


def test_kubectl_shows_tiers_and_states_in_columns(pool: Pool) -> None:
    pools = pool.kube.kubectl("get", "ap", "-n", pool.namespace).splitlines()
    assert pools[0].split() == ["NAME", "READY", "TIER", "WARM", "WAITING", "INSTANCES", "AGE"]
    assert pools[1].split()[:4] == ["tiers", "True", "WARM", "1"]
    until(
        lambda: "HOT" in pool.kube.kubectl("get", "ai", "-n", pool.namespace), "records tell their tier", 10
    )
    instances = pool.kube.kubectl("get", "ai", "-n", pool.namespace).splitlines()
    assert instances[0].split() == ["NAME", "POOL", "TENANT", "PROJECT", "TIER", "STATE", "POD", "AGE"]
    found = {line.split()[3]: line.split()[4:7] for line in instances[1:]}
    for tier in ("HOT", "COLD"):
        shown = found[f"first-{tier}"]
        assert shown[:2] == [tier, "READY"]
        assert shown[2].startswith("tiers-generic-")


def test_the_gateway_tells_of_pool_instances_health_and_metrics(pool: Pool) -> None:
    def all_ready() -> bool:
        stats = pool.client.get(f"{pool.path}/stats").json()
        hosts = {host["pod"]: host["ready"] for host in stats["hosts"]}
        return stats["pool"] == pool.name and hosts.keys() >= set(pool.ready_pods()) and all(hosts.values())

    until(all_ready, "every host is there and ready", 20)
    listed = pool.client.get(f"{pool.path}/instances").json()["instances"]
    assert {one["tier"] for one in listed} == {"HOT", "WARM", "COLD"}
    health = pool.client.get(f"{pool.path}/health").json()
    assert (health["status"], health["problems"]) == ("Healthy", [])
    metrics = pool.client.get(f"{pool.path}/metrics").text
    assert f'pool="{pool.name}"' in metrics


def test_the_gateway_tells_of_itself_to_anybody(installed: Installed) -> None:
    anybody = installed.client(None)
    assert anybody.get("/health").json()["status"] == "Ready"
    assert "/api/v1/pool/invoke" in anybody.get("/openapi.json").json()["paths"]
    assert anybody.get("/metrics").text.startswith("# HELP")


def test_a_headless_service_and_labels_lead_to_the_pods(pool: Pool) -> None:
    service = pool.kube.get("services", pool.namespace, f"{pool.name}-agents")
    assert service is not None
    assert service["spec"]["clusterIP"] == "None"
    selector = ",".join(f"{key}={value}" for key, value in service["spec"]["selector"].items())
    found = pool.kube.list("pods", pool.namespace, selector)
    assert {one["metadata"]["labels"][LABEL_ROLE] for one in found} >= {"warm", "generic"}
