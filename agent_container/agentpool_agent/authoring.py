# SPDX-License-Identifier: Apache-2.0
"""What the author of an agent writes against.

    from agentpool_agent import Answer, Chunk, Context, Event, Request

    class Greeter:
        def __init__(self) -> None:
            self.greeted = 0

        async def setup(self, context: Context) -> None: ...

        async def handle(self, request: Request, context: Context) -> AsyncIterator[Event]:
            self.greeted += 1
            yield Answer(f"Hello number {self.greeted}, {request.input}")

        def snapshot(self) -> Mapping[str, bytes]:
            return {"greeted": str(self.greeted).encode()}

        def restore(self, parts: Mapping[str, bytes]) -> None:
            self.greeted = int(parts.get("greeted", b"0"))

One object serves one tenant and project, in a process of its own.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import msgspec


@dataclass(frozen=True, slots=True)
class Request:
    """One request to the agent.

    Attributes:
        id: unique among the requests of this instance's life in this process.
        body: the input as the JSON text that the caller sent; it was not decoded on its way.
        deadline_seconds: seconds until the caller gives up; the handler is cancelled then.
    """

    id: str
    body: bytes
    deadline_seconds: float

    @property
    def input(self) -> Any:
        """The decoded input; raises `Rejected` when the text is not JSON."""
        try:
            return msgspec.json.decode(self.body)
        except msgspec.DecodeError as exc:
            raise Rejected(f"input is not JSON: {exc}") from exc


@dataclass(frozen=True, slots=True)
class Chunk:
    """A part of the answer, sent on at once; any JSON value. Chunks may leave before a change of state is
    durable; only the `Answer` says that it is."""

    data: Any


@dataclass(frozen=True, slots=True)
class Answer:
    """The end of the answer; any JSON value. A handler yields exactly one, as its last event."""

    output: Any


Event = Chunk | Answer


class Rejected(Exception):
    """Raise it from `handle` to refuse an input: the caller gets 422 with this text, and the state goes
    back to what it was before the request."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose instance this is."""

    namespace: str
    pool: str
    tenant_id: str
    project_id: str
    instance_id: str


SpanValue = str | int | float | bool
"""What an attribute of a span may be."""


class Span(Protocol):
    """One step of a request, for whoever looks at its trace; see `Context.span`."""

    def set(self, **attributes: SpanValue) -> None:
        """Say more of it: at most 16 attributes, texts of at most 256 characters. They leave the instance, so
        nothing of a tenant's data belongs into them."""

    def __enter__(self) -> Span: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    async def __aenter__(self) -> Span: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Context(Protocol):
    """What the runtime offers to the agent."""

    @property
    def identity(self) -> Identity:
        """Whose instance this is."""

    @property
    def config(self) -> Mapping[str, Any]:
        """`spec.agent.config` of the pool."""

    @property
    def directory(self) -> Path:
        """The instance's own directory, its working directory. Scratch space: it is not kept when the
        instance moves; what must live on belongs into `snapshot`."""

    @property
    def log(self) -> logging.Logger:
        """Writes to the host's log, with the instance's id."""

    def exclusive(self) -> AbstractAsyncContextManager[None]:
        """`async with context.exclusive():` one request of the instance at a time, and no snapshot in
        between; for changes that span an `await`."""

    def unchanged(self) -> None:
        """Inside `handle`: this request changed nothing, no snapshot is needed for it."""

    def span(self, name: str, **attributes: SpanValue) -> Span:
        """`with context.span("search", documents=3) as span:` (or `async with`): a step of this request in
        its trace. At most 31 for each request; outside of `handle`, or with traces off, it does nothing."""


class Agent(Protocol):
    """One agent instance. Constructed without arguments in the instance's own process.

    `snapshot` is called on the event loop between awaits, never while a handler is inside
    `context.exclusive()`; it is quick (seconds at most). Its parts are compared by identity first, then by
    digest, so returning the same bytes object for an unchanged part costs nothing. `restore` replaces the
    whole state; `restore({})` means: as new.
    """

    async def setup(self, context: Context) -> None:
        """Make ready to serve: called once, before `restore` and any request."""

    def handle(self, request: Request, context: Context) -> AsyncIterator[Event]:
        """Serve one request: an async generator of chunks and one final Answer."""

    def snapshot(self) -> Mapping[str, bytes]:
        """The whole state as named parts."""

    def restore(self, parts: Mapping[str, bytes]) -> None:
        """Take on this state instead of the present one."""


@dataclass(frozen=True, slots=True)
class Isolation:
    """What keeps a worker from the others, by name of the guard, and what is missing here with the reason."""

    guards: tuple[str, ...] = ()
    missing: Mapping[str, str] = field(default_factory=dict)
