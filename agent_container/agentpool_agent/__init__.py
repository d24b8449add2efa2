# SPDX-License-Identifier: Apache-2.0
"""The agent container: the host that owns instances, the zygote and the workers that run agents.

The names below are what the author of an agent needs.
"""

from agentpool_agent.authoring import (
    Agent,
    Answer,
    Chunk,
    Context,
    Event,
    Identity,
    Rejected,
    Request,
    Span,
)

__all__ = ["Agent", "Answer", "Chunk", "Context", "Event", "Identity", "Rejected", "Request", "Span"]
