# SPDX-License-Identifier: Apache-2.0
"""The smallest agent: it answers with its input and keeps nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

from agentpool_agent.authoring import Answer, Context, Event, Request


class Echo:
    """Answers with its input."""

    async def setup(self, context: Context) -> None:
        """Nothing to make ready."""

    async def handle(self, request: Request, context: Context) -> AsyncIterator[Event]:
        """One Answer: the input."""
        context.unchanged()
        yield Answer(request.input)

    def snapshot(self) -> Mapping[str, bytes]:
        """No state."""
        return {}

    def restore(self, parts: Mapping[str, bytes]) -> None:
        """No state."""
