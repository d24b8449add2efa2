# SPDX-License-Identifier: Apache-2.0
"""Ports on this machine's loopback address."""

from __future__ import annotations

import errno
import socket

from agentpool_core.errors import Conflict

LOOPBACK = "127.0.0.1"


def check_free(port: int, option: str) -> int:
    """`port`, or a free one for 0. Raises Conflict when it is taken or may not be bound."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: a connection of an earlier run that lingers does not block the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as exc:
            raise _refusal(exc, port, option) from exc
        chosen: int = probe.getsockname()[1]
        return chosen


def _refusal(error: OSError, port: int, option: str) -> Conflict:
    if error.errno == errno.EADDRINUSE:
        return Conflict(
            f"Port {port} of {LOOPBACK} is in use by another program.",
            remedy=f"End that program, or choose another port with {option} (0: any free one).",
        )
    return Conflict(
        f"Port {port} of {LOOPBACK} cannot be used: {error.strerror}.",
        remedy=f"Choose a port above 1023 with {option}.",
    )
