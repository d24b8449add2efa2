# SPDX-License-Identifier: Apache-2.0
"""How a zygote starts: import the agent, make sure that it may fork, connect, serve."""

from __future__ import annotations

import gc
import hashlib
import importlib
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentpool_agent.authoring import Agent
from agentpool_agent.wire.nursery import PROTOCOL, Hello, ImportFailed
from agentpool_agent.worker.isolation import kernel, prepare, probe
from agentpool_agent.worker.isolation.limits import own_data_bytes
from agentpool_agent.worker.rehearsal import rehearse
from agentpool_agent.zygote import directories, procfs
from agentpool_agent.zygote.nursery import HostGone, HostLink, connect
from agentpool_agent.zygote.zygote import Offspring, Zygote

EXIT_IMPORT_FAILED = 3
EXIT_NO_HOST = 4


class CannotServe(Exception):
    """The agent cannot be imported, or this process may not fork after it was."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a zygote is started with.

    Attributes:
        socket: the host's socket.
        entrypoint: `package.module:Class` of the agent.
        app_dirs: put in front of the import path.
        work_dir: where workers get their own directories; a new temporary one by default.
        connect_seconds: how long to try to reach the host.
        off: guards to leave out; only tests name any.
    """

    socket: Path
    entrypoint: str
    app_dirs: tuple[Path, ...] = ()
    work_dir: Path | None = None
    connect_seconds: float = 30.0
    off: frozenset[str] = frozenset()


def load_agent(entrypoint: str) -> Callable[[], Agent]:
    """Import the agent's class; raises CannotServe and says what to correct."""
    module_name, colon, class_name = entrypoint.partition(":")
    if not colon or not module_name or not class_name:
        raise CannotServe(f"entrypoint {entrypoint!r} is not of the form package.module:Class")
    try:
        module = importlib.import_module(module_name)
    except Exception as exc:
        raise CannotServe(f"cannot import {module_name}: {type(exc).__name__}: {exc}") from exc
    found: Any = getattr(module, class_name, None)
    if not callable(found):
        raise CannotServe(f"module {module_name} has no class {class_name}")
    missing = [name for name in ("setup", "handle", "snapshot", "restore") if not hasattr(found, name)]
    if missing:
        raise CannotServe(f"{entrypoint} has no {', '.join(missing)}; see agentpool_agent.Agent")
    return found  # type: ignore[no-any-return]


def check_may_fork(threads: int) -> None:
    """Raise CannotServe unless this process has one thread: a fork copies the others' locks, not them."""
    if threads != 1:
        raise CannotServe(
            f"importing the agent started {threads - 1} threads; start threads in setup(), not at import"
        )


def loaded_files() -> dict[str, tuple[int, int]]:
    """Size and time of change of every file that a module was imported from."""
    found = {}
    for module in list(sys.modules.values()):
        name = getattr(module, "__file__", None)
        if isinstance(name, str):
            with suppress(OSError):
                status = os.stat(name)
                found[name] = (status.st_size, int(status.st_mtime))
    return found


def code_revision(files: Mapping[str, tuple[int, int]]) -> str:
    """A digest that changes with any of the files: another image, or edited code."""
    facts = "\n".join(f"{name} {size} {changed}" for name, (size, changed) in sorted(files.items()))
    return hashlib.blake2s(facts.encode(errors="replace"), digest_size=8).hexdigest()


def open_work_dir(wanted: Path | None) -> Path:
    """The directory of the workers' directories, made and emptied; raises CannotServe."""
    if wanted is None:
        return Path(tempfile.mkdtemp(prefix="agentpool-workers-"))
    try:
        wanted.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        raise CannotServe(f"the working directory {wanted} cannot be made: {exc.strerror}") from exc
    directories.clear(wanted)
    return wanted


def run(settings: Settings) -> int:
    """Be a zygote; returns the exit status once the host is gone."""
    kernel.prctl(kernel.PR_SET_DUMPABLE, 1 if "not-dumpable" in settings.off else 0)
    kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
    gc.disable()
    sys.path[:0] = [str(path.resolve()) for path in settings.app_dirs]
    try:
        make_agent = load_agent(settings.entrypoint)
        check_may_fork(procfs.own_threads())
        work_dir = open_work_dir(settings.work_dir)
    except CannotServe as exc:
        return _say_why(settings, str(exc))
    revision = code_revision(loaded_files())
    # What never changes is computed once, here, for all workers.
    prepare(work_dir, settings.off).close()
    own_data_bytes()
    rehearse(work_dir)
    gc.collect()
    gc.freeze()
    try:
        link = HostLink(connect(settings.socket, settings.connect_seconds))
        isolation = probe()
        link.send(
            Hello(
                PROTOCOL,
                settings.entrypoint,
                os.getuid(),
                list(isolation.guards),
                dict(isolation.missing),
                revision,
            )
        )
    except HostGone as exc:
        print(f"zygote: {exc}", file=sys.stderr)  # noqa: T201
        return EXIT_NO_HOST
    Zygote(link, Offspring(make_agent, work_dir, settings.off)).run()
    if settings.work_dir is None:
        work_dir.rmdir()
    return 0


def _say_why(settings: Settings, message: str) -> int:
    print(f"zygote: {message}", file=sys.stderr)  # noqa: T201
    try:
        HostLink(connect(settings.socket, settings.connect_seconds)).send(ImportFailed(message))
    except HostGone as exc:
        print(f"zygote: {exc}", file=sys.stderr)  # noqa: T201
    return EXIT_IMPORT_FAILED
