# SPDX-License-Identifier: Apache-2.0
"""What `agentpool flags` sends and prints."""

from __future__ import annotations

from typing import Any

import pytest

from agentpool_cli.arguments import build_parser, run_of, with_default_action
from agentpool_cli.commands import flags

SENT: list[tuple[list[str], dict[str, Any], dict[str, Any]]] = [
    (["--percentage", "25"], {}, {"percentage": 25}),
    (["--percentage", "0"], {}, {"percentage": 0}),
    (["--tenant", "acme"], {}, {"enable_for_tenant": "acme"}),
    (
        ["--ramp", "5:80:3600"],
        {
            "strategy": "GRADUAL",
            "schedule": {"from_percentage": 5, "to_percentage": 80, "duration_seconds": 3600.0},
        },
        {},
    ),
    (
        ["--strategy", "denylist", "--list-tenant", "a", "--list-project", "b", "p/q"],
        {"strategy": "DENYLIST", "tenants": ["a"], "projects": [{"tenant_id": "b", "project_id": "p/q"}]},
        {},
    ),
]


@pytest.mark.parametrize(("arguments", "whole", "change"), SENT, ids=lambda one: " ".join(one))
def test_options_become_a_flag_or_a_change_of_one(
    arguments: list[str], whole: dict[str, Any], change: dict[str, Any]
) -> None:
    options = build_parser("agentpool").parse_args(["flags", "set", "beta", *arguments])
    assert flags.body_of(options) == (whole, change)


def test_flags_alone_lists_them() -> None:
    options = build_parser("agentpool").parse_args(with_default_action(["flags"]))
    assert run_of(options) is flags.list_flags


FLAG: dict[str, Any] = {
    "name": "agent_pool_enabled",
    "origin": "set",
    "enabled": True,
    "strategy": "PERCENTAGE",
    "percentage": 25,
    "reached": 25.0,
    "tenants": ["a", "b", "c", "d"],
    "projects": [],
    "schedule": None,
}


def test_a_table_says_what_holds() -> None:
    text = flags.list_text([FLAG, {**FLAG, "name": "off", "enabled": False, "reached": 0.0}], "table")
    lines = [line.split() for line in text.splitlines()]
    assert lines[0] == ["NAME", "STRATEGY", "SHARE", "TENANTS", "ORIGIN"]
    assert lines[1][:4] == ["agent_pool_enabled", "PERCENTAGE", "25", "%"]
    assert "a, b, c and 1 more" in text
    assert lines[2][:4] == ["off", "disabled", "0", "%"]


@pytest.mark.parametrize("form", ["json", "yaml", "name", "wide"])
def test_other_forms_name_the_flag(form: str) -> None:
    assert "agent_pool_enabled" in flags.flag_text(FLAG, form)
