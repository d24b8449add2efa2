# SPDX-License-Identifier: Apache-2.0
"""invoke, instances and status against a pool that runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from support.dev import ROOT, DevPool, dev_pool

MANIFEST = ROOT / "examples/02-write-an-agent/pool.yaml"


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevPool]:
    """The habit trackers of the example, running; each test has a project of its own."""
    with dev_pool(MANIFEST, tmp_path_factory.mktemp("dev")) as running:
        yield running


def test_an_answer_is_on_standard_output_and_facts_about_it_are_not(pool: DevPool) -> None:
    done = pool.agentpool("invoke", "--tenant", "kim", "--project", "a", '{"did": "reading"}')
    assert json.loads(done.stdout) == {"habit": "reading", "times": 1, "goal_reached": False}
    assert done.stderr.startswith("# inst-")
    assert done.stderr.rstrip().endswith("ms")


def test_the_whole_answer_is_had_as_json_and_yaml(pool: DevPool) -> None:
    where = ("--tenant", "kim", "--project", "b")
    answer = json.loads(pool.agentpool("invoke", *where, "report", "-o", "json").stdout)
    assert {"instance_id", "tier", "pod", "output", "timing"} <= answer.keys()
    again = yaml.safe_load(pool.agentpool("invoke", *where, "report", "-o", "yaml").stdout)
    assert again["instance_id"] == answer["instance_id"]
    name = pool.agentpool("invoke", *where, "report", "-o", "name").stdout
    assert name == f"instance/{answer['instance_id']}\n"


def test_a_stream_shows_its_parts(pool: DevPool) -> None:
    where = ("--tenant", "kim", "--project", "c")
    pool.agentpool("invoke", *where, '{"did": "reading"}')
    done = pool.agentpool("invoke", *where, "--stream", "report")
    assert done.stdout.splitlines()[0] == "reading: 1"
    events = pool.agentpool("invoke", *where, "--stream", "report", "-o", "json").stdout.splitlines()
    assert [json.loads(line)["event"] for line in events] == ["accepted", "chunk", "done"]


def test_input_comes_from_a_file_too(pool: DevPool, tmp_path: Path) -> None:
    file = tmp_path / "input.json"
    file.write_text('{"did": "walking"}')
    done = pool.agentpool("invoke", "--tenant", "kim", "--project", "d", f"@{file}")
    assert json.loads(done.stdout)["habit"] == "walking"


def test_a_refused_input_ends_with_code_1_cause_and_remedy(pool: DevPool) -> None:
    done = pool.agentpool("invoke", "--project", "e", '{"unknown": 1}', check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: ")
    assert "  code: InputRejected\n  remedy: " in done.stderr


def test_a_key_that_the_pool_cannot_keep_is_refused(pool: DevPool) -> None:
    done = pool.agentpool("invoke", "--project", "e", "report", "--idempotency-key", "k", check=False)
    assert done.returncode == 1
    assert "code: IdempotencyUnsupported" in done.stderr


def test_an_instance_is_listed_paused_resumed_and_deleted(pool: DevPool) -> None:
    where = ("--tenant", "kim", "--project", "life")
    pool.agentpool("invoke", *where, '{"did": "reading"}')
    name = pool.agentpool("instances", "list", *where, "-o", "name").stdout.strip()
    instance_id = name.removeprefix("instance/")

    def state(*command: str) -> str:
        return str(json.loads(pool.agentpool("instances", *command, "-o", "json").stdout)["state"])

    assert state("get", instance_id) == "READY"
    assert state("pause", instance_id) == "PAUSED"
    refused = pool.agentpool("invoke", *where, "report", check=False)
    assert "code: InstancePaused" in refused.stderr
    assert state("resume", instance_id) == "READY"
    assert '"reading": 1' in pool.agentpool("invoke", *where, "report").stdout, "the state was kept"
    pool.agentpool("instances", "delete", instance_id)
    assert '"habits": {}' in pool.agentpool("invoke", *where, "report").stdout, "the state was erased"


def test_state_is_exported_imported_and_forgotten(pool: DevPool, tmp_path: Path) -> None:
    where = ("--tenant", "ann", "--project", "copy")
    pool.agentpool("invoke", *where, '{"did": "reading"}')
    name = pool.agentpool("instances", *where, "-o", "name").stdout.strip().removeprefix("instance/")
    file = tmp_path / "ann.agentpool"
    done = pool.agentpool("export", name, "-o", str(file))
    assert done.stderr.startswith("exported tenant ann, project copy of default/habits: ")
    assert (file.stat().st_mode & 0o777, done.stdout) == (0o600, "")
    refused = pool.agentpool("import", str(file), check=False)
    assert (refused.returncode, "code: InstanceExists" in refused.stderr) == (1, True)
    assert pool.agentpool("import", str(file), "--project", "second", "-o", "name").stdout.startswith(
        "instance/"
    )
    assert (
        '"reading": 1' in pool.agentpool("invoke", "--tenant", "ann", "--project", "second", "report").stdout
    )
    file.write_bytes(file.read_bytes()[:-1])
    damaged = pool.agentpool("import", str(file), "--project", "third", check=False)
    assert (damaged.returncode, "ends too early" in damaged.stderr) == (1, True)
    asked = pool.agentpool("forget", "--tenant", "ann", check=False)
    assert (asked.returncode, "--yes" in asked.stderr) == (1, True)
    assert pool.agentpool("forget", "--tenant", "ann", "--yes").stdout == "tenant ann: 2 instances erased\n"
    assert pool.agentpool("instances", "--tenant", "ann").stdout == ""


def test_an_export_that_fails_leaves_no_file(pool: DevPool, tmp_path: Path) -> None:
    done = pool.agentpool("export", "inst-missing", "-o", str(tmp_path / "file"), check=False)
    assert (done.returncode, "code: InstanceNotFound" in done.stderr) == (1, True)
    assert list(tmp_path.iterdir()) == []


def test_an_instance_is_moved_to_the_tier_that_it_has_and_left_to_the_pool_again(pool: DevPool) -> None:
    where = ("--tenant", "kim", "--project", "move")
    pool.agentpool("invoke", *where, '{"did": "reading"}')
    name = pool.agentpool("instances", *where, "-o", "name").stdout.strip().removeprefix("instance/")
    for tier, pinned in (("warm", True), ("auto", False)):
        moved = json.loads(pool.agentpool("move", name, "--tier", tier, "-o", "json").stdout)
        assert (moved["tier"], moved["pinned"]) == ("WARM", pinned)


def test_lists_are_filtered_and_have_every_form(pool: DevPool) -> None:
    for project in ("x", "y"):
        pool.agentpool("invoke", "--tenant", "lee", "--project", project, "report")
    table = pool.agentpool("instances", "list", "--tenant", "lee").stdout.splitlines()
    assert table[0].split() == ["ID", "TENANT", "PROJECT", "TIER", "STATE", "POD", "USED"]
    assert sorted(line.split()[2] for line in table[1:]) == ["x", "y"]
    one = json.loads(
        pool.agentpool("instances", "list", "--tenant", "lee", "--project", "x", "-o", "json").stdout
    )
    assert [(line["tenant_id"], line["project_id"], line["tier"]) for line in one] == [("lee", "x", "WARM")]
    assert pool.agentpool("instances", "list", "--tenant", "nobody").stdout == ""
    assert "EPOCH" in pool.agentpool("instances", "list", "-o", "wide").stdout


def test_status_is_healthy_and_counts_requests(pool: DevPool) -> None:
    done = pool.agentpool("status")
    assert done.stdout.splitlines()[0].split() == ["Pool", "default/habits"]
    both = json.loads(pool.agentpool("status", "-o", "json").stdout)
    assert both["stats"]["hosts"][0]["ready"] is True
    assert "habits-0" in pool.agentpool("status", "-o", "wide").stdout


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        pytest.param(["status", "--pool", "missing"], "PoolNotFound", id="a pool that is not served"),
        pytest.param(["instances", "get", "inst-missing"], "InstanceNotFound", id="an unknown instance"),
        pytest.param(["status", "--url", "http://127.0.0.1:1"], "Unavailable", id="nobody listens"),
    ],
)
def test_errors_name_their_code(pool: DevPool, arguments: list[str], code: str) -> None:
    done = pool.agentpool(*arguments, check=False)
    assert done.returncode == 1
    assert f"code: {code}\n" in done.stderr
