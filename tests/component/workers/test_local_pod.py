# SPDX-License-Identifier: Apache-2.0
"""One pod as plain processes: what starts, what ends with what, and which users."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from agentpool_agent.pod import LocalPod, PodFailed, PodSettings, Users
from support.workers import eventually

ECHO = "agentpool_agent.agents.echo:Echo"


def environment() -> dict[str, str]:
    key = Ed25519PrivateKey.generate().public_key()
    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    return {"PATH": os.environ["PATH"], "AGENTPOOL_PUBLIC_KEYS": pem}


@asynccontextmanager
async def pod_of(users: Users | None = None) -> AsyncIterator[LocalPod]:
    settings = PodSettings(
        ECHO,
        host_arguments=("--listen", "127.0.0.1:0", "--drain-seconds", "5"),
        host_environment=environment(),
        users=users,
    )
    pod = LocalPod(settings)
    await pod.start()
    try:
        await eventually(lambda: connected(pod))
        yield pod
    finally:
        await pod.stop(10)


def connected(pod: LocalPod) -> bool:
    """Whether a zygote lives and has its working directory cleared, so it serves."""
    return pod.zygote_pid is not None and "socket:" in links(pod.zygote_pid)


def links(pid: int) -> str:
    try:
        return " ".join(os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return ""


def alive(pid: int | None) -> bool:
    return pid is not None and Path(f"/proc/{pid}").exists()


async def test_the_zygote_ends_with_the_host() -> None:
    async with pod_of() as pod:
        zygote = pod.zygote_pid
        pod.kill()
        assert await pod.wait() == -signal.SIGKILL
        assert not alive(zygote)


async def test_a_zygote_that_ends_is_started_again_and_a_reload_makes_a_new_one() -> None:
    async with pod_of() as pod:
        first = pod.zygote_pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await eventually(lambda: pod.zygote_pid != first and connected(pod))
        second = pod.zygote_pid
        pod.reload()
        await eventually(lambda: pod.zygote_pid != second and connected(pod))
        assert alive(pod.host_pid)


async def test_a_host_that_is_told_to_end_does_so_in_good_order() -> None:
    async with pod_of() as pod:
        pod.terminate()
        assert await pod.wait() == 0


@pytest.mark.skipif(os.getuid() != 0, reason="only root starts processes as other users")
async def test_started_as_root_host_and_zygote_are_two_users() -> None:
    async with pod_of(Users()) as pod:
        if pod.notes:
            pytest.skip(" ".join(pod.notes))
        assert owner(pod.host_pid) == 64_010
        assert owner(pod.zygote_pid) == 64_011


@pytest.fixture
def private_code(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    return tmp_path


async def test_code_that_the_users_cannot_read_is_named(private_code: Path) -> None:
    settings = PodSettings(ECHO, app_dirs=(private_code,), users=Users(), require_users=True)
    with pytest.raises(PodFailed, match=r"cannot be|Only root"):
        await LocalPod(settings).start()


def owner(pid: int | None) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("Uid:")[1].split()[0])
