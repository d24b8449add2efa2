# SPDX-License-Identifier: Apache-2.0
"""Operators as processes that can be killed, frozen and thawed.

They are forked from a server that has imported everything: a start costs a fraction of a second instead of
several. What runs in them is the operator's own `App`.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from agentpool_operator.app import App
from agentpool_operator.settings import Settings
from agentpool_rpc.logs import configure_logs
from faults.planted import PLANTS
from support.waiting import eventually

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["faults.process"])
END_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Start:
    """What an operator process is given.

    Attributes:
        plant: name of a bug of `planted.PLANTS` to put in; empty: none.
    """

    settings: Settings
    kubeconfig: Path
    log: Path
    plant: str = ""


def run_operator(start: Start) -> None:
    """The process."""
    descriptor = os.open(start.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    os.environ["KUBECONFIG"] = str(start.kubeconfig)
    if start.plant:
        PLANTS[start.plant].put_in()
    configure_logs("operator", "INFO", False)
    raise SystemExit(asyncio.run(_run(start.settings)))


async def _run(settings: Settings) -> int:
    return await App(settings).run()


class OperatorProcess:
    """One operator."""

    def __init__(self, start: Start) -> None:
        self._process: ForkServerProcess = _context.Process(target=run_operator, args=(start,))
        self.identity = start.settings.identity

    async def start(self) -> None:
        """Have it run."""
        await asyncio.to_thread(self._process.start)

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.is_alive()

    @property
    def exit_code(self) -> int | None:
        """Its exit status; None while it runs."""
        return self._process.exitcode

    async def kill(self) -> None:
        """SIGKILL, and wait for its end."""
        if self.alive:
            self._process.kill()
        await eventually(lambda: not self.alive, END_SECONDS)

    async def end(self) -> None:
        """SIGTERM, and wait for its end."""
        self._process.terminate()
        await eventually(lambda: not self.alive, END_SECONDS)

    def freeze(self) -> None:
        """SIGSTOP."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process.pid is None:
            raise RuntimeError("the operator is not running")
        os.kill(self._process.pid, number)
