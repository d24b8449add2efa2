# SPDX-License-Identifier: Apache-2.0
"""Bugs that others had, and races found in review, each with the tests that would find it here.

A test is named `path::name`, or `path::*` for a whole file; a fault case is named `faults: case`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from support.repository import ROOT

KNOWN_BUGS: Mapping[str, tuple[str, ...]] = {
    "pods that cannot become Ready are made by the ten thousand": (
        "faults: unschedulable pods",
        "tests/integration/operator/test_pools.py::test_a_missing_image_makes_no_more_pods_than_wanted_and_a_reason",
    ),
    "two warm pods adopted by one claim": (
        "tests/component/spine/test_one_owner.py::*",
        "tests/model/test_ownership_model.py::*",
        "tests/integration/operator/test_instances.py::test_twenty_cold_instances_each_get_one_pod",
    ),
    "status stays Ready, and pods are claimed, on a node that drains": (
        "tests/component/host/test_lifecycle.py::*",
        "tests/integration/operator/test_instances.py::test_a_lost_hot_pod_is_replaced_by_the_one_that_the_instance_moved_to",
    ),
    "a claim adopts a pod of the old template": (
        "tests/integration/operator/test_pools.py::test_a_changed_template_replaces_waiting_pods_within_the_bounds",
        "faults: crash points",
    ),
    "stale status overwrites, Ready of another generation": ("faults: invariant 6", "faults: crash points"),
    "an upgrade restarts claimed instances": (
        "tests/integration/operator/test_takeover.py::test_the_next_operator_finds_everything_as_it_is",
        "faults: older list after a restart",
    ),
    "the router asks DNS for a pod that is not in it yet": ("tests/component/gateway/test_cluster.py::*",),
    "a label is missing, and the network policy selects nothing": (
        "tests/chart/test_networkpolicies.py::*",
        "tests/e2e/test_isolation.py::*",
    ),
    "fields of a claim leak into the template": ("faults: spec mutations",),
    "the leader's lease is not given up at shutdown": (
        "tests/integration/operator/test_takeover.py::test_a_second_operator_waits_and_takes_over_at_once",
    ),
    "an unnamed claim gets another tenant's pod": (
        "tests/component/workers/test_hostile_agents.py::*",
        "faults: invariant 3",
    ),
    "the number of API calls grows with the pool": ("faults: calls do not grow with the pool",),
}
"""What operators of warm pools got wrong in public."""

RACES: Mapping[str, tuple[str, ...]] = {
    "the pod's object is gone, its process is not": ("tests/model/test_ownership_model.py::*",),
    "an idle pod is deleted while an instance moves in": (
        "tests/integration/operator/test_instances.py::test_a_cold_instance_gets_the_pod_it_moved_into_and_gives_it_back",
        "tests/component/host/test_service.py::*",
    ),
    "the busiest shared pod goes at a scale-down": (
        "tests/integration/operator/test_pools.py::test_shared_pods_go_one_at_a_time_the_emptiest_first",
    ),
    "two gateways fill one waiting pod": ("tests/component/spine/test_one_owner.py::*",),
    "a gateway follows an address that a host made up": ("tests/component/gateway/test_cluster.py::*",),
    "two hosts report one instance": ("tests/component/gateway/test_retries.py::*",),
    "memory storage with two gateways": ("tests/component/host/test_state.py::*",),
    "a request arrives while its instance is evicted": ("tests/component/host/test_lifecycle.py::*",),
    "a snapshot is taken in the middle of a request": ("tests/component/host/test_state.py::*",),
    "a request ends twice, or never": (
        "tests/component/spine/test_exactly_once.py::*",
        "faults: invariant 4",
    ),
    "a deletion that no operator saw is undone": (
        "tests/integration/operator/test_takeover.py::test_a_deletion_that_no_operator_saw_is_carried_out",
        "faults: deletion unseen",
        "faults: deletion without an operator",
    ),
    "a pool made anew gets the state of the old one": (
        "tests/integration/operator/test_pools.py::test_each_pool_has_a_user_of_its_own_that_ends_with_it",
        "faults: sweep of Redis",
    ),
    "a script names a key that it did not declare": ("tests/component/store/test_contract.py::*",),
    "the pod ends before its instances are saved": ("tests/component/host/test_lifecycle.py::*",),
    "a crash loop outlasts the gap": ("tests/integration/operator/test_instances.py::*",),
    "one slow client blocks the others": ("tests/component/gateway/test_streams.py::*",),
    "a worker floods its host": ("tests/component/workers/test_hostile_agents.py::*",),
    "the user and the runtime wish for different states": (
        "tests/integration/operator/test_instances.py::test_a_warm_instance_is_activated_paused_and_terminated",
    ),
    "children are made for a pool that is being deleted": ("faults: crash points",),
    "a leader wakes up after its lease": ("faults: frozen leader",),
}
"""Races and paths to lost state that reviews of the design found."""


def named_tests() -> Iterator[tuple[str, str]]:
    """Every pair of a bug and a test of pytest's that stands for it."""
    for table in (KNOWN_BUGS, RACES):
        for bug, tests in table.items():
            for test in tests:
                if not test.startswith("faults: "):
                    yield bug, test


def missing() -> list[str]:
    """Tests that are named and are not there."""
    return [f"{bug}: {test}" for bug, test in named_tests() if not _exists(test)]


def _exists(test: str) -> bool:
    path, _, name = test.partition("::")
    file = Path(ROOT, path)
    return file.exists() and (name == "*" or f"def {name}(" in file.read_text())
