# SPDX-License-Identifier: Apache-2.0
"""The objects of a pool: restricted, without secrets beside tenants' code, stable."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from agentpool_agent.host.settings import read_settings
from agentpool_agent.zygote.__main__ import parse
from agentpool_core.cluster import (
    HOST_UID,
    LABEL_INSTANCE,
    POD_GID,
    ROLE_GENERIC,
    ROLE_HOT,
    ROLE_WARM,
    WORKERS_UID,
)
from agentpool_core.lifecycle import Tier
from agentpool_operator.desired.naming import Owner, covers, fitting
from agentpool_operator.desired.objects import adoption, budget, deployment, record, service
from agentpool_operator.desired.pod import (
    AWAIT_HANDLER,
    END_SECONDS,
    PodDefaults,
    Template,
    drain_seconds,
    generic_tiers,
    template,
)
from support.builders import agent_pool, effective_pool
from support.kube_objects import held, pod
from support.pod_security import violations

PUBLIC = "-----BEGIN PUBLIC KEY-----\nMCow\n-----END PUBLIC KEY-----\n"
BASE = PodDefaults("registry.test/agent:1", "IfNotPresent", PUBLIC)
OWNER = Owner("default", "support", "pool-uid")
ROLES = (ROLE_WARM, ROLE_HOT, ROLE_GENERIC)


def made(role: str, spec: Mapping[str, Any] | None = None) -> Template:
    return template(role, OWNER, agent_pool(spec), effective_pool(spec), BASE)


def part(of: Template, name: str) -> dict[str, Any]:
    return next(one for one in of.spec["containers"] if one["name"] == name)


@pytest.mark.parametrize("role", ROLES)
def test_pods_are_restricted(role: str) -> None:
    assert violations(made(role).spec) == []


@pytest.mark.parametrize("role", ROLES)
def test_workers_have_another_user_and_nothing_secret(role: str) -> None:
    workers = part(made(role), "workers")
    assert workers["securityContext"]["runAsUser"] == WORKERS_UID
    assert {mount["name"] for mount in workers["volumeMounts"]} == {"run", "work", "tmp"}
    assert "PUBLIC KEY" not in json.dumps(workers)
    host = part(made(role), "host")
    assert host["securityContext"]["runAsUser"] == HOST_UID
    assert "cpu" not in host["resources"]["limits"]
    assert made(role).spec["securityContext"]["fsGroup"] == POD_GID


@pytest.mark.parametrize("role", ROLES)
def test_no_container_is_told_to_end_before_it_can_hear_it(role: str) -> None:
    for container in made(role).spec["containers"]:
        assert container["lifecycle"]["preStop"]["exec"]["command"] == ["/bin/sh", "-c", AWAIT_HANDLER]
    # What it waits at most is no part of the time that a drain may take.
    assert made(role).spec["terminationGracePeriodSeconds"] >= drain_seconds(effective_pool()) + END_SECONDS


@pytest.mark.parametrize("role", ROLES)
def test_the_host_understands_what_it_is_given(role: str, tmp_path: Path) -> None:
    env = {one["name"]: one.get("value", "from-the-pod") for one in part(made(role), "host")["env"]}
    url = tmp_path / "url"
    url.write_text("redis://r")
    env["AGENTPOOL_REDIS_URL_FILE"] = str(url)
    settings = read_settings([], env)
    assert settings.listen == "0.0.0.0:7400"
    assert settings.metrics_port == 7401
    assert settings.public_keys == (PUBLIC.encode(),)
    assert (
        settings.tiers
        == {
            ROLE_WARM: (Tier.WARM,),
            ROLE_HOT: (Tier.HOT,),
            ROLE_GENERIC: (Tier.HOT, Tier.COLD),
        }[role]
    )
    assert settings.role == ("Shared" if role == ROLE_WARM else "Generic")
    arguments = parse(part(made(role), "workers")["command"][3:])
    assert arguments.socket == settings.run_dir / "zygote.sock"


def test_a_pool_in_memory_mounts_no_secret() -> None:
    of = made(ROLE_WARM, {"checkpoint": {"storage": "Memory"}})
    assert "redis" not in {volume["name"] for volume in of.spec["volumes"]}


SAME: dict[str, dict[str, Any]] = {
    "an idle time": {"tiers": {"warm": {"idleSeconds": 5}}},
    "the number of waiting pods": {"warmup": {"count": 9}},
    "a limit": {"limits": {"inputBytes": 9}},
}
OTHER: dict[str, dict[str, Any]] = {
    "the image": {"agent": {"entrypoint": "a.b:C", "image": "registry.test/other:2"}},
    "the entrypoint": {"agent": {"entrypoint": "a.b:D"}},
    "a quota that sizes pods": {"tiers": {"cold": {"quota": {"memory": "1Gi"}}}},
    "a runtime class": {"tiers": {"cold": {"runtimeClassName": "gvisor"}}},
}


@pytest.mark.parametrize("name", SAME)
def test_what_a_running_pod_takes_on_leaves_its_template(name: str) -> None:
    assert made(ROLE_GENERIC, SAME[name]).hash == made(ROLE_GENERIC).hash


@pytest.mark.parametrize("name", OTHER)
def test_what_a_running_pod_cannot_take_on_changes_its_template(name: str) -> None:
    assert made(ROLE_GENERIC, OTHER[name]).hash != made(ROLE_GENERIC).hash


def test_a_pod_of_one_instance_is_held_to_its_quota() -> None:
    limits = part(made(ROLE_HOT), "workers")["resources"]["limits"]
    assert limits == {"cpu": "1", "memory": "2240Mi"}
    shared = part(made(ROLE_WARM), "workers")["resources"]["limits"]
    assert "cpu" not in shared


def test_the_manifest_overrules_the_sizes() -> None:
    spec = {"tiers": {"hot": {"resources": {"requests": {"cpu": "1.5"}, "limits": {"memory": "3Gi"}}}}}
    resources = part(made(ROLE_HOT, spec), "workers")["resources"]
    assert (resources["requests"]["cpu"], resources["limits"]["memory"]) == ("1500m", "3Gi")


def test_waiting_pods_take_no_hot_instance_of_another_runtime() -> None:
    spec = {"tiers": {"hot": {"runtimeClassName": "kata"}}}
    assert generic_tiers(agent_pool(spec), effective_pool(spec)) == (Tier.COLD,)


def test_an_own_pod_belongs_to_its_instance_and_says_so() -> None:
    body = made(ROLE_HOT).own_pod(OWNER, "support-hot-1", "inst-1", {"uid": "ai"})
    assert body["metadata"]["labels"][LABEL_INSTANCE] == "inst-1"
    assert body["metadata"]["ownerReferences"] == [{"uid": "ai"}]


def test_adoption_replaces_the_owner_of_exactly_the_pod_that_was_seen() -> None:
    patch = adoption(pod("a", owner_uid="pool-uid"), held(), "vip", "ai-uid")["metadata"]
    assert (patch["uid"], patch["resourceVersion"]) == ("uid-a", "1")
    (owner,) = patch["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"], owner["controller"]) == (
        "AgentInstance",
        "vip",
        "ai-uid",
        True,
    )


def test_a_record_wants_nothing() -> None:
    assert record(OWNER, held())["spec"] == {"pool": "support", "tenant": "acme", "project": "inst-1"}


def test_selectors_fit_the_pods() -> None:
    of = made(ROLE_WARM)
    labels = of.labels
    shared = deployment(OWNER, of, 2)["spec"]
    selectors = [
        shared["selector"]["matchLabels"],
        budget(OWNER, 2)["spec"]["selector"]["matchLabels"],
        service(OWNER)["spec"]["selector"],
    ]
    for selector in selectors:
        assert selector.items() <= labels.items()
    assert shared["template"]["metadata"]["labels"] == labels


def test_a_budget_never_keeps_a_pod_that_is_not_ready() -> None:
    assert budget(OWNER, 3)["spec"]["minAvailable"] == 3
    assert budget(OWNER, 3)["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


@pytest.mark.parametrize(("request_seconds", "drain"), [(60, 70), (0.5, 11), (600, 610)])
def test_a_drain_outlasts_the_longest_request_and_the_grace_time_the_drain(
    request_seconds: float, drain: int
) -> None:
    spec = made(ROLE_WARM, {"limits": {"requestTimeoutSeconds": request_seconds}}).spec
    environment = {one["name"]: one.get("value") for one in spec["containers"][0]["env"]}
    assert environment["AGENTPOOL_DRAIN_SECONDS"] == str(drain)
    assert spec["terminationGracePeriodSeconds"] == drain + END_SECONDS


def test_a_waiting_pod_asks_for_little() -> None:
    """Thirty of them fit beside everything else on two cores."""
    cpus = [one["resources"]["requests"]["cpu"] for one in made(ROLE_GENERIC).spec["containers"]]
    assert cpus == ["10m", "10m"]


def test_long_names_fit_and_stay_apart() -> None:
    long = Owner("default", "a" * 63, "uid"), Owner("default", "a" * 62 + "b", "uid")
    names = {one.service_name for one in long}
    assert len(names) == 2
    assert all(len(name) <= 63 for name in names)
    assert fitting("short", 63) == "short"


COVERS = {
    "the server's own fields are no difference": ({"a": 1, "b": 2}, {"a": 1}, True),
    "another value is": ({"a": 1}, {"a": 2}, False),
    "a missing field is": ({}, {"a": 1}, False),
    "lists are compared element by element": ({"a": [{"x": 1, "y": 2}]}, {"a": [{"x": 1}]}, True),
    "a longer list is a difference": ({"a": [1, 2]}, {"a": [1]}, False),
    "an object that is not there": (None, {"a": 1}, False),
    "nothing wanted of what is not there": (None, {}, True),
}


@pytest.mark.parametrize("name", COVERS)
def test_what_counts_as_a_difference(name: str) -> None:
    observed, wanted, same = COVERS[name]
    assert covers(observed, wanted) is same
