# SPDX-License-Identifier: Apache-2.0
"""Waiting pods: handed out without a write, each to one instance, and never more than wanted plus surge."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from agentpool_core.cluster import LABEL_INSTANCE, LABEL_ROLE, ROLE_GENERIC
from support.e2e import Installed, Pool, Writes, at_a_rate
from support.kubernetes import condition, until

WAITING = 4
FIRST_REQUESTS = 20
PER_SECOND = 2
WRITES_PER_FIRST_REQUEST = 12
"""By the operator, afterwards: record, adoption, the pod that follows, two statuses, Events."""


@pytest.fixture(scope="module")
def pool(installed: Installed, namespace: str) -> Pool:
    """Waiting pods alone."""
    made = installed.pool(namespace, "rare", warm=0, waiting=WAITING, defaultTier="COLD")
    made.ready()
    return made


def most(wanted: int) -> int:
    """Wanted plus surge."""
    return wanted + max(1, math.ceil(wanted / 4))


@contextmanager
def counted(pool: Pool) -> Iterator[list[int]]:
    """How many pods waited or were to wait, looked at all through the block."""
    seen: list[int] = []
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(0.2):
            seen.append(len(pool.waiting()))

    looker = threading.Thread(target=look)
    looker.start()
    try:
        yield seen
    finally:
        stop.set()
        looker.join()


def test_a_first_request_writes_no_object_in_line_and_few_afterwards(pool: Pool) -> None:
    pool.ready()
    time.sleep(2)
    writes = Writes()
    answer = pool.answer("quiet", {"documents": [{"id": "a", "text": "Quiet words."}]})
    in_line = writes.by("agentpool-gateway", pool.namespace)
    until(lambda: pool.record(answer["instance_id"]), "the instance is recorded", 10)
    pool.ready()
    time.sleep(1)
    assert in_line == writes.by("agentpool-gateway", pool.namespace) == []
    afterwards = writes.by("agentpool-operator", pool.namespace)
    assert 0 < len(afterwards) <= WRITES_PER_FIRST_REQUEST, afterwards


def test_first_requests_at_two_a_second_get_a_pod_each(pool: Pool) -> None:
    pool.ready()
    with counted(pool) as seen:
        calls = [partial(pool.invoke, f"rare-{number}", "hello") for number in range(FIRST_REQUESTS)]
        responses = at_a_rate(calls, PER_SECOND)
    answered = [one.json() for one in responses if one.status_code == 200]
    refused = [one.json() for one in responses if one.status_code != 200]
    assert {one["code"] for one in refused} <= {"PoolExhausted", "NoHost"}, refused
    assert all(one["retryable"] for one in refused)
    assert len(answered) >= FIRST_REQUESTS // 2, [one["code"] for one in refused]
    pods = [one["pod"] for one in answered]
    assert len(set(pods)) == len(pods)
    assert len({one["instance_id"] for one in answered}) == len(answered)

    def owners() -> dict[str, str]:
        labelled = [one for one in pool.pods() if LABEL_INSTANCE in one["metadata"]["labels"]]
        return {one["metadata"]["labels"][LABEL_INSTANCE]: one["metadata"]["name"] for one in labelled}

    wanted = {one["instance_id"]: one["pod"] for one in answered}
    until(lambda: owners().items() >= wanted.items(), "each instance has its own pod", 20)
    listed = pool.client.get(f"{pool.path}/instances", params={"limit": 1000}).json()["instances"]
    held = {one["id"]: one["pod"] for one in listed if one["pod"]}
    assert len(set(held.values())) == len(held)
    assert held.items() >= wanted.items()
    assert max(seen) <= most(WAITING)


def test_an_idle_one_gives_its_pod_back_and_comes_back_with_its_state(
    installed: Installed, namespace: str
) -> None:
    tiers = {"warm": {"replicas": 0}, "cold": {"idleSeconds": 1}}
    pool = installed.pool(namespace, "brief", waiting=1, tiers=tiers, defaultTier="COLD")
    pool.ready()
    first = pool.teach("brief", "Brief words.")
    until(lambda: pool.kube.get("pods", namespace, first["pod"]) is None, "its pod is given back", 30)
    found = pool.instance(first["instance_id"]).json()
    assert (found["state"], found["reason"], found["tier"]) == ("PAUSED", "Evicted", "COLD")
    again = pool.knows("brief", "brief", "Brief words.")
    assert again["tier"] == "COLD"
    assert again["pod"] != first["pod"]
    pool.kube.delete("agentpools", namespace, "brief")


def test_pods_stay_bounded_with_a_missing_image_and_the_old_one_repairs_it(
    installed: Installed, namespace: str
) -> None:
    wanted = 2
    pool = installed.pool(
        namespace, "unpullable", warm=0, waiting=wanted, agent={"image": "localhost/missing:1"}
    )
    with counted(pool) as seen:
        until(lambda: condition(pool.body, "Ready").get("reason") == "ImageMissing", pool.explain, 40)
        ready = condition(pool.body, "Ready")
        assert ready["status"] == "False"
        assert "localhost/missing:1" in ready["message"]
        assert "spec.agent.image" in ready["message"]
        told = f"regarding.name={pool.name},reason=ImageMissing"
        events = ("get", "events.events.k8s.io", "-n", namespace, "--field-selector", told, "-o", "name")
        until(lambda: pool.kube.kubectl(*events).strip(), "an Event tells it", 10)
        time.sleep(5)
        pool.change(agent={"image": ""})
        pool.ready()
    assert wanted <= max(seen) <= most(wanted)
    assert pool.answer("repaired", "hello", "COLD")["tier"] == "COLD"


def test_the_surplus_goes_when_fewer_are_wanted(pool: Pool) -> None:
    pool.change(warmup={"enabled": True, "count": 1})
    until(lambda: len(pool.waiting()) == 1, "one pod waits", 40)
    owned = [one for one in pool.pods() if LABEL_INSTANCE in one["metadata"]["labels"]]
    assert all(one["metadata"]["labels"][LABEL_ROLE] == ROLE_GENERIC for one in owned)
