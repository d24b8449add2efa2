# SPDX-License-Identifier: Apache-2.0
"""Daemons by pid files that know a process from a later one with the same number."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from tools.devcluster.problem import Problem
from tools.devcluster.shell import search_path

# In the environment of every daemon and of containerd's shims: finds those whose pid file is gone.
MARK = "AGENTPOOL_DEVCLUSTER_DAEMON"
POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Daemon:
    """A program that is kept running: its name, which is its mark, and its command line."""

    name: str
    argv: tuple[str, ...]


@dataclass(frozen=True)
class Identity:
    """One process for ever: a number may come again, with its start and the boot it cannot."""

    pid: int
    started_ticks: int
    boot: str


def boot_id() -> str:
    """What tells this uptime of the machine from every other."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def started_ticks(stat: str) -> int:
    """Clock ticks between boot and start, from a /proc/PID/stat; its second field may hold spaces."""
    return int(stat.rpartition(")")[2].split()[19])


def identify(pid: int) -> Identity | None:
    """The process that has this number now, or None. A zombie counts as none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    if stat.rpartition(")")[2].split()[0] == "Z":
        return None
    return Identity(pid, started_ticks(stat), boot_id())


class PidFiles:
    """The daemons of one directory of pid files."""

    def __init__(self, directory: Path, logs: Path) -> None:
        self._directory = directory
        self._logs = logs

    def running(self, name: str) -> int | None:
        """The daemon's pid when it runs; the pid file of an ended process or boot counts for nothing."""
        recorded = self._read(name)
        return recorded.pid if recorded is not None and identify(recorded.pid) == recorded else None

    def start(self, daemon: Daemon) -> bool:
        """Start a daemon unless it runs; says whether it was started.

        The pid file is written before anything waits, so an interrupted command leaves nothing unknown.
        """
        if self.running(daemon.name) is not None:
            return False
        self._directory.mkdir(parents=True, exist_ok=True)
        lost = next((pid for pid in marked() if _runs(pid, daemon)), None)
        identity = identify(lost) if lost is not None else None
        if identity is not None:
            # It runs, only its pid file is gone: a second one could not have its port.
            self._write(daemon.name, identity)
            return False
        self._logs.mkdir(parents=True, exist_ok=True)
        log = self._logs / f"{daemon.name}.log"
        if log.exists():
            log.replace(log.with_suffix(".log.1"))
        with log.open("wb") as out:
            process = subprocess.Popen(
                daemon.argv,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd="/",
                start_new_session=True,
                env={**os.environ, "PATH": search_path(), MARK: daemon.name},
            )
        identity = identify(process.pid)
        if identity is None:
            raise Problem(f"{daemon.name} ended at once", f"read {log}")
        self._write(daemon.name, identity)
        # It is meant to outlive this command: nobody waits for it, and Python need not remind us.
        process.returncode = 0
        return True

    def stop(self, name: str, grace_seconds: float) -> None:
        """End a daemon: SIGTERM, SIGKILL after `grace_seconds`. A stale pid file goes, nobody is hurt."""
        pid = self.running(name)
        if pid is not None:
            end([pid], grace_seconds)
        (self._directory / f"{name}.json").unlink(missing_ok=True)

    def _read(self, name: str) -> Identity | None:
        try:
            return Identity(**json.loads((self._directory / f"{name}.json").read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            # Half a file, or one of another version, names nobody that may be killed.
            return None

    def _write(self, name: str, identity: Identity) -> None:
        path = self._directory / f"{name}.json"
        draft = path.with_suffix(".tmp")
        draft.write_text(json.dumps(asdict(identity)))
        draft.replace(path)


def marked() -> list[int]:
    """Every process that carries our mark in its environment, pid file or none."""
    found = []
    needle = f"{MARK}=".encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            environment = (entry / "environ").read_bytes()
        except OSError:
            # Ended meanwhile, or a kernel thread.
            continue
        if any(variable.startswith(needle) for variable in environment.split(b"\0")):
            found.append(int(entry.name))
    return found


def _runs(pid: int, daemon: Daemon) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
    except OSError:
        # Ended meanwhile.
        return False
    return tuple(word.decode(errors="replace") for word in words) == daemon.argv


def end(pids: Iterable[int], grace_seconds: float) -> None:
    """End processes and wait until they are gone. Raises `Problem` when one survives SIGKILL for 10 s."""
    identities = [identity for pid in pids if (identity := identify(pid)) is not None]
    for signum, seconds in ((signal.SIGTERM, grace_seconds), (signal.SIGKILL, 10.0)):
        identities = [one for one in identities if identify(one.pid) == one]
        for one in identities:
            _signal(one.pid, signum)
        deadline = time.monotonic() + seconds
        while any(identify(one.pid) == one for one in identities):
            if time.monotonic() > deadline:
                break
            time.sleep(POLL_SECONDS)
    left = [one.pid for one in identities if identify(one.pid) == one]
    if left:
        raise Problem(f"processes {left} do not end", "they wait in the kernel; restart the machine")


def _signal(pid: int, signum: signal.Signals) -> None:
    try:
        os.kill(pid, signum)
    except ProcessLookupError:
        # Ended between the look and the signal.
        return
