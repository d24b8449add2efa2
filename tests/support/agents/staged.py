# SPDX-License-Identifier: Apache-2.0
"""An agent whose project says how far it comes in its life."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

from agentpool_agent import Answer, Context, Event, Request

SLOW_SECONDS = 4.0


class Staged:
    """In a project `slow-*` it takes its time to be ready, in `broken-*` it never is; otherwise it answers, a
    number after so many seconds."""

    async def setup(self, context: Context) -> None:
        """See the class."""
        project = context.identity.project_id
        if project.startswith("slow-"):
            await asyncio.sleep(SLOW_SECONDS)
        if project.startswith("broken-"):
            raise RuntimeError("no database")

    async def handle(self, request: Request, context: Context) -> AsyncIterator[Event]:
        """Wait as long as told."""
        if isinstance(request.input, float):
            await asyncio.sleep(request.input)
        yield Answer("done")

    def snapshot(self) -> Mapping[str, bytes]:
        """Nothing of note."""
        return {"state": b"kept"}

    def restore(self, parts: Mapping[str, bytes]) -> None:
        """It is as it was."""
