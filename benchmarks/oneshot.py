# SPDX-License-Identifier: Apache-2.0
"""The way without a pool: a process that imports an agent, constructs it, answers one request and ends.

    python -m benchmarks.oneshot MODULE:CLASS STARTED < body

STARTED is when the process was asked for, on the monotonic clock. Writes one line of JSON: seconds from then
until the agent was constructed and until it had answered, and the private memory of the process at its end.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import logging
import os
import sys
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from agentpool_agent.authoring import Answer, Identity, Request
from benchmarks.processes import private_bytes

REQUEST_SECONDS = 60.0


class OneShot:
    """The Context of an agent that lives for one request."""

    identity = Identity("default", "oneshot", "bench", "oneshot", "inst-oneshot")
    config: Mapping[str, Any] = {}
    directory = Path()
    log = logging.getLogger("oneshot")

    @contextlib.asynccontextmanager
    async def exclusive(self) -> AsyncIterator[None]:
        """There is no other request."""
        yield

    def unchanged(self) -> None:
        """Nothing is kept."""


async def answer(entrypoint: str, body: bytes, started: float) -> dict[str, float]:
    """Serve the request; RuntimeError when the agent gives no answer."""
    module, _, name = entrypoint.partition(":")
    agent = getattr(importlib.import_module(module), name)()
    context = OneShot()
    await agent.setup(context)
    constructed = time.monotonic() - started
    request = Request(id="1", body=body, deadline_seconds=REQUEST_SECONDS)
    answered = [event async for event in agent.handle(request, context) if isinstance(event, Answer)]
    if len(answered) != 1:
        raise RuntimeError(f"{entrypoint} gave {len(answered)} answers")
    return {
        "constructed": constructed,
        "answered": time.monotonic() - started,
        "private_bytes": private_bytes(os.getpid()),
    }


if __name__ == "__main__":
    sys.stdout.write(
        json.dumps(asyncio.run(answer(sys.argv[1], sys.stdin.buffer.read(), float(sys.argv[2]))))
    )
