# SPDX-License-Identifier: Apache-2.0
"""What a worker may say of itself: an error out of the agent's part of the table."""

from __future__ import annotations

from agentpool_core.errors import (
    AgentCreationFailed,
    AgentCreationTimeout,
    AgentFailure,
    AgentPoolError,
    AnswerTooLarge,
    DeadlineExceeded,
    InputRejected,
    InstanceRolledBack,
    MemoryExceeded,
    RestoreFailed,
    StateTooLarge,
    from_code,
)

MESSAGE_CHARS = 4096

WORKER_ERRORS = frozenset(
    cls.code
    for cls in (
        AgentFailure,
        AgentCreationFailed,
        AgentCreationTimeout,
        RestoreFailed,
        MemoryExceeded,
        StateTooLarge,
        AnswerTooLarge,
        InputRejected,
        DeadlineExceeded,
        InstanceRolledBack,
    )
)
"""What a worker may say of itself; a tenant's code must not speak for the host (NotOwner, Draining ..)."""


def worker_error(code: str, message: str) -> AgentPoolError:
    """The error that a worker reports."""
    return from_code(code if code in WORKER_ERRORS else AgentFailure.code, message[:MESSAGE_CHARS])
