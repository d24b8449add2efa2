# SPDX-License-Identifier: Apache-2.0
"""Each attack of a hostile agent fails, its neighbour keeps answering, and the same attack succeeds with its
guards off: so it is the guard that stops it."""

from __future__ import annotations

import os
import shutil
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from agentpool_agent.worker.isolation import probe
from support.workers import Nursery, WorkerLine, nursery_of

HOSTILE = "support.agents.hostile:Hostile"
WORKERS_UID = 64_011
SHARED_FILE = f"/dev/shm/agentpool-hostile-{os.getpid()}"

SIGNALS = ("seccomp-signals", "landlock-scopes")
# Any Landlock domain keeps its processes from tracing others.
LANDLOCK = ("landlock-files", "landlock-network", "landlock-scopes")
MEMORY = ("seccomp-memory", "not-dumpable", "no-capabilities", *LANDLOCK)
SOCKETS = ("seccomp-sockets", "landlock-network", "landlock-files")


@dataclass(frozen=True)
class Case:
    """One attack.

    Attributes:
        off: the guards that stop it, each of them alone.
        other_uid: what the kernel itself answers, without a guard, when host and workers have two uids.
    """

    name: str
    attack: str
    target: str = ""
    off: tuple[str, ...] = ()
    subject: str = "neighbour"
    other_uid: str = "done"


CASES = (
    Case("it cannot signal its neighbour", "signal", off=SIGNALS),
    Case("it cannot signal the zygote", "signal", off=SIGNALS, subject="zygote"),
    Case("it cannot have the kernel signal its neighbour", "sigio", off=SIGNALS),
    Case("it cannot trace its neighbour", "ptrace", off=MEMORY),
    Case("it cannot read its neighbour's memory by system call", "read-vm", off=MEMORY),
    Case("it cannot read its neighbour's memory by file", "read-mem", off=MEMORY),
    Case("it cannot read its neighbour's environment", "environ", off=MEMORY),
    Case("it cannot read the zygote's environment", "environ", off=MEMORY, subject="zygote"),
    Case("it cannot read its neighbour's directory", "read", "secret", ("landlock-files",)),
    Case("it cannot write into its neighbour's directory", "write", "secret", ("landlock-files",)),
    Case("it cannot read files of the machine", "read", "/etc/passwd", ("landlock-files",)),
    Case("it cannot use shared scratch space", "write", SHARED_FILE, ("landlock-files",)),
    Case("it cannot fork", "fork", off=("seccomp-processes",)),
    Case("it cannot run programs", "exec", off=("seccomp-processes", "landlock-files")),
    Case("it cannot connect to the zygote's socket", "unix", "nursery", ("seccomp-sockets",)),
    Case("it cannot send datagrams to a named socket", "datagram-pair", "datagram", ("seccomp-sockets",)),
    Case("it cannot call a port of the pod", "tcp", "port", SOCKETS),
    Case("it cannot send to a UDP port", "udp", "port", ("seccomp-sockets",)),
    Case(
        "it cannot take over the host's port",
        "bind",
        "port",
        SOCKETS,
        other_uid="Address already in use",
    ),
    Case("it cannot change its neighbour's limits", "prlimit", off=("seccomp-scheduling", "not-dumpable")),
    Case("it cannot slow its neighbour down", "renice", off=("seccomp-scheduling",)),
    Case("it cannot leave what it shares with others", "unshare", off=("seccomp-kernel",)),
    Case("it cannot hide memory in an anonymous file", "shared-memory", off=("seccomp-shared-memory",)),
)


@dataclass
class Surroundings:
    """What a hostile agent may want to reach."""

    port: int
    datagram: Path


@pytest.fixture
def surroundings(tmp_path: Path) -> Iterator[Surroundings]:
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as tcp:
        place = Path("/tmp") / f"agentpool-datagram-{os.getpid()}-{threading.get_native_id()}"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagram:
            datagram.bind(os.fspath(place))
            place.chmod(0o777)
            try:
                yield Surroundings(tcp.getsockname()[1], place)
            finally:
                place.unlink()
                Path(SHARED_FILE).unlink(missing_ok=True)


def uids() -> list[int | None]:
    """The workers' uid: the test's own, and as root another one as well."""
    return [None, WORKERS_UID] if os.getuid() == 0 else [None]


def require_guards(names: tuple[str, ...]) -> None:
    """A kernel without a guard must not look like one that passed."""
    missing = {name: reason for name, reason in probe().missing.items() if name in names}
    if missing and os.environ.get("AGENTPOOL_ALLOW_MISSING_GUARDS") == "1":
        pytest.skip(f"this kernel lacks {missing}")
    assert not missing, f"{missing}; AGENTPOOL_ALLOW_MISSING_GUARDS=1 allows it"


async def attack(nursery: Nursery, case: Case, surroundings: Surroundings) -> tuple[str, WorkerLine]:
    hostile, neighbour = await nursery.spawn(2)
    await hostile.become()
    await neighbour.become()
    secret = nursery.run_dir / "work" / f"worker-{neighbour.worker}" / "secret"
    secret.write_text("secret")
    shutil.chown(secret, secret.parent.stat().st_uid)
    target = {
        "attack": case.attack,
        "pid": neighbour.pid if case.subject == "neighbour" else nursery.process.pid,
        "port": surroundings.port,
        "path": {
            "secret": str(secret),
            "nursery": str(nursery.run_dir / "nursery.sock"),
            "datagram": str(surroundings.datagram),
        }.get(case.target, case.target),
    }
    return (await hostile.ask(target)).output, neighbour


@pytest.mark.parametrize("uid", uids(), ids=lambda uid: "one uid" if uid is None else "two uids")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_an_attack_fails_and_the_neighbour_goes_on(
    case: Case, uid: int | None, surroundings: Surroundings
) -> None:
    require_guards(case.off)
    async with nursery_of(HOSTILE, uid=uid) as nursery:
        result, neighbour = await attack(nursery, case, surroundings)
        assert result in {
            "Operation not permitted",
            "Permission denied",
            "PermissionError",
            "No such process",
        }
        assert (await neighbour.ask({"attack": "none"})).output == "KeyError"


@pytest.mark.parametrize("uid", uids(), ids=lambda uid: "one uid" if uid is None else "two uids")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_the_same_attack_succeeds_without_its_guards(
    case: Case, uid: int | None, surroundings: Surroundings
) -> None:
    async with nursery_of(HOSTILE, uid=uid, off=case.off) as nursery:
        result, _ = await attack(nursery, case, surroundings)
        assert result == ("done" if uid is None else case.other_uid)
