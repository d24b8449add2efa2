# SPDX-License-Identifier: Apache-2.0
"""Pods as the API server has them: what state they are in, and why they do not come up."""

from __future__ import annotations

from typing import Any

import pytest

from agentpool_operator.plan.views import Trouble, pod_view, seconds
from support.kube_objects import container, pod_body

EXITED = {"exitCode": 3, "message": "Traceback\nzygote: cannot import nowhere: ModuleNotFoundError"}
TROUBLES: dict[str, tuple[dict[str, Any], Trouble | None, str]] = {
    "runs": ({"containerStatuses": [container("host", ready=True)]}, None, ""),
    "an image that is not there": (
        {
            "containerStatuses": [
                container("host", waiting={"reason": "ErrImagePull", "message": "not found"})
            ]
        },
        Trouble.IMAGE,
        "registry.test/agent:1: not found",
    ),
    "no node takes it": (
        {
            "conditions": [
                {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}
            ]
        },
        Trouble.UNSCHEDULABLE,
        "0/1 nodes",
    ),
    "a Secret is missing": (
        {
            "containerStatuses": [
                container("host", waiting={"reason": "CreateContainerConfigError", "message": "no secret"})
            ]
        },
        Trouble.SECRET,
        "no secret",
    ),
    "the agent cannot be imported": (
        {"containerStatuses": [container("workers", terminated=EXITED)]},
        Trouble.AGENT,
        "container workers: zygote: cannot import nowhere: ModuleNotFoundError",
    ),
    "a container crashes again and again": (
        {
            "containerStatuses": [
                container(
                    "host",
                    waiting={"reason": "CrashLoopBackOff"},
                    lastState={"terminated": {"exitCode": 1, "reason": "Error"}},
                )
            ]
        },
        Trouble.CRASH,
        "container host: Error",
    ),
    "a container that crashed once and runs again": (
        {
            "containerStatuses": [
                container("host", ready=True, lastState={"terminated": {"exitCode": 1, "reason": "Error"}})
            ]
        },
        None,
        "",
    ),
    "a node refused it": (
        {"phase": "Failed", "reason": "OutOfcpu", "message": "no CPU left"},
        Trouble.REFUSED,
        "OutOfcpu: no CPU left",
    ),
}


@pytest.mark.parametrize("name", TROUBLES)
def test_the_reason_that_a_pod_does_not_come_up(name: str) -> None:
    status, trouble, details = TROUBLES[name]
    view = pod_view(pod_body(**status))
    assert (view.trouble, view.details) == (trouble, details)


def test_a_pod_that_restarts_nothing_has_ended_without_one_of_its_containers() -> None:
    ended = {
        "exitCode": 0,
        "startedAt": "2027-01-15T08:00:00Z",
        "finishedAt": "2027-01-15T08:01:30Z",
    }
    body = pod_body(
        phase="Running", containerStatuses=[container("host"), container("workers", terminated=ended)]
    )
    view = pod_view(body)
    assert (view.ended, view.ran_seconds, view.ended_at) == (True, 90.0, seconds("2027-01-15T08:01:30Z"))
    body["spec"]["restartPolicy"] = "Always"
    assert not pod_view(body).ended


def test_the_controller_is_the_owner() -> None:
    body = pod_body()
    body["metadata"]["ownerReferences"] = [{"uid": "a"}, {"uid": "b", "controller": True}]
    assert pod_view(body).owner_uid == "b"
