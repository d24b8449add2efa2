# SPDX-License-Identifier: Apache-2.0
"""`agentpool dev`: what it decides before and while it runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentpool_cli.arguments import build_parser
from agentpool_cli.dev.banner import Facts, banner
from agentpool_cli.dev.command import check_redis, checked_options
from agentpool_cli.dev.launch import base_environment, pod_places
from agentpool_cli.dev.layout import RunDirectory, app_directories, gateway_settings, write
from agentpool_cli.dev.logs import readable
from agentpool_cli.dev.orphans import parent_in, tree
from agentpool_cli.dev.plan import local_pool, same_pool, same_settings
from agentpool_cli.dev.watching import Change, changed, classify, code_directories, fingerprint
from agentpool_core.config import Storage
from agentpool_core.errors import InvalidRequest

POOL = """
apiVersion: agentpool.dev/v1alpha1
kind: AgentPool
metadata: {name: support}
spec:
  agent: {entrypoint: "habits:HabitTracker"}
"""
INSTANCE = """
---
apiVersion: agentpool.dev/v1alpha1
kind: AgentInstance
metadata: {name: one}
spec: {pool: support, tenant: acme, project: travel}
"""


def test_without_redis_state_is_in_memory_and_this_is_said() -> None:
    pool = local_pool(POOL, {}, 1, redis=False)
    assert pool.config.checkpoint.storage is Storage.MEMORY
    assert any("Give --redis" in note for note in pool.notes)


def test_with_redis_a_manifest_that_says_memory_is_overridden_and_this_is_said() -> None:
    pool = local_pool(POOL + "  checkpoint: {storage: Memory}\n", {}, 1, redis=True)
    assert pool.config.checkpoint.storage is Storage.REDIS
    assert any("overrides" in note for note in pool.notes)


def test_the_uid_follows_from_the_name_alone() -> None:
    first, again = local_pool(POOL, {}, 1, redis=True), local_pool(POOL, {}, 9, redis=False)
    other = local_pool(POOL.replace("support", "sales"), {}, 1, redis=True)
    assert first.config.uid == again.config.uid != other.config.uid


def test_pods_of_a_later_run_are_the_same_pods() -> None:
    config = local_pool(POOL, {}, 1, redis=True).config
    first, again = pod_places(config, [7001, 7002]), pod_places(config, [8001, 8002])
    assert [pod.uid for pod in first] == [pod.uid for pod in again]
    assert len({pod.uid for pod in first}) == 2
    assert [pod.address for pod in again] == ["127.0.0.1:8001", "127.0.0.1:8002"]


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        pytest.param(POOL + "---\n" + POOL, "2 AgentPools", id="two pools"),
        pytest.param(INSTANCE, "0 AgentPools", id="no pool"),
    ],
)
def test_a_manifest_without_exactly_one_pool_is_refused(text: str, cause: str) -> None:
    with pytest.raises(InvalidRequest, match=cause):
        local_pool(text, {}, 1, redis=False)


def test_declared_instances_are_left_aside_and_this_is_said() -> None:
    notes = local_pool(POOL + INSTANCE, {}, 1, redis=False).notes
    assert any(note.startswith("1 AgentInstance object") for note in notes)


def test_a_mistake_in_the_manifest_names_field_and_remedy() -> None:
    with pytest.raises(InvalidRequest, match=r"spec\.defaultTeir.*Did you mean defaultTier"):
        local_pool(POOL + "  defaultTeir: WARM\n", {}, 1, redis=False)


def test_what_a_changed_manifest_asks_for() -> None:
    config = local_pool(POOL, {}, 1, redis=False).config
    later = local_pool(POOL, {}, 2, redis=False).config
    quota = local_pool(POOL + "  limits: {maxInstances: 7}\n", {}, 2, redis=False).config
    agent = local_pool(POOL.replace("HabitTracker", "Other"), {}, 2, redis=False).config
    assert same_settings(config, later)
    assert not same_settings(config, quota)
    assert same_pool(config, quota)
    assert not same_pool(config, agent)


OPTIONS = [
    pytest.param(["{dir}/missing.yaml"], "There is no manifest", id="a manifest that is not there"),
    pytest.param(["{file}", "--hosts", "2"], "cannot share state in memory", id="two hosts without Redis"),
    pytest.param(["{file}", "--redis", "localhost"], "not a URL of a Redis", id="a Redis that is no URL"),
    pytest.param(
        ["{file}", "--redis", "redis+sentinel://:secret@one:26379"], "names no service", id="no service"
    ),
]


@pytest.mark.parametrize(("argv", "cause"), OPTIONS)
def test_options_that_cannot_work_are_refused(argv: list[str], cause: str, tmp_path: Path) -> None:
    file = tmp_path / "pool.yaml"
    file.write_text(POOL)
    places = [one.format(dir=tmp_path, file=file) for one in argv]
    with pytest.raises(InvalidRequest, match=cause):
        checked_options(build_parser("agentpool").parse_args(["dev", *places]))


@pytest.mark.parametrize(
    "url", ["redis://:word@localhost", "rediss://one", "unix:///run/redis", "redis+sentinel://one,two/store"]
)
def test_each_way_to_name_a_redis_is_taken(url: str) -> None:
    check_redis(url)


def test_an_app_dir_that_is_not_there_is_refused(tmp_path: Path) -> None:
    manifest = tmp_path / "pool.yaml"
    assert app_directories(manifest, None) == [tmp_path]
    with pytest.raises(InvalidRequest, match="not a directory"):
        app_directories(manifest, [str(tmp_path / "src")])


def test_secrets_of_the_user_do_not_reach_the_parts() -> None:
    environ = {"PATH": "/bin", "AGENTPOOL_TOKEN": "hush", "OPENAI_API_KEY": "hush"}
    assert base_environment(environ) == {"PATH": "/bin"}


def test_the_private_key_is_for_its_owner_alone(tmp_path: Path) -> None:
    run = RunDirectory.open(str(tmp_path / "run"))
    run.write_keys()
    run.close()
    assert run.private_key.stat().st_mode & 0o777 == 0o600
    assert run.private.stat().st_mode & 0o777 == 0o700


def test_a_state_dir_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidRequest, match="cannot be made"):
        RunDirectory.open(str(tmp_path / "file" / "run"))


def test_the_gateway_of_a_trial_listens_on_loopback_only(tmp_path: Path) -> None:
    config = local_pool(POOL, {}, 1, redis=False).config
    settings = gateway_settings(RunDirectory(tmp_path, tmp_path), config, 8000, 9000)
    assert settings["http_listen"] == "127.0.0.1:8000"
    assert settings["grpc_listen"] == "127.0.0.1:9000"
    assert settings["default_pool"] == "default/support"


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    file = tmp_path / "file"
    write(file, b"old", 0o600)
    write(file, b"new", 0o644)
    assert (file.read_bytes(), file.stat().st_mode & 0o777) == (b"new", 0o644)
    assert list(tmp_path.iterdir()) == [file]


def test_code_is_watched_without_caches_and_environments(tmp_path: Path) -> None:
    for name in (
        "agent.py",
        "pack/deep/mod.py",
        "pack/__pycache__/x.py",
        ".venv/y.py",
        "data/z.txt",
        "env/v.py",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "env/pyvenv.cfg").touch()
    assert code_directories([tmp_path]) == [tmp_path, tmp_path / "pack/deep"]


def test_new_changed_and_removed_files_are_found(tmp_path: Path) -> None:
    manifest = tmp_path / "pool.yaml"
    for name in ("same.py", "longer.py", "gone.py", "other.txt"):
        (tmp_path / name).write_text("x")
    before = fingerprint([tmp_path], manifest)
    (tmp_path / "longer.py").write_text("xx")
    (tmp_path / "gone.py").unlink()
    (tmp_path / "other.txt").write_text("xx")
    (tmp_path / "new.py").touch()
    manifest.touch()
    names = {path.name for path in changed(before, fingerprint([tmp_path], manifest))}
    assert names == {"longer.py", "gone.py", "new.py", "pool.yaml"}


@pytest.mark.parametrize(
    ("names", "changes"),
    [
        pytest.param(["agent.py"], {Change.CODE}, id="code"),
        pytest.param(["pool.yaml"], {Change.MANIFEST}, id="the manifest"),
        pytest.param(["pool.yaml", "agent.py"], {Change.MANIFEST, Change.CODE}, id="both"),
        pytest.param(["notes.txt", "other.yaml"], set(), id="other files mean nothing"),
    ],
)
def test_what_changed_files_mean(names: list[str], changes: set[Change], tmp_path: Path) -> None:
    assert classify([tmp_path / name for name in names], tmp_path / "pool.yaml") == changes


def test_a_tree_of_processes_holds_children_of_children() -> None:
    assert tree(2, {1: 0, 2: 1, 3: 2, 4: 3, 5: 1}) == [2, 3, 4]


def test_the_parent_is_found_behind_a_name_with_brackets() -> None:
    assert parent_in("12 (a) b) S 7 12 12 0") == 7


LINES = [
    pytest.param(
        '{"event": "ended", "level": "warning", "timestamp": "2026-01-02T03:04:05Z", "reason": "too big"}',
        '03:04:05 host     WARNING ended reason="too big"',
        id="an event with facts",
    ),
    pytest.param("plain words\n", "         host     plain words", id="text that is not JSON"),
    pytest.param('{"a": 1}', '         host     {"a": 1}', id="JSON that is no event"),
    pytest.param("{broken", "         host     {broken", id="broken JSON"),
]


@pytest.mark.parametrize(("line", "text"), LINES)
def test_log_lines_are_made_readable(line: str, text: str) -> None:
    assert readable(line, "host") == text


def test_the_banner_says_what_is_missing_and_how_to_begin() -> None:
    text = banner(
        Facts(
            pool="default/support",
            entrypoint="habits:HabitTracker",
            rest_port=8123,
            grpc_port=9000,
            storage="memory",
            hosts=1,
            guards=("seccomp",),
            missing={"uids": "not started as root"},
            notes=("Tiers are labels here.",),
            ready_seconds=1.26,
        )
    )
    assert "Ready after 1.3 s" in text
    assert "Missing     uids: not started as root" in text
    assert "agentpool invoke --url http://127.0.0.1:8123 hello" in text
    assert "Note        Tiers are labels here." in text
