# SPDX-License-Identifier: Apache-2.0
"""A real redis-server of one's own, on a unix socket and a free loopback port in a temporary folder."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tools.ports import free_port


class RedisServer:
    """One redis-server process.

    Args:
        append: keep an append-only file, so that a restart finds the data again.
    """

    def __init__(self, *, append: bool = False, arguments: tuple[str, ...] = ()) -> None:
        # A unix socket's path may have 107 characters, which pytest's own folders can exceed.
        self._folder = Path(tempfile.mkdtemp(prefix="ap-redis-"))
        self._socket = self._folder / "redis.sock"
        self.port = free_port()
        self._arguments = (
            *("--port", str(self.port), "--bind", "127.0.0.1", "--unixsocket", str(self._socket)),
            *("--dir", str(self._folder), "--save", "", "--appendonly", "yes" if append else "no"),
            *("--enable-debug-command", "local", *arguments),
        )
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        """Of the unix socket."""
        return f"unix://{self._socket}"

    @property
    def tcp_url(self) -> str:
        """Of the loopback port."""
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start, and wait until it answers; raises TimeoutError after 10 s."""
        program = shutil.which("redis-server")
        if program is None:
            raise FileNotFoundError("redis-server is not on PATH")
        log = (self._folder / "log").open("ab")
        with log:
            self._process = subprocess.Popen(
                [program, *self._arguments], stdout=log, stderr=log, process_group=0
            )
        deadline = time.monotonic() + 10
        while not self._answers():
            if time.monotonic() > deadline:
                self.stop()
                raise TimeoutError((self._folder / "log").read_text())
            time.sleep(0.01)

    def stop(self) -> None:
        """Kill it, as a node's loss would; without `append` the data is gone."""
        if self._process is not None:
            # Its group, for a child that rewrites the append-only file would go on writing.
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """Stop the process where it stands: it accepts bytes and answers nothing."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def remove(self) -> None:
        """End it and delete its folder."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is None:
            raise RuntimeError("redis-server is not running")
        self._process.send_signal(number)

    def _answers(self) -> bool:
        with suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1)
            connection.connect(str(self._socket))
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
        return False


@contextmanager
def redis_server(*, append: bool = False, arguments: tuple[str, ...] = ()) -> Iterator[RedisServer]:
    """A server that ends with the block."""
    server = RedisServer(append=append, arguments=arguments)
    try:
        yield server
    finally:
        server.remove()
