# SPDX-License-Identifier: Apache-2.0
"""Errors of the library itself. All others are those of `agentpool_core.errors`, by the code that was
received."""

from __future__ import annotations

from agentpool_core.errors import AgentPoolError, from_code

__all__ = ["AgentPoolError", "Broken", "ClientNotOpen", "HandleReleased", "from_code"]


class HandleReleased(AgentPoolError):
    """The handle was released, or never entered; nothing was sent."""

    code = "HandleReleased"
    remedy = "Use the handle inside its `with` block, or acquire another one."


class ClientNotOpen(AgentPoolError):
    """The client was closed, or never opened; nothing was sent."""

    code = "ClientNotOpen"
    remedy = "Use the client inside its `with` block, or call open()."


class Broken(Exception):
    """A call ended with an error. Does not leave the library.

    Attributes:
        error: what the other side said; None: nothing, the connection broke.
        timed_out: the call's own deadline passed.
    """

    def __init__(self, error: AgentPoolError | None, timed_out: bool = False) -> None:
        super().__init__(error)
        self.error = error
        self.timed_out = timed_out
