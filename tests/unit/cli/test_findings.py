# SPDX-License-Identifier: Apache-2.0
"""What doctor makes of the objects of a cluster."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from agentpool_cli.cluster import findings
from agentpool_cli.cluster.findings import Finding, Level
from agentpool_cli.cluster.gateway import one_gateway, split_name
from agentpool_cli.cluster.kubectl import failure
from agentpool_cli.commands.doctor import checked, report
from agentpool_core.errors import AgentPoolError, InvalidRequest, NotFound, PermissionDenied, Unavailable


def problems(found: Iterable[Finding]) -> list[tuple[str, str]]:
    """Subject and text of the problems; each of them names a remedy."""
    listed = [one for one in found if one.level is Level.PROBLEM]
    assert all(one.remedy for one in listed)
    return [(one.subject, one.text) for one in listed]


def workload(component: str, wanted: int = 1, ready: int = 1) -> dict[str, Any]:
    labels = {"app.kubernetes.io/component": component}
    metadata = {"namespace": "system", "name": f"ap-{component}", "labels": labels}
    status = {"readyReplicas": ready} if ready else {}
    return {"metadata": metadata, "spec": {"replicas": wanted}, "status": status}


HEALTHY = [workload("operator"), workload("gateway", 2, 2), workload("redis")]
WORKLOADS = [
    pytest.param(HEALTHY, [], id="all are ready"),
    pytest.param(HEALTHY[:2], [], id="a release need not have a Redis of its own"),
    pytest.param(HEALTHY[1:], [("operator", "It is not installed.")], id="the operator is missing"),
    pytest.param(
        [*HEALTHY[:1], workload("gateway", 2, 0), HEALTHY[2]],
        [("gateway", "system/ap-gateway: 0 of 2 ready.")],
        id="no gateway is ready",
    ),
    pytest.param(
        [workload("operator", 0, 0), *HEALTHY[1:]],
        [("operator", "system/ap-operator is scaled to zero.")],
        id="nobody runs the operator",
    ),
]


@pytest.mark.parametrize(("found", "expected"), WORKLOADS)
def test_what_the_chart_runs(found: list[dict[str, Any]], expected: list[tuple[str, str]]) -> None:
    assert problems(findings.workloads(found)) == expected


DISCOVERY = [
    pytest.param(
        {"resources": [{"name": "agentpools"}, {"name": "agentinstances"}]}, [], id="both are known"
    ),
    pytest.param(
        {"resources": [{"name": "agentpools"}]},
        [("definitions", "The cluster does not know agentinstances.")],
        id="one is missing",
    ),
    pytest.param(
        None,
        [("definitions", "The cluster does not know agentpools, agentinstances.")],
        id="nothing is known",
    ),
]


@pytest.mark.parametrize(("found", "expected"), DISCOVERY)
def test_the_definitions(found: dict[str, Any] | None, expected: list[tuple[str, str]]) -> None:
    assert problems(findings.definitions(found)) == expected


def container(reason: str, message: str = "") -> dict[str, Any]:
    waiting = {"reason": reason, "message": message}
    return {"containerStatuses": [{"name": "host", "state": {"waiting": waiting}}]}


PODS = [
    pytest.param({"containerStatuses": [{"name": "host", "state": {"running": {}}}]}, [], id="it runs"),
    pytest.param(container("ContainerCreating"), [], id="it is being made"),
    pytest.param(
        container("ImagePullBackOff", "no such image"),
        [("pod demo/support-1", "Container host: ImagePullBackOff: no such image")],
        id="its image cannot be pulled",
    ),
    pytest.param(
        container("CrashLoopBackOff"),
        [("pod demo/support-1", "Container host: CrashLoopBackOff")],
        id="it ends again and again",
    ),
    pytest.param(
        {"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/1 nodes are available"}]},
        [("pod demo/support-1", "No node takes it: 0/1 nodes are available")],
        id="no node has room",
    ),
]


@pytest.mark.parametrize(("status", "expected"), PODS)
def test_pods(status: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    one = {"metadata": {"namespace": "demo", "name": "support-1"}, "status": status}
    assert problems(findings.pods([one])) == expected


def test_a_remedy_for_a_pod_names_it() -> None:
    one = {"metadata": {"namespace": "demo", "name": "support-1"}, "status": container("CrashLoopBackOff")}
    remedy = next(iter(findings.pods([one]))).remedy
    assert "kubectl -n demo logs support-1 -c host --previous" in remedy


def condition(kind: str, status: str, reason: str = "R", message: str = "m") -> dict[str, Any]:
    return {"type": kind, "status": status, "reason": reason, "message": message}


POOLS = [
    pytest.param([condition("Ready", "True")], 3, [], id="it is ready"),
    pytest.param([], 3, ["The operator has not looked at it yet."], id="it has no condition yet"),
    pytest.param(
        [condition("Ready", "True")],
        2,
        ["The operator has not looked at it yet."],
        id="what is known is of an earlier spec",
    ),
    pytest.param(
        [condition("Ready", "False", "ImageMissing", "Push it.")],
        3,
        ["Ready is False, ImageMissing: Push it."],
        id="it is not ready, and why",
    ),
    pytest.param(
        [condition("Ready", "False"), condition("Stalled", "True", "BadEntrypoint", "Correct it.")],
        3,
        ["Stalled is True, BadEntrypoint: Correct it."],
        id="the cause is told, and not its consequence",
    ),
    pytest.param(
        [condition("Ready", "True"), condition("StoreDataLost", "True", "NewGeneration", "Restore.")],
        3,
        ["StoreDataLost is True, NewGeneration: Restore."],
        id="it is ready, but something happened",
    ),
    pytest.param(
        [condition("Ready", "True"), condition("StoreReady", "False", "Unsafe", "Turn appendonly on.")],
        3,
        ["StoreReady is False, Unsafe: Turn appendonly on."],
        id="it is ready, but its store is not safe",
    ),
]


@pytest.mark.parametrize(("conditions", "observed", "expected"), POOLS)
def test_pools(conditions: list[dict[str, Any]], observed: int, expected: list[str]) -> None:
    metadata = {"namespace": "demo", "name": "support", "generation": 3}
    one = {"metadata": metadata, "status": {"observedGeneration": observed, "conditions": conditions}}
    assert problems(findings.pools([one])) == [("pool demo/support", text) for text in expected]


def test_rights_that_are_missing_and_those_that_are_not_known() -> None:
    found = list(findings.rights("app", "demo", {"get": True, "invoke": False, "pause": None}))
    assert [one.level for one in found] == [Level.UNKNOWN, Level.PROBLEM]
    assert problems(found) == [("rights of app", "No right to invoke on agentpools in demo.")]
    assert not problems(findings.rights("app", "demo", {"get": True}))


AUDITED: dict[str, tuple[dict[str, bool | None], str, str]] = {
    "all": ({"pause": True, "forget": True}, "OK", "May pause, forget, on agentpools in demo."),
    "some": ({"pause": True, "forget": False}, "OK", "May pause. May not forget, on agentpools in demo."),
    "not known": ({"pause": None, "forget": False}, "UNKNOWN", "May not forget. Not known: pause, on"),
}


@pytest.mark.parametrize("name", AUDITED)
def test_rights_whose_use_is_logged_are_told_and_their_lack_is_no_problem(name: str) -> None:
    answers, level, words = AUDITED[name]
    found = findings.audited("app", "demo", answers)
    assert (found.level, found.subject) == (level, "audited rights of app")
    assert found.text.startswith(words)


def test_a_check_that_cannot_be_made_is_told_and_ends_nothing() -> None:
    def check() -> list[Finding]:
        raise PermissionDenied("no", remedy="ask")

    assert list(checked("pods", check)) == [Finding(Level.UNKNOWN, "pods", "no", "ask")]


def test_a_report_has_a_line_for_each_finding_and_one_for_each_remedy() -> None:
    found = [findings.ok("a", "well"), findings.problem("b", "ill", "rest")]
    assert report(found, "table").splitlines() == [
        "OK        a   well",
        "PROBLEM   b   ill",
        "              -> rest",
    ]
    assert report(found, "name") == "problem/b\n"


def service(namespace: str) -> dict[str, Any]:
    return {"metadata": {"namespace": namespace, "name": "gateway"}}


def test_the_only_gateway_is_taken_and_a_choice_is_the_users() -> None:
    assert one_gateway([service("a")]) == ("a", "gateway")
    with pytest.raises(NotFound):
        one_gateway([])
    with pytest.raises(InvalidRequest, match="a/gateway, b/gateway"):
        one_gateway([service("a"), service("b")])


@pytest.mark.parametrize("text", ["", "a", "a/", "/b", "a/b/c"])
def test_a_name_that_lacks_its_namespace_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        split_name(text, "--gateway")
    assert "--gateway" in refused.value.hint


FAILURES = [
    pytest.param(
        'Error from server (Forbidden): pods is forbidden: User "x"', PermissionDenied, id="no right"
    ),
    pytest.param("Error from server (NotFound): the server could not find it", NotFound, id="not there"),
    pytest.param('error: failed to create token: serviceaccounts "x" not found', NotFound, id="no account"),
    pytest.param(
        "Error in configuration: context was not found for specified context: x",
        InvalidRequest,
        id="no such context",
    ),
    pytest.param("The connection to the server 1.2.3.4 was refused", Unavailable, id="no answer"),
    pytest.param("Unable to connect: context deadline exceeded", Unavailable, id="no answer in time"),
    pytest.param("", Unavailable, id="nothing said"),
]


@pytest.mark.parametrize(("text", "expected"), FAILURES)
def test_kubectls_words_become_errors_with_a_remedy(text: str, expected: type[AgentPoolError]) -> None:
    found = failure(text)
    assert type(found) is expected
    assert found.hint
    assert not found.message.startswith("error: ")
