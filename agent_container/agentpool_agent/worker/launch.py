# SPDX-License-Identifier: Apache-2.0
"""What a worker does between the fork and its event loop."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import resource
import socket
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from agentpool_agent.authoring import Agent, Isolation
from agentpool_agent.wire.frames import Limits
from agentpool_agent.worker.channel import StreamChannel
from agentpool_agent.worker.isolation import Report, apply_isolation, prepare, secure_process
from agentpool_agent.worker.isolation.limits import THREAD_STACK_BYTES, own_data_bytes
from agentpool_agent.worker.output import redirect
from agentpool_agent.worker.runtime import EXIT_BROKEN, EXIT_OK, Surroundings, Worker

SOCKET_FD = 3


@dataclass(frozen=True, slots=True)
class Birth:
    """What a new worker gets from the zygote.

    Attributes:
        socket_fd: its end of the socket pair with the host.
        parent: process id of the zygote.
        off: guards to leave out; only tests name any.
    """

    socket_fd: int
    parent: int
    directory: Path
    make_agent: Callable[[], Agent]
    off: frozenset[str] = frozenset()


NICENESS = 5
"""An agent that computes has a third of the weight of zygote, host and gateway where they share cores: these
work for all, and have little to do for one."""


def live(birth: Birth) -> NoReturn:
    """Be a worker until the end; called in the child right after the fork, never returns."""
    status = EXIT_BROKEN
    try:
        report = Report()
        secure_process(report, birth.off)
        # The zygote may have ended before the line above asked to die with it.
        if os.getppid() == birth.parent:
            os.nice(NICENESS)
            _close_inherited(birth.socket_fd)
            _reseed()
            gc.enable()
            threading.stack_size(THREAD_STACK_BYTES)
            isolate = _isolation(birth, report)
            asyncio.set_event_loop(loop := asyncio.new_event_loop())
            worker = Worker(Surroundings(birth.make_agent, birth.directory, isolate, os._exit))
            loop.run_until_complete(_serve(worker))
            status = EXIT_OK
    finally:
        # Not sys.exit: the zygote's own clean-up handlers are in this process, too.
        os._exit(status)


def _isolation(birth: Birth, report: Report) -> Callable[[Limits], Isolation]:
    data_at_fork = own_data_bytes()
    usual = prepare(birth.directory, birth.off)

    def isolate(limits: Limits) -> Isolation:
        _move_to(birth.directory)
        prepared = usual
        if limits.network or limits.subprocesses:
            usual.close()
            prepared = prepare(
                birth.directory, birth.off, network=limits.network, subprocesses=limits.subprocesses
            )
        apply_isolation(limits, prepared, data_at_fork, report, birth.off)
        return report.frozen()

    return isolate


async def _serve(worker: Worker) -> None:
    sock = socket.socket(fileno=SOCKET_FD)
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    _, channel = await loop.create_connection(lambda: StreamChannel(worker.on_frame), sock=sock)
    worker.attach(channel)
    redirect(channel)
    await channel.lost


def _move_to(directory: Path) -> None:
    os.chdir(directory)
    os.environ.update(TMPDIR=str(directory), HOME=str(directory))
    tempfile.tempdir = None


def _close_inherited(socket_fd: int) -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nothing, standard)
    if socket_fd != SOCKET_FD:
        os.dup2(socket_fd, SOCKET_FD, inheritable=False)
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    os.closerange(SOCKET_FD + 1, soft)


def _reseed() -> None:
    random.seed()
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed()
