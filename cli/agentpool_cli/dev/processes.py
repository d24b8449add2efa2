# SPDX-License-Identifier: Apache-2.0
"""Child processes of `agentpool dev`: started, their logs carried on, and surely ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from agentpool_cli.dev.logs import readable
from agentpool_cli.dev.orphans import kill, parents, tree

LINE_BYTES = 256 * 1024
"""A log line longer than this is cut by the reader; a child cannot fill our memory with one line."""
KILL_SECONDS = 2.0
"""A killed process is gone within this time, or the kernel holds it and nobody can help."""


class Child:
    """One running child. `show` gets every log line, made readable."""

    def __init__(
        self,
        name: str,
        process: asyncio.subprocess.Process,
        output: tuple[asyncio.StreamReader, asyncio.ReadTransport],
        show: Callable[[str], None],
    ) -> None:
        self.name = name
        self.pid = process.pid
        self.tail: list[str] = []
        self._process = process
        self._stream, self._transport = output
        self._show = show
        self._reader = asyncio.create_task(self._carry_logs())

    @classmethod
    async def start(
        cls,
        name: str,
        command: Sequence[str],
        environ: Mapping[str, str],
        show: Callable[[str], None],
        cwd: Path,
    ) -> Child:
        """Start `command` so that it ends when this process does, whatever ends it.

        It is in a session of its own: Ctrl-C reaches this process alone, which ends its children in order.
        """
        # A pipe of our own: with asyncio's, the end of a process is noticed only when every heir of its
        # output has ended as well.
        reading, writing = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "agentpool_cli.dev.bound",
                str(os.getpid()),
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=writing,
                stderr=writing,
                env=dict(environ),
                cwd=cwd,
                start_new_session=True,
            )
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        return cls(name, process, await _reader(reading), show)

    @property
    def returncode(self) -> int | None:
        """The exit code once it ended; minus the signal's number for a killed one."""
        return self._process.returncode

    async def wait(self) -> int:
        """Wait for its end and for the rest of its logs."""
        code = await self._process.wait()
        await self._finish_logs()
        return code

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, unless it has ended."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def stop(self, grace_seconds: float) -> int:
        """End it by SIGTERM, and by SIGKILL, with all below it, once the grace time is over."""
        self.signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(grace_seconds):
                await self._process.wait()
        except TimeoutError:
            self._show(readable(f"did not end within {grace_seconds:g} s and is killed", self.name))
        finally:
            # Also on cancellation: a second Ctrl-C must not leave a process behind.
            self.kill()
        async with asyncio.timeout(KILL_SECONDS):
            return await self.wait()

    def kill(self) -> None:
        """End it now, with everything below it."""
        if self._process.returncode is None:
            kill(tree(self.pid, parents()))

    async def _carry_logs(self) -> None:
        while True:
            try:
                line = await self._stream.readline()
            except ValueError:
                # readline has dropped the part of the line that it could not hold.
                line = b"(a log line over 256 kB was dropped)\n"
            if not line:
                return
            text = line.decode(errors="replace")
            self.tail = [*self.tail[-19:], text.rstrip()]
            self._show(readable(text, self.name))

    async def _finish_logs(self) -> None:
        # A grandchild that lives on would hold the pipe open; logs are not worth waiting for that.
        _, pending = await asyncio.wait({self._reader}, timeout=KILL_SECONDS)
        for task in pending:
            task.cancel()
        self._transport.close()


async def _reader(descriptor: int) -> tuple[asyncio.StreamReader, asyncio.ReadTransport]:
    stream = asyncio.StreamReader(limit=LINE_BYTES)
    file = os.fdopen(descriptor, "rb", buffering=0)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stream), file)
    return stream, transport
