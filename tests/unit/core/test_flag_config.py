# SPDX-License-Identifier: Apache-2.0
"""Flags in a manifest, over wires and in the store, and what remains when they are laid over each other."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from agentpool_core.api.manifest import ManifestError, load_manifests
from agentpool_core.config import EffectivePool, FlagSet, pack_flags, read_flag, unpack_flags
from agentpool_core.errors import InvalidRequest
from agentpool_core.flags import HOT_FLAG, MAX_FLAGS, MAX_LISTED, POOL_FLAG, Flag, Plan, Strategy
from support.builders import effective_pool

START = "2026-11-28T09:00:00Z"
WRITTEN: list[dict[str, Any]] = [
    {"name": "agent_pool_enabled", "strategy": "PERCENTAGE", "percentage": 50, "tenants": ["acme"]},
    {"name": "agent_pool_hot_tier", "strategy": "ALLOWLIST", "projects": [{"tenant": "a", "project": "p"}]},
    {"name": "off", "enabled": False, "strategy": "NONE"},
    {
        "name": "ramp",
        "strategy": "GRADUAL",
        "schedule": {"startTime": START, "fromPercentage": 10, "durationSeconds": 90},
    },
    {
        "name": "steps",
        "strategy": "GRADUAL",
        "schedule": {
            "startTime": START,
            "steps": [{"afterSeconds": 60, "percentage": 50}, {"afterSeconds": 0, "percentage": 25}],
        },
    },
]
NOW = 1795856400.0
"""START."""


def test_flags_of_a_manifest_reach_the_effective_configuration_and_survive_its_json() -> None:
    pool = effective_pool({"featureFlags": WRITTEN})
    again = EffectivePool.model_validate_json(pool.model_dump_json())
    flags = FlagSet(again.feature_flags).all
    assert flags == FlagSet(pool.feature_flags).all
    assert flags["agent_pool_enabled"] == Flag(
        "agent_pool_enabled", True, Strategy.PERCENTAGE, 50, frozenset({"acme"})
    )
    assert flags["agent_pool_hot_tier"].projects == {("a", "p")}
    assert not flags["off"].enabled
    assert [flags["ramp"].reached(NOW + after) for after in (-5, 45, 90)] == [10, 55, 100]
    assert [flags["steps"].reached(NOW + after) for after in (-5, 0, 60)] == [0, 25, 50]


BAD: list[tuple[str, dict[str, Any], str]] = [
    ("a name with a space", {"name": "a b", "strategy": "ALL"}, "name"),
    ("no strategy", {"name": "a"}, "strategy"),
    ("an unknown strategy", {"name": "a", "strategy": "SOME"}, "strategy"),
    ("a percentage above 100", {"name": "a", "strategy": "PERCENTAGE", "percentage": 101}, "percentage"),
    ("no percentage", {"name": "a", "strategy": "PERCENTAGE"}, "percentage"),
    ("no schedule", {"name": "a", "strategy": "GRADUAL"}, "schedule"),
    ("a time without zone", {"name": "a", "strategy": "ALL", "schedule": {"startTime": START[:-1]}},
     "schedule.startTime"),
    ("a ramp that falls", {"name": "a", "strategy": "GRADUAL", "schedule": {
        "startTime": START, "fromPercentage": 9, "toPercentage": 1, "durationSeconds": 5}},
     "schedule.toPercentage"),
    ("a misspelt field", {"name": "a", "strategy": "ALL", "tenant": ["x"]}, "tenant"),
    ("too many tenants", {"name": "a", "strategy": "ALL", "tenants": ["x"] * (MAX_LISTED + 1)}, "tenants"),
]  # fmt: skip


@pytest.mark.parametrize(("flag", "field"), [pytest.param(*row[1:], id=row[0]) for row in BAD])
def test_a_manifest_with_a_bad_flag_is_refused_by_its_field(flag: dict[str, Any], field: str) -> None:
    document = {
        "apiVersion": "agentpool.dev/v1alpha1",
        "kind": "AgentPool",
        "metadata": {"name": "p"},
        "spec": {"agent": {"entrypoint": "a.b:C"}, "featureFlags": [flag]},
    }
    with pytest.raises(ManifestError) as refused:
        load_manifests(yaml.safe_dump(document))
    problem = refused.value.problems[0]
    assert problem.field.endswith("." + field) and problem.field.startswith("spec.featureFlags")
    assert problem.remedy and "_" not in problem.message.replace("agent_pool", "")


def test_a_flag_that_is_written_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="beta twice"):
        effective_pool({"featureFlags": [{"name": "beta", "strategy": "ALL"}] * 2})


def test_a_document_holds_what_was_put_into_it() -> None:
    flags = FlagSet(effective_pool({"featureFlags": WRITTEN}).feature_flags).declared
    assert unpack_flags(pack_flags(flags)) == dict(flags)
    assert unpack_flags(b"") == {}


@pytest.mark.parametrize(
    "document", [b"{", b"{}", b'[{"name": "a"}]', b'[{"name": "a", "strategy": "SOME"}]']
)
def test_what_is_no_document_is_a_value_error(document: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        unpack_flags(document)


def test_a_document_of_a_later_release_is_read_as_far_as_it_is_understood() -> None:
    document = b'[{"name": "a", "strategy": "ALL", "colour": "red"}]'
    assert unpack_flags(document) == {"a": Flag("a", True, Strategy.ALL)}


def test_more_flags_than_a_pool_takes_are_refused_with_what_to_do() -> None:
    flags = {f"f{n}": Flag(f"f{n}", True, Strategy.ALL) for n in range(MAX_FLAGS + 1)}
    with pytest.raises(InvalidRequest, match=str(MAX_FLAGS)):
        pack_flags(flags)


def test_a_list_that_grew_too_long_names_itself() -> None:
    tenants = frozenset(f"t{n}" for n in range(MAX_LISTED + 1))
    with pytest.raises(InvalidRequest, match="tenants of the flag"):
        pack_flags({"f": Flag("f", True, Strategy.ALLOWLIST, tenants=tenants)})


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"name": "A", "strategy": "ALL"}, "name of the flag"),
        ({"name": "a", "strategy": "PERCENTAGE"}, "percentage of the flag a is missing"),
    ],
)
def test_a_flag_from_fields_is_refused_by_the_one_that_is_wrong(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidRequest, match=named) as refused:
        read_flag(fields)
    assert refused.value.hint.endswith(".")


# Laid over each other.

ON = Flag(POOL_FLAG, True, Strategy.ALL)
OFF = Flag(POOL_FLAG, False, Strategy.NONE)


def declared(*flags: dict[str, Any]) -> Any:
    return effective_pool({"featureFlags": list(flags)}).feature_flags


def test_a_pool_without_flags_asks_nothing_of_a_request() -> None:
    flags = FlagSet()
    assert (flags.gates, flags.pool, flags.hot) == (False, None, None)
    assert flags.pooled("t", "p", NOW) and flags.may_be_hot("t", "p", NOW)
    assert {name: flags.origin(name) for name in flags.all} == {POOL_FLAG: "default", HOT_FLAG: "default"}


def test_flags_of_applications_ask_nothing_either() -> None:
    assert not FlagSet(declared({"name": "beta", "strategy": "NONE"})).gates


@pytest.mark.parametrize(
    ("enabled", "changed", "written", "pooled", "origin"),
    [
        pytest.param(False, None, [], False, "default", id="AGENT_POOL_ENABLED=false is the default off"),
        pytest.param(False, ON, [], True, "set", id="a flag that was set wins over the variable"),
        pytest.param(True, OFF, [], False, "set", id="also when it is off"),
        pytest.param(
            True,
            OFF,
            [{"name": POOL_FLAG, "strategy": "ALL"}],
            True,
            "declared",
            id="the manifest wins over both",
        ),
    ],
)
def test_the_manifest_wins_over_what_was_set_and_that_over_the_variable(
    enabled: bool, changed: Flag | None, written: list[dict[str, Any]], pooled: bool, origin: str
) -> None:
    flags = FlagSet(declared(*written), enabled, {POOL_FLAG: changed} if changed else None)
    assert (flags.pooled("t", "p", NOW), flags.origin(POOL_FLAG)) == (pooled, origin)


def test_a_plan_without_an_end_goes_to_a_hundred() -> None:
    assert Plan(None, None, 10.0, ()).schedule(0).percentage(10) == 100
