# SPDX-License-Identifier: Apache-2.0
"""`agentpool dev` as a user meets it: first answer, reload, mistakes, restarts, end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from support.dev import ROOT, DevPool, dev_pool
from support.redis import redis_server
from support.sentinel import replicated_redis

FIRST_ANSWER_SECONDS = 10.0
AGENT = """
import json
from agentpool_agent import Answer

STEP = 1


class Counter:
    def __init__(self):
        self.count = 0

    async def setup(self, context):
        self.greeting = context.config.get("greeting", "hello")

    async def handle(self, request, context):
        self.count += STEP
        yield Answer({"count": self.count, "greeting": self.greeting})

    def snapshot(self):
        return {"count": str(self.count).encode()}

    def restore(self, parts):
        self.count = int(parts.get("count", b"0"))
"""
MANIFEST = """
apiVersion: agentpool.dev/v1alpha1
kind: AgentPool
metadata: {name: counters}
spec:
  agent:
    entrypoint: counter:Counter
"""


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """A directory with a counter agent and its manifest, readable by the users that pods run as."""
    for directory in (tmp_path, *tmp_path.parents):
        if directory.name.startswith("pytest-") and directory.stat().st_uid == os.geteuid():
            directory.chmod(0o711)
    tmp_path.chmod(0o755)
    (tmp_path / "counter.py").write_text(AGENT)
    (tmp_path / "pool.yaml").write_text(MANIFEST)
    return tmp_path


@pytest.fixture
def pool(app: Path) -> Iterator[DevPool]:
    """The counter pool, running."""
    with dev_pool(app / "pool.yaml", app) as running:
        yield running


def count(pool: DevPool) -> dict[str, Any]:
    """One more request; waits while agents start anew."""
    end = time.monotonic() + 20
    while True:
        done = pool.agentpool("invoke", '"x"', "-o", "json", check=False)
        if done.returncode == 0:
            output: dict[str, Any] = json.loads(done.stdout)["output"]
            return output
        assert time.monotonic() < end, done.stderr + pool.log.read_text()
        time.sleep(0.1)


def test_the_quickstart_gives_its_first_answer_within_ten_seconds(tmp_path: Path) -> None:
    with dev_pool(ROOT / "examples/01-quickstart/pool.yaml", tmp_path) as pool:
        started = time.monotonic()
        answer = pool.agentpool("invoke", "anything?", "-o", "json")
        assert pool.ready_seconds + time.monotonic() - started < FIRST_ANSWER_SECONDS
        assert "answer" in json.loads(answer.stdout)["output"]


def test_the_table_names_addresses_storage_and_isolation(pool: DevPool) -> None:
    for text in (
        "Pool        default/counters",
        "Storage     memory",
        "Isolation   ",
        "separate-users",
        "landlock",
    ):
        assert text in pool.banner


def test_a_change_of_code_takes_effect_and_keeps_the_state(pool: DevPool, app: Path) -> None:
    assert count(pool)["count"] == 1
    (app / "counter.py").write_text(AGENT.replace("STEP = 1", "STEP = 10"))
    pool.wait_for_log("counter.py changed")
    pool.wait_for_log("zygote_connected", times=2)
    assert count(pool)["count"] == 11


def test_code_that_cannot_be_imported_is_told_and_mended_by_the_next_change(pool: DevPool, app: Path) -> None:
    assert count(pool)["count"] == 1
    (app / "counter.py").write_text("this is no Python")
    pool.wait_for_log("SyntaxError")
    (app / "counter.py").write_text(AGENT)
    assert count(pool)["count"] == 2


def test_a_changed_manifest_is_taken_without_losing_state(pool: DevPool, app: Path) -> None:
    assert count(pool)["count"] == 1
    (app / "pool.yaml").write_text(MANIFEST + "  limits: {inputBytes: 10}\n")
    pool.wait_for_log("in force as generation 2")
    end = time.monotonic() + 10
    while "PayloadTooLarge" not in pool.agentpool("invoke", "x" * 50, check=False).stderr:
        assert time.monotonic() < end, "the gateway did not take the new limit"
    assert count(pool)["count"] >= 2


def test_a_manifest_with_a_mistake_is_refused_and_the_former_one_stays(pool: DevPool, app: Path) -> None:
    (app / "pool.yaml").write_text(MANIFEST + "  defaultTeir: HOT\n")
    log = pool.wait_for_log("was not taken")
    assert "spec.defaultTeir" in log
    assert "Did you mean defaultTier?" in log
    assert count(pool)["count"] == 1


def test_another_entrypoint_asks_for_a_new_start(pool: DevPool, app: Path) -> None:
    (app / "pool.yaml").write_text(MANIFEST.replace("Counter", "Other"))
    pool.wait_for_log("Start dev again")
    assert count(pool)["count"] == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_no_process_and_no_directory_is_left_at_the_end(pool: DevPool, number: signal.Signals) -> None:
    count(pool)
    before = pool.processes()
    assert len(before) >= 4, "gateway, pod, host, zygote"
    directory = pool.run_directory()
    assert directory.is_dir()
    started = time.monotonic()
    assert pool.stop(number) == 0
    assert time.monotonic() - started < 10
    _, alive = psutil.wait_procs(before, timeout=2)
    assert not alive
    assert not directory.exists()


def test_a_second_signal_ends_everything_at_once(app: Path) -> None:
    slow = AGENT.replace("self.count += STEP", "await __import__('asyncio').sleep(30)")
    (app / "counter.py").write_text(slow)
    with dev_pool(app / "pool.yaml", app) as pool:
        command = [sys.executable, "-m", "agentpool_cli", "invoke", "--url", pool.url, "x"]
        request = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        pool.wait_for_log("instance_activated")
        before = pool.processes()
        pool.process.send_signal(signal.SIGINT)
        pool.wait_for_log("Ending")
        started = time.monotonic()
        assert pool.stop() == 0
        assert time.monotonic() - started < 4, "it did not wait for the request"
        request.wait(timeout=20)
        assert not psutil.wait_procs(before, timeout=2)[1]


def test_no_process_is_left_when_dev_itself_is_killed(pool: DevPool) -> None:
    count(pool)
    before = pool.processes()
    directory = pool.run_directory()
    pool.stop(signal.SIGKILL)
    _, alive = psutil.wait_procs(before, timeout=20)
    assert not alive
    shutil.rmtree(directory)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["ended", "killed"])
def test_with_redis_the_next_run_knows_what_was_acknowledged(app: Path, number: signal.Signals) -> None:
    with redis_server() as redis:
        options = ("--redis", redis.tcp_url)
        with dev_pool(app / "pool.yaml", app, options) as pool:
            assert "Storage     Redis" in pool.banner
            assert [count(pool)["count"] for _ in range(2)] == [1, 2]
            directory, before = pool.run_directory(), pool.processes()
            pool.stop(number)
            psutil.wait_procs(before, timeout=20)
            shutil.rmtree(directory, ignore_errors=True)
        with dev_pool(app / "pool.yaml", app, options) as pool:
            assert count(pool)["count"] == 3


async def test_a_redis_behind_sentinel_keeps_the_state_when_its_master_dies(app: Path) -> None:
    with replicated_redis() as redis:
        await redis.ready()
        with dev_pool(app / "pool.yaml", app, ("--redis", redis.url)) as pool:
            assert "Storage     Redis" in pool.banner
            assert count(pool)["count"] == 1
            await redis.caught_up()
            await redis.fail_over()
            assert count(pool)["count"] == 2


def test_a_part_that_dies_comes_back(pool: DevPool) -> None:
    count(pool)
    for number, module in enumerate(("agentpool_gateway", "agentpool_agent.pod"), 1):
        part = next(one for one in pool.processes() if module in one.cmdline())
        part.kill()
        pool.wait_for_log("started again in", times=number)
        count(pool)


def dev(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `agentpool dev` that is expected to end by itself."""
    return subprocess.run(
        [sys.executable, "-m", "agentpool_cli", "dev", *arguments], capture_output=True, text=True, timeout=60
    )


def test_a_busy_port_is_named_with_a_remedy(app: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = dev(str(app / "pool.yaml"), "--port", str(port))
    assert done.returncode == 1
    assert f"Port {port} of 127.0.0.1 is in use" in done.stderr
    assert "--port" in done.stderr


def test_a_bad_manifest_ends_the_start_with_field_and_remedy(app: Path) -> None:
    (app / "pool.yaml").write_text(MANIFEST + "  tiers: {warm: {quota: {memory: much}}}\n")
    done = dev(str(app / "pool.yaml"), "--port", "0", "--grpc-port", "0")
    assert done.returncode == 1
    assert "spec.tiers.warm.quota.memory" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_agent_that_cannot_be_imported_ends_the_start_with_the_cause(app: Path) -> None:
    (app / "counter.py").write_text("import a_module_that_is_not_there")
    started = time.monotonic()
    done = dev(str(app / "pool.yaml"), "--port", "0", "--grpc-port", "0")
    assert done.returncode == 1
    assert time.monotonic() - started < FIRST_ANSWER_SECONDS
    assert "No module named 'a_module_that_is_not_there'" in done.stderr.rpartition("error:")[2]


def test_a_redis_that_is_not_there_is_named(app: Path) -> None:
    done = dev(str(app / "pool.yaml"), "--redis", "redis://127.0.0.1:1/0", "--port", "0", "--grpc-port", "0")
    assert done.returncode == 1
    assert "The Redis of --redis cannot be used" in done.stderr
