# SPDX-License-Identifier: Apache-2.0
"""What the object of a pod proves about its hosts."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from agentpool_core.names import Incarnation
from agentpool_gateway.membership.evidence import pod_view
from support.builders import pod

NOON = int(datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC).timestamp())


def host(second: float, uid: str = "pod-uid") -> Incarnation:
    """A host that started this many seconds after noon."""
    return Incarnation.draw(uid, int((NOON + second) * 1e9), b"rand")


def at(second: int) -> str:
    return datetime.fromtimestamp(NOON + second, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def running(second: int, last: int | None = None) -> dict[str, Any]:
    """A host container that runs since then; `last`: when its earlier life ended."""
    ended = {"lastState": {"terminated": {"finishedAt": at(last)}}} if last is not None else {}
    return {"name": "host", "state": {"running": {"startedAt": at(second)}}, **ended}


def waiting(last: int | None) -> dict[str, Any]:
    ended = {"lastState": {"terminated": {"finishedAt": at(last)}}} if last is not None else {}
    return {"name": "host", "state": {"waiting": {"reason": "CrashLoopBackOff"}}, **ended}


def ready(value: str, second: int) -> dict[str, Any]:
    return {"type": "Ready", "status": value, "lastTransitionTime": at(second)}


UP = running(0)
ENDED = {"name": "host", "state": {"terminated": {"finishedAt": at(5)}}}
WORKERS_ENDED = {"name": "workers", "state": {"terminated": {"finishedAt": at(5)}}}
CASES = [
    pytest.param({"hosts": [UP], "conditions": [ready("True", 2)]}, 0.5, False, id="it runs and is Ready"),
    pytest.param({"phase": "Failed", "hosts": [UP]}, 0.5, True, id="the pod failed"),
    pytest.param({"phase": "Succeeded", "hosts": [UP]}, 0.5, True, id="the pod succeeded"),
    pytest.param({"hosts": [ENDED]}, 0.5, True, id="the host's container terminated"),
    pytest.param({"hosts": [waiting(5)]}, 0.5, True, id="the host's container waits for its restart"),
    pytest.param({"hosts": [waiting(None)]}, 0.5, False, id="the host's container was never started"),
    pytest.param({"hosts": [UP, WORKERS_ENDED]}, 0.5, False, id="the workers' container alone terminated"),
    pytest.param({"hosts": [running(10, last=8)]}, 0.5, True, id="it restarted, and the host is of before"),
    pytest.param({"hosts": [running(10, last=8)]}, 7.9, True, id="the host started just before its end"),
    pytest.param({"hosts": [running(10, last=8)]}, 10.3, False, id="it restarted, and the host is of after"),
    pytest.param(
        {"hosts": [running(10)]}, 9.9, False, id="without an earlier life, clocks may differ by a little"
    ),
    pytest.param(
        {"hosts": [UP], "conditions": [ready("False", 30)]}, 0.5, True, id="it was Ready and is not now"
    ),
    pytest.param(
        {"hosts": [UP], "conditions": [ready("Unknown", 30)]}, 0.5, True, id="its node does not report"
    ),
    pytest.param(
        {"hosts": [running(10)], "conditions": [ready("False", 3)]},
        10.5,
        False,
        id="it is not Ready yet: its first probe is still to come",
    ),
    pytest.param({"conditions": [ready("False", 3)]}, 0.5, False, id="nothing is known of its containers"),
    pytest.param({"hosts": [UP], "deleted": True}, 0.5, False, id="it is being deleted, and drains"),
]


@pytest.mark.parametrize(("facts", "second", "proven"), CASES)
def test_the_end_of_a_host_is_proven_or_not(facts: dict[str, Any], second: float, proven: bool) -> None:
    assert pod_view(pod("support-1", uid="pod-uid", **facts)).proves_end(host(second)) is proven


def test_a_nonce_that_tells_no_time_is_not_taken_for_an_old_one() -> None:
    view = pod_view(pod("support-1", hosts=[running(10, last=8)]))
    assert not view.proves_end(Incarnation("uid-support-1", "whatever"))


@pytest.mark.parametrize(
    ("facts", "reachable"),
    [
        pytest.param({"ip": "10.0.0.1"}, True, id="an address and nothing against it"),
        pytest.param({"ip": ""}, False, id="no address yet"),
        pytest.param({"ip": "10.0.0.1", "phase": "Failed"}, False, id="its address may be another's by now"),
    ],
)
def test_a_host_is_looked_for_where_one_can_be(facts: dict[str, Any], reachable: bool) -> None:
    assert pod_view(pod("support-1", **facts)).reachable is reachable


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"metadata": {"namespace": "a", "name": "b"}}, id="no uid"),
        pytest.param(
            {
                "metadata": {"namespace": "a", "name": "b", "uid": "c"},
                "status": {
                    "containerStatuses": [{"name": "host", "state": {"running": {"startedAt": "noon"}}}]
                },
            },
            id="a time that is none",
        ),
    ],
)
def test_what_is_not_a_pod_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises((KeyError, ValueError)):
        pod_view(body)
