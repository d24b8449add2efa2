# SPDX-License-Identifier: Apache-2.0
"""An agent that answers with a random number."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator

from agentpool_agent import Answer, Context, Event, Request
from agentpool_agent.agents.echo import Echo


class RandomNumbers(Echo):
    """Answers with a random number."""

    async def handle(self, request: Request, context: Context) -> AsyncIterator[Event]:
        """See the class."""
        yield Answer(random.getrandbits(50))
