# SPDX-License-Identifier: Apache-2.0
"""What the end of a request says of the agent that served it (B33, X17): one rule for all who count."""

from __future__ import annotations

from agentpool_core.errors import AgentFailure, AgentPoolError

CALLERS_FAULT = 500
"""An HTTP status below says that the request was wrong, too early or too many, not that the agent failed."""


def succeeded(error: AgentPoolError | None) -> bool | None:
    """True for an answer (`error` None), False for a failure of agent, host or store, None for an end that
    says nothing of them: the caller was at fault."""
    if error is None:
        return True
    if isinstance(error, AgentFailure) or error.http_status >= CALLERS_FAULT:
        return False
    return None
