# SPDX-License-Identifier: Apache-2.0
"""The zygote's end of its socket to the host: packets out without ever blocking, packets in."""

from __future__ import annotations

import os
import socket
import time
from collections import deque
from pathlib import Path

from agentpool_agent.wire.nursery import (
    MAX_PACKET_BYTES,
    Efforts,
    ToHost,
    ToZygote,
    Usage,
    encoder,
    to_zygote_decoder,
)

MAX_QUEUED = 16_384
"""Packets that wait for a host which does not read; above it the host counts as broken."""

CONNECT_RETRY_SECONDS = 0.05


class HostGone(Exception):
    """The host closed its end, or cannot be reached."""


def connect(path: Path, deadline_seconds: float) -> socket.socket:
    """Connect to the host's socket, again and again until the deadline; raises HostGone."""
    end = time.monotonic() + deadline_seconds
    while True:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            sock.connect(os.fspath(path))
        except OSError as exc:
            sock.close()
            if time.monotonic() >= end:
                raise HostGone(f"no host at {path} within {deadline_seconds:g} s: {exc}") from exc
            time.sleep(CONNECT_RETRY_SECONDS)
        else:
            return sock


class HostLink:
    """Packets to and from the host over a connected socket."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._queued: deque[tuple[bytes, int | None]] = deque()

    def fileno(self) -> int:
        """Of the socket, for a selector."""
        return self._sock.fileno()

    @property
    def backlogged(self) -> bool:
        """Whether packets wait for the host to read."""
        return bool(self._queued)

    def send(self, message: ToHost, descriptor: int | None = None) -> None:
        """Send a packet, with a descriptor that the link closes once it is on its way. What is measured is
        dropped when others wait already: the next one says the same. Raises HostGone."""
        if self._queued and isinstance(message, Usage | Efforts):
            return
        if len(self._queued) >= MAX_QUEUED:
            raise HostGone("the host does not read")
        self._queued.append((encoder.encode(message), descriptor))
        self.flush()

    def flush(self) -> None:
        """Send what waits, as far as the host takes it. Raises HostGone."""
        while self._queued:
            packet, descriptor = self._queued[0]
            try:
                if descriptor is None:
                    self._sock.send(packet)
                else:
                    socket.send_fds(self._sock, [packet], [descriptor])
            except BlockingIOError:
                return
            except OSError as exc:
                raise HostGone(str(exc)) from exc
            self._queued.popleft()
            if descriptor is not None:
                os.close(descriptor)

    def receive(self) -> ToZygote | None:
        """The next packet, or None when there is none. Raises HostGone, also for one that makes no sense."""
        try:
            packet = self._sock.recv(MAX_PACKET_BYTES)
        except BlockingIOError:
            return None
        except OSError as exc:
            raise HostGone(str(exc)) from exc
        if not packet:
            raise HostGone("the host closed the connection")
        try:
            return to_zygote_decoder.decode(packet)
        except ValueError as exc:
            raise HostGone(f"the host speaks another protocol: {exc}") from exc
