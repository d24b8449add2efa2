# SPDX-License-Identifier: Apache-2.0
"""One agent pod as plain processes: a host and a zygote beside each other, without Kubernetes.

    python -m agentpool_agent.pod --entrypoint package.module:Class [--app-dir DIR ...] [-- HOST ARGUMENTS]

SIGTERM lets the host drain and ends with it. SIGHUP starts a new zygote, with the agent's code as it is then.
Started as root, host and zygote run as two other users, so that the kernel itself keeps the agent from the
host. Where these cannot read the interpreter or the code, it says what is missing and runs as one.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from agentpool_agent import pod_files

RESTART_SECONDS = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Waits before a zygote that ended is started again; a run of HEALTHY_SECONDS begins anew."""

HEALTHY_SECONDS = 10.0
STOP_SECONDS = 130.0
"""How long the host may drain: its own default, and some more to end."""

ZYGOTE_SOCKET = "zygote.sock"
HOST_USER = 64_010
ZYGOTE_USER = 64_011
_KEPT_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR")


class PodFailed(Exception):
    """The pod cannot be started as asked; the message says what to correct."""


@dataclass(frozen=True, slots=True)
class Users:
    """User ids, also used as group ids, of host and zygote."""

    host: int = HOST_USER
    zygote: int = ZYGOTE_USER


@dataclass(frozen=True, slots=True)
class PodSettings:
    """What one pod is started with.

    Attributes:
        entrypoint: `package.module:Class` of the agent.
        app_dirs: where the agent's code lies.
        host_arguments: passed on to `python -m agentpool_agent.host`, after `--run-dir`.
        host_environment: the host's whole environment; None: this process's own. The zygote gets neither.
        run_dir: where sockets and workers' directories are made; None: a new temporary directory.
        users: the two users when started as root; None: one user, this process's own.
        require_users: refuse to start rather than run as one user.
    """

    entrypoint: str
    app_dirs: tuple[Path, ...] = ()
    host_arguments: tuple[str, ...] = ()
    host_environment: Mapping[str, str] | None = None
    run_dir: Path | None = None
    users: Users | None = None
    require_users: bool = False


@dataclass(slots=True)
class LocalPod:
    """A running pod. `start`, then `wait` or `stop`; not to be started twice."""

    settings: PodSettings
    notes: list[str] = field(default_factory=list)
    """What is weaker than asked, one sentence each."""
    _root: Path = field(init=False)
    _temporary: tempfile.TemporaryDirectory[str] | None = None
    _users: Users | None = None
    _host: asyncio.subprocess.Process | None = None
    _zygote: asyncio.subprocess.Process | None = None
    _keeper: asyncio.Task[None] | None = None
    _reload: bool = False

    @property
    def host_pid(self) -> int | None:
        """The host's process id, once started."""
        return self._host.pid if self._host else None

    @property
    def zygote_pid(self) -> int | None:
        """The present zygote's process id, once started."""
        return self._zygote.pid if self._zygote else None

    async def start(self) -> None:
        """Start host and zygote. Raises PodFailed."""
        self._users = self._usable_users()
        await asyncio.to_thread(self._make_directories)
        self._host = await self._start_host()
        self._keeper = asyncio.get_running_loop().create_task(self._keep_zygote())

    async def wait(self) -> int:
        """Wait until the host ends by itself; ends the zygote and gives the host's exit status."""
        if self._host is None:
            raise PodFailed("the pod was not started")
        # No deadline: the host's life is the pod's.
        status = await self._host.wait()
        await self._end_zygote()
        if self._temporary is not None:
            await asyncio.to_thread(self._temporary.cleanup)
        return status

    def terminate(self) -> None:
        """Tell the host to drain and end; `wait` returns when it has."""
        if self._host is not None and self._host.returncode is None:
            self._host.terminate()

    async def stop(self, seconds: float = STOP_SECONDS) -> int:
        """Drain and end; a host that takes longer than `seconds` is killed. Gives its exit status."""
        self.terminate()
        try:
            async with asyncio.timeout(seconds):
                return await self.wait()
        except TimeoutError:
            self.kill()
            return await self.wait()

    def kill(self) -> None:
        """End the host at once, as a crash would; the zygote and its workers end with it."""
        if self._host is not None and self._host.returncode is None:
            self._host.kill()

    def reload(self) -> None:
        """Start a new zygote, which imports the agent anew; instances come back from their last commit."""
        if self._zygote is not None and self._zygote.returncode is None:
            self._reload = True
            self._zygote.kill()

    def _usable_users(self) -> Users | None:
        users = self.settings.users
        if users is None:
            return None
        problems = [] if os.getuid() == 0 else ["Only root can start processes as other users."]
        if not problems:
            paths = pod_files.code_paths(self.settings.app_dirs)
            problems = pod_files.unreadable(paths, (users.host, users.zygote))
        if not problems:
            return users
        if self.settings.require_users:
            raise PodFailed(" ".join(problems))
        self.notes += [*problems, "Host and agent run as one user."]
        return None

    def _make_directories(self) -> None:
        if self.settings.run_dir is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="agentpool-pod-", ignore_cleanup_errors=True)
            self._root = Path(self._temporary.name)
        else:
            self._root = self.settings.run_dir
        owners = None if self._users is None else (self._users.host, self._users.zygote)
        pod_files.make_run_directories(self._root, owners)

    async def _start_host(self) -> asyncio.subprocess.Process:
        given = self.settings.host_environment
        environment = dict(os.environ if given is None else given)
        arguments = ["--run-dir", str(self._root / pod_files.NURSERY), *self.settings.host_arguments]
        return await self._execute(
            "agentpool_agent.host", arguments, environment, self._users.host if self._users else None
        )

    async def _keep_zygote(self) -> None:
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            started = loop.time()
            self._zygote = await self._start_zygote()
            await self._zygote.wait()
            if loop.time() - started > HEALTHY_SECONDS or self._reload:
                failures, self._reload = 0, False
            await asyncio.sleep(RESTART_SECONDS[min(failures, len(RESTART_SECONDS) - 1)])
            failures += 1

    async def _start_zygote(self) -> asyncio.subprocess.Process:
        socket = self._root / pod_files.NURSERY / ZYGOTE_SOCKET
        arguments = ["--socket", str(socket), "--entrypoint", self.settings.entrypoint]
        arguments += ["--work-dir", str(self._root / pod_files.WORK)]
        for directory in self.settings.app_dirs:
            arguments += ["--app-dir", str(directory)]
        environment = {name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ}
        user = self._users.zygote if self._users else None
        return await self._execute("agentpool_agent.zygote", arguments, environment, user)

    async def _execute(
        self, module: str, arguments: Sequence[str], environment: Mapping[str, str], user: int | None
    ) -> asyncio.subprocess.Process:
        command = [sys.executable, "-P", "-m", module, *arguments]
        if user is None:
            return await asyncio.create_subprocess_exec(*command, env=environment, start_new_session=True)
        return await asyncio.create_subprocess_exec(
            *command,
            env=environment,
            start_new_session=True,
            user=user,
            group=user,
            extra_groups=[],
            umask=0o007,
        )

    async def _end_zygote(self) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            with suppress(asyncio.CancelledError):
                await self._keeper
        if self._zygote is not None and self._zygote.returncode is None:
            # It ends by itself when the host's socket closes, except when it never connected.
            try:
                async with asyncio.timeout(2.0):
                    await self._zygote.wait()
            except TimeoutError:
                self._zygote.kill()
                await self._zygote.wait()


def _parse(arguments: Sequence[str]) -> PodSettings:
    parser = argparse.ArgumentParser(prog="python -m agentpool_agent.pod")
    parser.add_argument("--entrypoint", required=True, help="package.module:Class of the agent")
    parser.add_argument("--app-dir", type=Path, action="append", default=[], help="where the agent's code is")
    parser.add_argument("--run-dir", type=Path, help="where sockets and workers' directories are made")
    parser.add_argument("--host-uid", type=int, default=HOST_USER, help="user of the host, as root")
    parser.add_argument("--zygote-uid", type=int, default=ZYGOTE_USER, help="user of the agent, as root")
    parser.add_argument(
        "--require-uids", action="store_true", help="refuse to run host and agent as one user"
    )
    parser.add_argument("host", nargs="*", help="arguments of the host, after --")
    given = parser.parse_args(arguments)
    users = Users(given.host_uid, given.zygote_uid) if os.getuid() == 0 or given.require_uids else None
    return PodSettings(
        entrypoint=given.entrypoint,
        app_dirs=tuple(path.resolve() for path in given.app_dir),
        host_arguments=tuple(given.host),
        run_dir=given.run_dir,
        users=users,
        require_users=given.require_uids,
    )


async def _supervise(settings: PodSettings) -> int:
    pod = LocalPod(settings)
    await pod.start()
    for note in pod.notes:
        print(f"pod: {note}", file=sys.stderr)  # noqa: T201
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, pod.terminate)
    loop.add_signal_handler(signal.SIGHUP, pod.reload)
    return await pod.wait()


def main() -> int:
    """Run one pod from the command line; gives the host's exit status."""
    try:
        return asyncio.run(_supervise(_parse(sys.argv[1:])))
    except PodFailed as exc:
        print(f"pod: {exc}", file=sys.stderr)  # noqa: T201
        return 2


if __name__ == "__main__":
    sys.exit(main())
