# SPDX-License-Identifier: Apache-2.0
"""Scripts and settings of the Redis image, run with the machine's redis-server in a folder of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from support.repository import ROOT
from tools.ports import free_port

IMAGE = ROOT / "images/redis"
START_SECONDS = 20


class Store:
    """One Redis started as the image starts it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._data = folder / "data"
        self._data.mkdir()
        self.password = folder / "password"
        self.users = self._data / "users.acl"
        self.port = free_port()
        for name in ("redis.conf", "start.sh", "ready.sh"):
            text = (IMAGE / name).read_text(encoding="utf-8").replace("/data", str(self._data))
            text = text.replace("/etc/agentpool-redis", str(folder)).replace(
                "redis-cli", f"redis-cli -p {self.port}"
            )
            (folder / name).write_text(text, encoding="utf-8")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, password: str) -> None:
        """Start with an administrator's password, and wait as the kubelet would."""
        self.password.write_text(password, encoding="utf-8")
        command = ["sh", str(self._folder / "start.sh"), "--port", str(self.port), "--bind", "127.0.0.1"]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--maxmemory", "64mb"],
                env=self._environment(),
                stdout=log,
                stderr=log,
                process_group=0,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self.ready():
            assert time.monotonic() < deadline, (self._folder / "log").read_text()
            time.sleep(0.05)

    def ready(self) -> bool:
        """What the readiness probe says."""
        command = ["sh", str(self._folder / "ready.sh")]
        return subprocess.run(command, env=self._environment(), capture_output=True).returncode == 0

    def client(self, user: str | None, password: str | None) -> redis.Redis:
        """A connection as a user. A refusal is final: by default it would be asked for again, for seconds."""
        once = Retry(NoBackoff(), 0)
        return redis.Redis(
            port=self.port, username=user, password=password, decode_responses=True, retry=once
        )

    def stop(self) -> None:
        """End it as the kubelet would."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGTERM)
            self._process.wait(START_SECONDS)
            self._process = None

    def _environment(self) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "AGENTPOOL_REDIS_PASSWORD_FILE": str(self.password)}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    found = Store(tmp_path)
    try:
        yield found
    finally:
        found.stop()


def test_only_the_administrator_may_enter(store: Store) -> None:
    store.start("secret-1")
    with store.client("agentpool", "secret-1") as admin:
        assert admin.ping()
    for user, password in ((None, None), ("agentpool", "wrong"), ("default", "secret-1")):
        with store.client(user, password) as stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()


def test_it_keeps_what_the_product_relies_on(store: Store) -> None:
    store.start("secret-1")
    wanted = {"maxmemory-policy": "noeviction", "appendonly": "yes", "appendfsync": "everysec", "save": ""}
    with store.client("agentpool", "secret-1") as admin:
        assert {name: admin.config_get(name)[name] for name in wanted} == wanted
        assert admin.config_get("maxmemory")["maxmemory"] == str(64 * 2**20)


def test_data_and_pools_users_outlive_a_restart_with_another_password(store: Store) -> None:
    store.start("secret-1")
    with store.client("agentpool", "secret-1") as admin:
        admin.execute_command("ACL", "SETUSER", "ap-1", "on", ">pool", "~ap:{1}:*", "+@string")
        admin.execute_command("ACL", "SAVE")
        admin.set("ap:{1}:generation", "x")
    store.stop()
    store.start("secret-2")
    with store.client("ap-1", "pool") as pool:
        assert pool.get("ap:{1}:generation") == "x"
        with pytest.raises(redis.exceptions.NoPermissionError):
            pool.get("ap:{2}:generation")
    with store.client("agentpool", "secret-2") as admin:
        assert admin.execute_command("ACL", "USERS") == ["agentpool", "ap-1", "default"]
    with store.client("agentpool", "secret-1") as late, pytest.raises(redis.AuthenticationError):
        late.ping()


def test_what_scripts_wrote_outlives_a_restart(store: Store) -> None:
    store.start("secret-1")
    script = "redis.call('SET', KEYS[1], 'a') return redis.call('HSET', KEYS[2], 'b', 'c')"
    with store.client("agentpool", "secret-1") as admin:
        admin.eval(script, 2, "{x}:one", "{x}:two")
    store.stop()
    store.start("secret-1")
    with store.client("agentpool", "secret-1") as admin:
        assert (admin.get("{x}:one"), admin.hgetall("{x}:two")) == ("a", {"b": "c"})


def test_it_is_not_ready_without_the_right_password(store: Store) -> None:
    store.start("secret-1")
    store.password.write_text("another", encoding="utf-8")
    assert not store.ready()


def test_no_password_is_written_in_clear(store: Store) -> None:
    store.start("secret-1")
    assert "secret-1" not in store.users.read_text(encoding="utf-8")
