# SPDX-License-Identifier: Apache-2.0
"""The request was under way when it failed, or the agent's own code did: 502, 504."""

from __future__ import annotations

from agentpool_core.errors.base import AgentPoolError
from agentpool_core.errors.request import InvalidRequest


class OutcomeUnknown(AgentPoolError):
    """The connection broke after the request had been accepted, or the store did not confirm its change; it
    may or may not have taken effect."""

    code = "OutcomeUnknown"
    http_status = 502
    grpc_status = "UNKNOWN"
    remedy = "Send an Idempotency-Key with requests that change state; such requests are retried for you."


class DeadlineExceeded(AgentPoolError):
    """The request's deadline passed; nothing of the request was kept."""

    code = "DeadlineExceeded"
    http_status = 504
    grpc_status = "DEADLINE_EXCEEDED"
    retryable = True
    remedy = "Give the request more time, or make it smaller."


class AgentFailure(AgentPoolError):
    """The agent's own code failed."""

    code = "AgentFailed"
    http_status = 502
    grpc_status = "INTERNAL"
    remedy = "See the agent's log; nothing of the request was kept."


class InputRejected(InvalidRequest):
    """The agent refused the input as invalid."""

    code = "InputRejected"
    remedy = "Correct the input as the agent's message says."


class AgentCreationFailed(AgentFailure):
    """The agent's constructor, setup or restore raised."""

    code = "AgentCreationFailed"
    remedy = "See the message; correct the agent's code or config."


class AgentCreationTimeout(AgentFailure):
    """Constructor and setup did not end in time."""

    code = "AgentCreationTimeout"
    http_status = 504
    grpc_status = "DEADLINE_EXCEEDED"
    retryable = True
    remedy = "Check what setup waits for (tools, connections), or raise limits.creationTimeoutSeconds."


class StateCorrupt(AgentFailure):
    """The stored state is damaged: a part does not match its digest."""

    code = "StateCorrupt"
    remedy = "The state before it is tried by itself; import a copy, or terminate the instance to start anew."


class RestoreFailed(AgentFailure):
    """The agent refused its stored state, which is kept as it is."""

    code = "RestoreFailed"
    remedy = "Run an agent that reads this state, usually the version before; then resume the instance."


class MemoryExceeded(AgentFailure):
    """The agent needed more memory than its quota; nothing of the request was kept."""

    code = "MemoryExceeded"
    remedy = "Ask for less at once, or raise quota.memory of the tier."


class StateTooLarge(AgentFailure):
    """The agent's state is over limits.stateBytes; the change was not kept."""

    code = "StateTooLarge"
    http_status = 413
    grpc_status = "FAILED_PRECONDITION"
    remedy = "Keep less state, or raise limits.stateBytes."


class AnswerTooLarge(AgentFailure):
    """The answer is over limits.answerBytes; nothing of the request was kept."""

    code = "AnswerTooLarge"
    remedy = "Answer less at once or stream chunks, or raise limits.answerBytes."
