# SPDX-License-Identifier: Apache-2.0
"""Keeps one part of the pool running for as long as `agentpool dev` does."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from agentpool_cli.dev.logs import readable
from agentpool_cli.dev.orphans import end_orphans
from agentpool_cli.dev.processes import Child

FIRST_PAUSE_SECONDS = 0.1
LAST_PAUSE_SECONDS = 10.0
STEADY_SECONDS = 10.0
"""A part that ran this long and then ended is started again at once; its failure is a new one."""


class Keeper:
    """One part: started, started again with back-off when it ends by itself, and ended on request."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environ: Mapping[str, str],
        show: Callable[[str], None],
        cwd: Path,
        grace_seconds: float,
        changed: Callable[[], None],
    ) -> None:
        self.name = name
        self.command = command
        self.child: Child | None = None
        self._environ = environ
        self._show = show
        self._cwd = cwd
        self._grace_seconds = grace_seconds
        self._changed = changed
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Keep it running until `stop`."""
        loop = asyncio.get_running_loop()
        pause = FIRST_PAUSE_SECONDS
        while not self._stopping.is_set():
            started = loop.time()
            self.child = await Child.start(self.name, self.command, self._environ, self._show, self._cwd)
            self._changed()
            if self._stopping.is_set():
                # `stop` came while the process was being made and has not seen it.
                await self.child.stop(self._grace_seconds)
                return
            code = await self.child.wait()
            # A pod that was killed leaves its host behind, which would hold the port.
            await asyncio.to_thread(end_orphans)
            if self._stopping.is_set():
                return
            lived = loop.time() - started
            pause = FIRST_PAUSE_SECONDS if lived > STEADY_SECONDS else min(pause * 2, LAST_PAUSE_SECONDS)
            self._show(readable(f"ended with {_meaning(code)}; started again in {pause:.1f} s", self.name))
            await self._rest(pause)

    async def _rest(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the part, if it runs."""
        if self.child is not None:
            self.child.signal(number)

    def kill(self) -> None:
        """End the part now."""
        if self.child is not None:
            self.child.kill()

    async def stop(self) -> None:
        """End the part for good."""
        self._stopping.set()
        if self.child is not None:
            await self.child.stop(self._grace_seconds)


def _meaning(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
