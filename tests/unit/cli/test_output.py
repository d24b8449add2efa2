# SPDX-License-Identifier: Apache-2.0
"""How results look."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from agentpool_cli.client import StreamEvent
from agentpool_cli.commands.instances import instance_text, list_text
from agentpool_cli.commands.invoke import answer_text, facts, parse_input, read_input, stream_texts
from agentpool_cli.commands.status import is_healthy, status_text
from agentpool_cli.output import ago
from agentpool_core.errors import InvalidRequest

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)
INSTANCE = {
    "id": "inst-abc",
    "tenant_id": "acme",
    "project_id": "travel",
    "tier": "WARM",
    "state": "PAUSED",
    "reason": "Evicted",
    "pod": "",
    "last_used_at": "2026-05-04T11:58:30Z",
    "total_requests": 12,
    "memory_bytes": 3_100_000,
    "epoch": 7,
    "origin": "observed",
}
ANSWER = {
    "instance_id": "inst-abc",
    "tier": "WARM",
    "pod": "support-0",
    "output": "hello",
    "timing": {"done_ms": 1.25},
}


def test_a_list_is_a_table_with_aligned_columns() -> None:
    assert list_text([INSTANCE], "table", NOW) == (
        "ID         TENANT   PROJECT   TIER   STATE              POD   USED\n"
        "inst-abc   acme     travel    WARM   PAUSED (Evicted)   -     90s\n"
    )


def test_wide_shows_more_columns() -> None:
    title, row = list_text([INSTANCE], "wide", NOW).splitlines()
    assert title.split()[-5:] == ["REQUESTS", "MEMORY", "EPOCH", "ORIGIN", "RECOVERY"]
    assert row.split()[-6:] == ["12", "3.1", "MB", "7", "observed", "-"]


def test_wide_shows_what_is_done_about_a_failure() -> None:
    failed = {**INSTANCE, "recovery": {"strategy": "ESCALATE", "cause": "Hang"}}
    assert list_text([failed], "wide", NOW).splitlines()[1].endswith("ESCALATE (Hang)")


def test_json_yaml_and_names_are_for_programs() -> None:
    assert json.loads(list_text([INSTANCE], "json", NOW)) == [INSTANCE]
    assert yaml.safe_load(list_text([INSTANCE], "yaml", NOW)) == [INSTANCE]
    assert list_text([INSTANCE], "name", NOW) == "instance/inst-abc\n"
    assert json.loads(instance_text(INSTANCE, "json", NOW)) == INSTANCE


def test_an_empty_list_prints_no_titles() -> None:
    assert list_text([], "table", NOW) == ""
    assert json.loads(list_text([], "json", NOW)) == []


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(5, "5s"), (119, "119s"), (300, "5m"), (7200, "2h"), (400_000, "4d"), (-3, "0s")],
)
def test_times_are_told_in_one_unit(seconds: int, text: str) -> None:
    assert ago((NOW - timedelta(seconds=seconds)).isoformat(), NOW) == text


def test_a_time_that_never_was_is_empty() -> None:
    assert ago(None, NOW) == ""


OUTPUTS: list[Any] = [
    pytest.param("hello", "hello\n", id="text as it is"),
    pytest.param({"a": "ü"}, '{\n  "a": "ü"\n}\n', id="other values as readable JSON"),
]


@pytest.mark.parametrize(("output", "text"), OUTPUTS)
def test_people_see_only_the_output(output: Any, text: str) -> None:
    assert answer_text({**ANSWER, "output": output}, "table") == text


def test_facts_name_instance_tier_pod_time_and_marks() -> None:
    assert facts({**ANSWER, "stale": True}) == "# inst-abc WARM support-0 1.2 ms stale\n"


def test_programs_see_the_whole_answer() -> None:
    assert json.loads(answer_text(ANSWER, "json")) == ANSWER
    assert answer_text(ANSWER, "name") == "instance/inst-abc\n"


def test_a_stream_prints_chunks_then_the_output() -> None:
    events = [StreamEvent("accepted", {}), StreamEvent("chunk", "part"), StreamEvent("done", ANSWER)]
    texts = list(stream_texts(iter(events), "table"))
    assert [text for text, where in texts if where == "out"] == ["part\n", "hello\n"]
    lines = [json.loads(text) for text, _ in stream_texts(iter(events), "json")]
    assert [line["event"] for line in lines] == ["accepted", "chunk", "done"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param('{"a": 1}', {"a": 1}, id="JSON"),
        pytest.param("What is new?", "What is new?", id="plain text"),
        pytest.param("42", 42, id="a number is JSON"),
        pytest.param('"42"', "42", id="quoted, it is text"),
        pytest.param("", "", id="nothing is empty text"),
    ],
)
def test_input_is_json_or_else_text(text: str, value: Any) -> None:
    assert parse_input(text) == value


def test_input_from_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "question.txt"
    file.write_text("why?")
    assert read_input(f"@{file}") == "why?"
    with pytest.raises(InvalidRequest, match=r"cannot be read"):
        read_input(f"@{file}.missing")


def test_status_shows_health_counts_and_problems() -> None:
    health = {"status": "Degraded", "problems": ["support-0: no zygote"]}
    stats = {
        "namespace": "default",
        "pool": "support",
        "total": 3,
        "available": 2,
        "busy": 1,
        "per_tier": {"WARM": 3, "HOT": 0},
        "total_operations_processed": 8,
        "average_operation_time_ms": 2.04,
        "pool_hit_rate": 0.75,
        "hosts": [{"pod": "support-0", "ready": False, "resident": 3, "capacity": 50, "active_requests": 1}],
    }
    text = status_text(health, stats, "table")
    values = {line[:17].strip(): line[17:].strip() for line in text.splitlines()}
    assert values["Pool"] == "default/support"
    assert values["Instances"] == "3 total, 2 available, 1 busy, 0 paused"
    assert (values["By tier"], values["Found resident"]) == ("WARM 3", "75%")
    assert values["Problem"] == "support-0: no zygote"
    assert (values["Succeeded"], values["Waiting"]) == ("100.0%", "0")
    assert "support-0   false   3          50         1" in status_text(health, stats, "wide")
    assert json.loads(status_text(health, stats, "json")) == {"health": health, "stats": stats}


def test_wide_status_shows_the_load_of_each_host() -> None:
    load = {"queue_length": 2, "average_response_time_ms": 3.14, "success_rate": 0.9959}
    told, silent = {"pod": "support-0", "load": load}, {"pod": "of-an-older-gateway"}
    title, first, second = status_text({}, {"hosts": [told, silent]}, "wide").splitlines()[-3:]
    assert title.split()[-3:] == ["WAITING", "MEAN", "SUCCEEDED"]
    assert first.split()[-4:] == ["2", "3.1", "ms", "99.6%"]
    assert second.split()[-3:] == ["-", "-", "-"]


@pytest.mark.parametrize(("status", "healthy"), [("Healthy", True), ("Degraded", False), ("", False)])
def test_only_a_healthy_pool_is_healthy(status: str, healthy: bool) -> None:
    assert is_healthy({"status": status}) is healthy
