# SPDX-License-Identifier: Apache-2.0
"""forget: calls until nothing is left, and what is told of what is."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import pytest

from agentpool_cli.commands.forget import confirm, erase, report
from agentpool_core.errors import InvalidRequest


def answer(erased: int = 0, busy: int = 0, failed: int = 0, declared: int = 0) -> dict[str, Any]:
    one = {"id": "inst-1", "project_id": "shop", "code": "StoreUnavailable", "detail": "Away."}
    return {
        "tenant_id": "acme",
        "complete": not (busy or failed or declared),
        "erased": erased,
        "remaining": busy + failed,
        "busy": busy,
        "declared_count": declared,
        "declared": [
            {"id": "inst-1", "project_id": "shop", "declared_uid": f"uid-{n}"} for n in range(declared)
        ],
        "failed": [one] * failed,
    }


def run(answers: list[dict[str, Any]], seconds: float = 60.0) -> tuple[dict[str, Any], list[float], str]:
    told, asked = io.StringIO(), list[float]()
    now = iter(range(0, 10_000, 20))
    left: Iterator[dict[str, Any]] = iter(answers)

    def call(limit: float) -> dict[str, Any]:
        asked.append(limit)
        return next(left)

    return dict(erase(call, seconds, lambda: float(next(now)), told.write)), asked, told.getvalue()


def test_one_call_is_enough_when_nothing_is_left() -> None:
    result, asked, told = run([answer(erased=3)])
    assert (result["erased"], len(asked), told) == (3, 1, "")


def test_calls_go_on_while_something_is_left_and_their_counts_add_up() -> None:
    result, asked, told = run([answer(3, busy=2), answer(1, busy=1), answer(1)], seconds=1000)
    assert (result["erased"], result["complete"], asked) == (5, True, [15.0, 15.0, 15.0])
    assert told.splitlines()[-1] == "4 erased, 1 left, 1 of them busy"


def test_time_that_is_up_ends_it_with_what_is_left() -> None:
    result, asked, _ = run([answer(3, busy=2), answer(busy=2), answer(busy=2)], seconds=70)
    assert (result["erased"], result["remaining"], len(asked)) == (3, 2, 2)
    assert asked[-1] <= 15.0


def test_declared_instances_do_not_keep_it_going() -> None:
    result, asked, _ = run([answer(3, declared=1)])
    assert (result["complete"], len(asked)) == (False, 1)


def test_the_report_says_what_to_do_about_what_is_left() -> None:
    text = report(answer(4, busy=1, failed=1, declared=2), {"uid-1": "shop/kim"}, "table")
    assert text.splitlines() == [
        "tenant acme: 4 instances erased",
        "2 are declared; delete their AgentInstances, then run it again:",
        "  the AgentInstance with UID uid-0, project shop",
        "  kubectl delete agentinstance --namespace shop kim",
        "1 are busy and end with their last request; run it again",
        "failed: inst-1 (StoreUnavailable): Away.",
    ]
    assert json.loads(report(answer(4), {}, "json"))["erased"] == 4


class Terminal(io.StringIO):
    """Standard input of somebody who is there."""

    def isatty(self) -> bool:
        return True


def test_a_user_types_the_tenant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", Terminal("acme\n"))
    confirm("acme")
    monkeypatch.setattr("sys.stdin", Terminal("y\n"))
    with pytest.raises(InvalidRequest, match="nothing was erased"):
        confirm("acme")
    monkeypatch.setattr("sys.stdin", io.StringIO("acme\n"))
    with pytest.raises(InvalidRequest, match="Nobody is there") as refused:
        confirm("acme")
    assert "--yes" in refused.value.hint
