# SPDX-License-Identifier: Apache-2.0
"""What the harness decides without a server: plans, states, crash points, mutations, tables."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faults.crashes import Point, lives
from faults.findings import Findings, table
from faults.planted import PLANTS
from faults.regressions import KNOWN_BUGS, RACES, missing
from faults.schema import Mutation, draw, fields, mutate, spec_schema
from faults.specs import same
from faults.stale import CASES
from faults.state import difference, snapshot, without_history
from faults.stores import TROUBLES, exactly_once
from faults.suites import failed, passed, runs
from support.faultplan import Answer, Call, EventRule, Pass, Rule, counts, read_call

REQUESTS = {
    "a list of a namespace": (
        "GET",
        "/api/v1/namespaces/lane/pods",
        {},
        Call("list", "pods", "lane"),
    ),
    "a list of all namespaces": ("GET", "/apis/apps/v1/deployments", {}, Call("list", "deployments")),
    "a watch": (
        "GET",
        "/apis/agentpool.dev/v1alpha1/namespaces/lane/agentpools",
        {"watch": "true"},
        Call("watch", "agentpools", "lane"),
    ),
    "a status": (
        "PATCH",
        "/apis/agentpool.dev/v1alpha1/namespaces/lane/agentpools/support/status",
        {},
        Call("patch", "agentpools", "lane", "support", "status"),
    ),
    "a creation": ("POST", "/api/v1/namespaces/lane/pods", {}, Call("create", "pods", "lane")),
    "a namespace itself": ("GET", "/api/v1/namespaces/lane", {}, Call("get", "namespaces", "", "lane")),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_is_read_as_what_it_asks_for(name: str) -> None:
    method, path, query, wanted = REQUESTS[name]
    assert read_call(method, path, query, "") == wanted


def test_writes_count_and_renewals_of_a_lease_do_not() -> None:
    assert counts(Call("patch", "agentpools"))
    assert not counts(Call("update", "leases"))
    assert not counts(Call("list", "pods"))


def test_a_rule_acts_on_its_numbers_alone() -> None:
    rule = Rule(lambda call: call.resource == "pods", Answer(500, "InternalError"), first=2, count=2)
    taken = [rule.take(Call("create", "pods")) for _ in range(5)]
    assert [one is not None for one in taken] == [False, True, True, False, False]
    assert rule.take(Call("create", "secrets")) is None
    assert rule.applied == 2


def test_a_rule_without_a_count_acts_for_ever() -> None:
    rule = Rule(lambda _: True, Pass(), count=None)
    assert all(rule.take(Call("get", "pods")) for _ in range(100))


def test_an_event_is_dropped_as_often_as_the_plan_says() -> None:
    rule = EventRule(lambda resource, event: event["type"] == "DELETED", copies=0, count=1)
    assert rule.take("pods", {"type": "ADDED"}) is None
    assert rule.take("pods", {"type": "DELETED"}) == 0
    assert rule.take("pods", {"type": "DELETED"}) is None


def body(uid: str, name: str = "support", **spec: Any) -> dict[str, Any]:
    """An object as the server has it."""
    return {
        "metadata": {"name": name, "uid": uid, "resourceVersion": uid, "generation": 1},
        "spec": {"owner": uid, **spec},
        "status": {"observedGeneration": 1, "podIP": uid},
    }


def test_states_of_two_worlds_that_only_chance_tells_apart_are_equal() -> None:
    one = {"AgentPool": [body("uid-a")], "Pod": [body("uid-p", "support-generic-0a1b2c")]}
    other = {"AgentPool": [body("uid-b")], "Pod": [body("uid-q", "support-generic-9f8e7d")]}
    assert snapshot(one) == snapshot(other)


def test_states_that_differ_in_a_spec_or_in_a_count_differ() -> None:
    one = {"AgentPool": [body("uid-a", size=1)]}
    assert snapshot(one) != snapshot({"AgentPool": [body("uid-a", size=2)]})
    assert snapshot(one) != snapshot({"AgentPool": []})
    assert difference(snapshot(one), ())[0].startswith("- ")


def test_how_often_a_spec_changed_is_history() -> None:
    changed = body("uid-a") | {"status": {"observedGeneration": 7}}
    fresh = body("uid-a") | {"status": {"observedGeneration": 1}}
    states = [without_history(snapshot({"AgentPool": [one]})) for one in (changed, fresh)]
    assert states[0] == states[1]


@given(st.dictionaries(st.sampled_from(["create", "scale", "update", "delete"]), st.integers(0, 20)))
def test_lives_have_a_crash_before_and_after_every_write(writes: dict[str, int]) -> None:
    points = [(phase, point) for life in lives(writes) for phase, point in life.items()]
    wanted = {
        (phase, Point(number, committed))
        for phase, count in writes.items()
        for number in range(1, count + 1)
        for committed in (False, True)
    }
    assert set(points) == wanted
    assert len(points) == len(wanted)


def test_mutations_reach_most_fields_and_are_the_same_each_time() -> None:
    schema = spec_schema()
    drawn = draw(80, 20, schema)
    assert drawn == draw(80, 20, schema)
    assert len({one.field for one in drawn}) > 0.5 * len(list(fields(schema)))
    assert {one.lawful for one in drawn} == {True, False}


def test_a_mutation_changes_one_field_and_leaves_the_seed_alone() -> None:
    seed = {"warmup": {"count": 1}}
    mutation = Mutation(("warmup", "maxCount"), 3)
    assert mutate(seed, mutation) == {"warmup": {"count": 1, "maxCount": 3}}
    assert mutate(seed, Mutation(("warmup", "count"), None)) == {}
    assert seed == {"warmup": {"count": 1}}


SHOWN = [
    ("250m", 250, True),
    ("250m", 1, True),
    ("512Mi", 2**29, True),
    ("1.5", 1500, True),
    ("1e3", 1000, True),
    (4, 4000, True),
    ("lots", 1, False),
    ("512Mi", 2**28, False),
    (True, 1, True),
    ("WARM", "WARM", True),
]


@pytest.mark.parametrize(("given", "shown", "equal"), SHOWN)
def test_a_value_is_known_again_in_the_unit_in_which_it_is_shown(given: Any, shown: Any, equal: bool) -> None:
    assert same(given, shown) is equal


ANSWERS = {
    "every increment once": ([1, 2, 3], 3, True),
    "answers out of order": ([2, 1, 3], 3, True),
    "an increment that was lost": ([1, 2, 2], 2, False),
    "an increment that was doubled": ([1, 3], 3, False),
    "the last one lost": ([1, 2, 3], 2, False),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_increments_are_found_exactly_once(name: str) -> None:
    acknowledged, count, well = ANSWERS[name]
    assert (exactly_once(acknowledged, count) == "") is well


def test_every_test_of_the_tables_of_bugs_is_there() -> None:
    assert missing() == []


def test_every_fault_case_of_the_tables_of_bugs_is_there() -> None:
    known = {
        "crash points",
        "spec mutations",
        *CASES,
        *TROUBLES,
        *(f"invariant {one}" for one in range(1, 11)),
    }
    named = {
        test.removeprefix("faults: ")
        for bugs in (KNOWN_BUGS, RACES)
        for tests in bugs.values()
        for test in tests
        if test.startswith("faults: ")
    }
    assert named <= known


def test_a_file_that_is_run_as_a_whole_is_not_run_twice_and_the_model_runs_by_itself() -> None:
    named = ["tests/a.py::*", "tests/a.py::test_one", "tests/b.py::test_two", "tests/model/m.py::*"]
    assert runs([*named, "tests/e2e/c.py::*"]) == [
        ["tests/a.py", "tests/b.py::test_two"],
        ["tests/model/m.py"],
    ]


TWICE = """
FAILED tests/a.py::test_one - TimeoutError
1 failed, 41 passed in 3 s
=== short test summary info ===
FAILED tests/a.py::test_one - AssertionError
1 failed in 1 s
"""


def test_what_failed_is_what_failed_at_the_last_try() -> None:
    assert failed(TWICE) == ["FAILED tests/a.py::test_one - AssertionError"]
    assert passed(TWICE) == 41
    assert (failed(""), passed("")) == ([], 0)


def test_the_table_says_how_many_of_how_many() -> None:
    findings = Findings()
    findings.tried["stale views"] = 3
    findings.of |= {"stale views": 17, "crash points": 102}
    words = [" ".join(line.split()) for line in table(findings).splitlines()]
    assert "stale views 3 of 17" in words
    assert "crash points 0 of 102" in words


def test_the_table_tells_of_violations_and_of_bugs_that_were_not_found() -> None:
    findings = Findings()
    assert findings.passed
    findings.planted["recovery"] = ("waits for all", False)
    assert not findings.passed
    findings.planted["recovery"] = ("waits for all", True)
    findings.violate("frozen watch", "nothing followed")
    assert not findings.passed
    text = table(findings)
    assert "pods simulated" in text
    assert "frozen watch: nothing followed" in text


def test_each_plant_has_an_oracle_of_its_own() -> None:
    oracles = [plant.oracle for plant in PLANTS.values()]
    assert len(set(oracles)) == len(oracles)
