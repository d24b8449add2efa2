# SPDX-License-Identifier: Apache-2.0
"""An agent that imports what agents usually import: clients for HTTP and gRPC, and models with validation.

It answers like Echo. What differs is what has to be loaded before its first answer.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

import aiohttp
import grpc
import httpx
import pydantic

from agentpool_agent import Answer, Context, Event, Request


class Settings(pydantic.BaseModel):
    """What such an agent reads at its start."""

    model: str = "none"
    temperature: float = pydantic.Field(default=0.0, ge=0, le=2)
    tools: tuple[str, ...] = ()


class Laden:
    """Answers with its input."""

    def __init__(self) -> None:
        self.settings = Settings()
        # Agents hold clients; these are never used, and the libraries have to be there all the same.
        self.libraries = (httpx.AsyncClient, aiohttp.ClientSession, grpc.Compression)

    async def setup(self, context: Context) -> None:
        """Take on the configuration."""
        self.settings = Settings.model_validate(dict(context.config))

    async def handle(self, request: Request, context: Context) -> AsyncIterator[Event]:
        """One Answer: the input."""
        context.unchanged()
        yield Answer(request.input)

    def snapshot(self) -> Mapping[str, bytes]:
        """No state."""
        return {}

    def restore(self, parts: Mapping[str, bytes]) -> None:
        """No state."""
