# SPDX-License-Identifier: Apache-2.0
"""What was acknowledged is there after the end of any part, and requests go on meanwhile."""

from __future__ import annotations

import time

import pytest

from support.e2e import SYSTEM, Installed, Pool, kill_process, load
from support.kubernetes import pod_ready, until

TEXT = "The code word is marigold."
QUESTION = "code word"
TIERS = pytest.mark.parametrize("tier", ["WARM", "HOT", "COLD"])


@pytest.fixture(scope="module")
def pool(installed: Installed, namespace: str) -> Pool:
    """Two shared pods, two that wait."""
    made = installed.pool(namespace, "lasting", warm=2, waiting=2)
    made.ready()
    return made


@TIERS
def test_the_pod_is_deleted_gracefully_and_no_request_fails(pool: Pool, tier: str) -> None:
    pool.ready(waiting=1)
    project = f"asked-{tier}"
    before = pool.teach(project, TEXT, tier)
    with load(lambda: pool.invoke(project, QUESTION)) as seen:
        pool.kube.delete("pods", pool.namespace, before["pod"])
        until(lambda: pool.kube.get("pods", pool.namespace, before["pod"]) is None, "the pod is gone", 30)
    assert seen.failures == []
    after = pool.knows(project, QUESTION, TEXT)
    assert (after["instance_id"], after["tier"]) == (before["instance_id"], tier)
    assert after["pod"] != before["pod"]


@TIERS
def test_the_pod_is_deleted_by_force(pool: Pool, tier: str) -> None:
    pool.ready(waiting=1)
    project = f"forced-{tier}"
    before = pool.teach(project, TEXT, tier)
    pool.kube.delete("pods", pool.namespace, before["pod"], 0)
    after = pool.knows(project, QUESTION, TEXT)
    assert (after["instance_id"], after["tier"]) == (before["instance_id"], tier)
    assert after["pod"] != before["pod"]


@pytest.mark.parametrize("tier", ["WARM", "COLD"])
def test_the_host_process_is_killed(pool: Pool, tier: str) -> None:
    pool.ready(waiting=1)
    before = pool.teach(f"killed-{tier}", TEXT, tier)
    pod = pool.kube.get("pods", pool.namespace, before["pod"])
    assert pod is not None
    kill_process(pod, "agentpool_agent.host")
    after = pool.knows(f"killed-{tier}", QUESTION, TEXT)
    assert after["tier"] == tier
    # The kubelet would make a second restart of the same containers wait.
    pool.kube.delete("pods", pool.namespace, before["pod"], 0)


def test_the_zygote_is_killed_and_its_container_alone_starts_again(pool: Pool) -> None:
    pool.ready(waiting=1)
    before = pool.teach("zygote", TEXT)
    pod = pool.kube.get("pods", pool.namespace, before["pod"])
    assert pod is not None
    kill_process(pod, "agentpool_agent.zygote")
    pool.knows("zygote", QUESTION, TEXT)

    def restarts() -> dict[str, int] | None:
        now = pool.kube.get("pods", pool.namespace, before["pod"])
        assert now is not None
        counts = {one["name"]: one["restartCount"] for one in now["status"]["containerStatuses"]}
        return counts if counts["workers"] else None

    before_counts = {one["name"]: one["restartCount"] for one in pod["status"]["containerStatuses"]}
    after_counts = until(restarts, "container workers started again", 20)
    assert after_counts["host"] == before_counts["host"]
    # The kubelet would make a second restart of the same container wait.
    pool.kube.delete("pods", pool.namespace, before["pod"], 0)


def test_the_gateway_is_restarted_and_no_request_fails(pool: Pool) -> None:
    pool.teach("steady", TEXT)
    with load(lambda: pool.invoke("steady", QUESTION)) as seen:
        pool.kube.kubectl("-n", SYSTEM, "rollout", "restart", "deployment/agentpool-gateway")
        pool.kube.kubectl("-n", SYSTEM, "rollout", "status", "deployment/agentpool-gateway", "--timeout=55s")
        time.sleep(1)
    assert seen.failures == []
    assert seen.answered > 50
    assert pool.asked("steady", QUESTION) == TEXT


def test_the_operator_is_deleted_the_data_plane_goes_on_and_another_one_leads(
    pool: Pool, installed: Installed
) -> None:
    pool.ready(waiting=1)
    pool.teach("unled", TEXT)
    lease = pool.kube.get("leases", SYSTEM, "agentpool-operator")
    assert lease is not None
    old = lease["spec"]["holderIdentity"]
    with load(lambda: pool.invoke("unled", QUESTION)) as seen:
        for pod in installed.parts("operator"):
            pool.kube.delete("pods", SYSTEM, pod["metadata"]["name"], 0)
        first = pool.teach("meanwhile", TEXT, "COLD")

        def led() -> bool:
            now = pool.kube.get("leases", SYSTEM, "agentpool-operator")
            return now is not None and now["spec"].get("holderIdentity") not in (None, "", old)

        until(led, "another operator leads", 40)
    assert seen.failures == []
    until(lambda: pool.record(first["instance_id"]), "what happened meanwhile is carried out", 30)
    pool.ready(waiting=1)


def test_redis_is_deleted_and_comes_back_with_everything(pool: Pool, installed: Installed) -> None:
    pool.ready(waiting=1)
    before = pool.teach("stored", TEXT)
    resident = pool.teach("rare-stored", TEXT, "COLD")
    # The file is flushed each second.
    time.sleep(1.5)
    (redis,) = installed.parts("redis")
    pool.kube.delete("pods", SYSTEM, redis["metadata"]["name"])

    def returned() -> bool:
        now = pool.kube.get("pods", SYSTEM, redis["metadata"]["name"])
        return now is not None and now["metadata"]["uid"] != redis["metadata"]["uid"] and pod_ready(now)

    until(returned, "Redis is ready again", 60)
    pool.kube.delete("pods", pool.namespace, before["pod"], 0)
    pool.kube.delete("pods", pool.namespace, resident["pod"], 0)
    pool.knows("stored", QUESTION, TEXT)
    pool.knows("rare-stored", QUESTION, TEXT)
    lost = [one for one in pool.body["status"]["conditions"] if one["type"] == "StoreDataLost"]
    assert [one["status"] for one in lost] == ["False"]
