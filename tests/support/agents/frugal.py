# SPDX-License-Identifier: Apache-2.0
"""An agent that tells what its worker made for the first time since the fork."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import AsyncIterator, Mapping
from typing import Any

from agentpool_agent import Answer, Context, Event, Request

_shared: dict[str, set[Any]] = {}


def _made() -> dict[str, set[Any]]:
    patterns = set(re._cache)  # type: ignore[attr-defined]
    return {"modules": set(sys.modules), "patterns": {str(pattern) for _, pattern, _ in patterns}}


os.register_at_fork(before=lambda: _shared.update(_made()))


class Frugal:
    """Answers with the modules and regular expressions that its process does not share with the zygote."""

    async def setup(self, context: Context) -> None:
        """Nothing to prepare."""

    async def handle(self, request: Request, context: Context) -> AsyncIterator[Event]:
        """Tell."""
        context.unchanged()
        yield Answer({name: sorted(now - _shared[name]) for name, now in _made().items()})

    def snapshot(self) -> Mapping[str, bytes]:
        """No state."""
        return {}

    def restore(self, parts: Mapping[str, bytes]) -> None:
        """No state."""
