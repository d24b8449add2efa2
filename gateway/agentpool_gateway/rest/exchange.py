# SPDX-License-Identifier: Apache-2.0
"""One HTTP request and its answer, straight on ASGI."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, MutableMapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from starlette.types import Receive, Scope, Send

from agentpool_core.errors import AgentPoolError, InvalidRequest, MalformedRequest, PayloadTooLarge
from agentpool_gateway.admission.audit import AuditLine, HungUp, request_id
from agentpool_gateway.dispatch.overload import Ticket
from agentpool_gateway.rest.problems import headers_of, problem_of

JSON = b"application/json"
BODY_SECONDS = 30.0
"""A client that sends its body slower than this is cut off with 400."""
WATCH_SECONDS = 0.05
"""Requests that take longer are watched for the client going away; shorter ones save the task."""


class Exchange:
    """A request and the way to answer it."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, ticket: Ticket | None = None) -> None:
        self.scope = scope
        self.ticket = ticket
        self.arrived = asyncio.get_running_loop().time()
        self.started = False
        self._receive = receive
        self._send = send
        self._headers: dict[bytes, bytes] = dict(scope["headers"])
        self.request_id = request_id(self.header(b"x-request-id") or "")
        self.audit = AuditLine(self.request_id)

    @property
    def path_params(self) -> Mapping[str, str]:
        """What the path template matched."""
        params: Mapping[str, str] = self.scope.get("path_params", {})
        return params

    def header(self, name: bytes) -> str | None:
        """A header's value; the name is in lower case."""
        value = self._headers.get(name)
        return value.decode("latin-1") if value is not None else None

    def text(self, name: str) -> str | None:
        """The same, by a name in text."""
        return self.header(name.encode())

    def query(self, known: Iterable[str]) -> dict[str, str]:
        """The query's parameters; InvalidRequest for one that is not known or given twice."""
        found: dict[str, str] = {}
        for name, value in parse_qsl(self.scope["query_string"].decode("latin-1"), keep_blank_values=True):
            if name not in known:
                raise InvalidRequest(f"Unknown query parameter {name!r}.", remedy="Leave it out.")
            if name in found:
                raise InvalidRequest(f"The query parameter {name!r} is given twice.", remedy="Give it once.")
            found[name] = value
        return found

    async def body(
        self, limit: int, seconds: float = BODY_SECONDS, remedy: str = PayloadTooLarge.remedy
    ) -> bytes:
        """The whole body; PayloadTooLarge with the remedy over `limit` bytes, without reading on."""
        if self._headers.get(b"content-encoding", b"identity") != b"identity":
            raise MalformedRequest("The body has a content encoding.", remedy="Send the body as it is.")
        length = self._headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > limit:
            raise PayloadTooLarge(
                f"The body has {int(length)} bytes; at most {limit} are taken.", remedy=remedy
            )
        try:
            async with asyncio.timeout(seconds):
                return await self._collect(limit, remedy)
        except TimeoutError as exc:
            raise MalformedRequest("The body did not arrive in time.") from exc

    async def _collect(self, limit: int, remedy: str) -> bytes:
        parts: list[bytes] = []
        size = 0
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            part = message.get("body", b"")
            size += len(part)
            if size > limit:
                raise PayloadTooLarge(f"The body is longer than {limit} bytes.", remedy=remedy)
            parts.append(part)
            if not message.get("more_body", False):
                return parts[0] if len(parts) == 1 else b"".join(parts)

    async def reply(self, body: object, status: int = 200) -> None:
        """Answer with JSON."""
        await self.reply_bytes(msgspec.json.encode(body), JSON, status)

    async def reply_bytes(
        self, body: bytes, media_type: bytes, status: int = 200, headers: Iterable[tuple[bytes, bytes]] = ()
    ) -> None:
        """Answer with these bytes."""
        await self.start(status, [(b"content-type", media_type), *_length(body), *headers])
        await self._send({"type": "http.response.body", "body": body})

    async def problem(self, error: AgentPoolError) -> None:
        """Answer with an error."""
        body = msgspec.json.encode(problem_of(error, self.request_id))
        await self.start(error.http_status, [*headers_of(error), *_length(body)])
        await self._send({"type": "http.response.body", "body": body})

    async def start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """Send status and headers."""
        self.started = True
        headers.append((b"x-request-id", self.request_id.encode()))
        message: MutableMapping[str, Any] = {
            "type": "http.response.start",
            "status": status,
            "headers": headers,
        }
        await self._send(message)

    async def send_part(self, part: bytes, last: bool = False) -> None:
        """Send a part of a streamed body; waits while the client reads slower than it is sent to."""
        await self._send({"type": "http.response.body", "body": part, "more_body": not last})

    @asynccontextmanager
    async def while_connected(self) -> AsyncIterator[None]:
        """Cancel the block when the client goes away; ClientGone is raised then.

        To be entered after the body was read.
        """
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("not inside a task")
        watch = _DisconnectWatch(self._receive, task)
        try:
            yield
        except asyncio.CancelledError:
            if watch.fired and task.uncancel() == 0:
                raise ClientGone from None
            raise
        finally:
            await watch.stop()


class ClientGone(HungUp):
    """The client closed the connection; nobody reads an answer."""


class _DisconnectWatch:
    def __init__(self, receive: Receive, owner: asyncio.Task[Any]) -> None:
        self.fired = False
        self._receive = receive
        self._owner = owner
        self._task: asyncio.Task[None] | None = None
        self._timer = asyncio.get_running_loop().call_later(WATCH_SECONDS, self._begin)

    def _begin(self) -> None:
        self._task = asyncio.create_task(self._wait(), name="watch client")

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.fired = True
        self._owner.cancel()

    async def stop(self) -> None:
        self._timer.cancel()
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])


def _length(body: bytes) -> list[tuple[bytes, bytes]]:
    return [(b"content-length", str(len(body)).encode())]
