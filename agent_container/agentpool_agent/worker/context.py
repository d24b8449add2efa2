# SPDX-License-Identifier: Apache-2.0
"""What the runtime offers to an agent: the implementation of `authoring.Context`."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

from agentpool_agent.authoring import Identity, SpanValue
from agentpool_agent.worker.gate import Gate
from agentpool_agent.worker.spans import NOT_TRACED, OpenSpan, SpanLog


class InstanceContext:
    """The context of `setup`, and the part that all requests of the instance share."""

    def __init__(self, identity: Identity, config: Mapping[str, Any], directory: Path, gate: Gate) -> None:
        self._identity = identity
        self._config = config
        self._directory = directory
        self._gate = gate
        self._log = logging.getLogger("agent")

    @property
    def identity(self) -> Identity:
        """See Context."""
        return self._identity

    @property
    def config(self) -> Mapping[str, Any]:
        """See Context."""
        return self._config

    @property
    def directory(self) -> Path:
        """See Context."""
        return self._directory

    @property
    def log(self) -> logging.Logger:
        """See Context."""
        return self._log

    def exclusive(self) -> AbstractAsyncContextManager[None]:
        """See Context."""
        return _inside(self._gate)

    def unchanged(self) -> None:
        """See Context."""
        raise RuntimeError("context.unchanged() speaks of a request: call it inside handle()")

    def span(self, name: str, **attributes: SpanValue) -> OpenSpan:
        """See Context."""
        return NOT_TRACED


class RequestContext(InstanceContext):
    """The context of one request; `on_unchanged` is told when the request declares itself so, `spans` gets
    its steps, if anybody wants them."""

    def __init__(
        self, instance: InstanceContext, on_unchanged: Callable[[], None], spans: SpanLog | None = None
    ) -> None:
        super().__init__(instance.identity, instance.config, instance.directory, instance._gate)
        self._on_unchanged = on_unchanged
        self._spans = spans
        self._inside = False

    def exclusive(self) -> AbstractAsyncContextManager[None]:
        """See Context. Raises RuntimeError when this request is inside already: it would wait for itself."""
        return self._once()

    @asynccontextmanager
    async def _once(self) -> AsyncIterator[None]:
        if self._inside:
            raise RuntimeError("this request is inside context.exclusive() already")
        async with _inside(self._gate):
            self._inside = True
            try:
                yield
            finally:
                self._inside = False

    def unchanged(self) -> None:
        """See Context."""
        self._on_unchanged()

    def span(self, name: str, **attributes: SpanValue) -> OpenSpan:
        """See Context."""
        return NOT_TRACED if self._spans is None else self._spans.open(name, attributes)


@asynccontextmanager
async def _inside(gate: Gate) -> AsyncIterator[None]:
    await gate.acquire()
    try:
        yield
    finally:
        gate.release()
