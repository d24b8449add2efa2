# SPDX-License-Identifier: Apache-2.0
"""Ports for servers that are told theirs when they start."""

from __future__ import annotations

import secrets
import socket

FIRST, LAST = 20_000, 32_000
"""Below those that the kernel gives to whoever asks for any, as hosts do that start meanwhile."""


def free_port() -> int:
    """A port of the loopback address that nobody uses now."""
    while True:
        port = FIRST + secrets.randbelow(LAST - FIRST)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
