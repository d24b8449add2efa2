# SPDX-License-Identifier: Apache-2.0
"""A proxy in front of a real API server that counts requests and, by a plan, breaks them.

Clients reach it over plain HTTP; it has the administrator's rights at the server.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from aiohttp import web

from support.faultplan import (
    Action,
    Answer,
    Call,
    Delay,
    Drop,
    EventRule,
    Older,
    Pass,
    Rule,
    counts,
    read_call,
)

LOOK_SECONDS = 0.25
"""How soon a watch notices that its client is gone."""
UPSTREAM_SECONDS = 60.0
_NOT_FORWARDED = {
    "host",
    "connection",
    "accept-encoding",
    "authorization",
    "content-length",
    "transfer-encoding",
}


_EXPIRED = (
    json.dumps(
        {
            "type": "ERROR",
            "object": {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"},
        }
    ).encode()
    + b"\n"
)


class FaultProxy:
    """The proxy; `open_proxy` starts one.

    Attributes:
        rules, event_rules: the plan; the first rule whose turn it is acts.
        calls: every request so far, in order.
        injected: how often each kind of fault was brought in.
        keep_lists: whether answers to lists are kept for `Older`.
        on_answer: told of each request that the server answered, with the status and the body.
    """

    def __init__(self, session: aiohttp.ClientSession, upstream: str) -> None:
        self._session = session
        self._upstream = upstream
        self.rules: list[Rule] = []
        self.event_rules: list[EventRule] = []
        self.calls: list[Call] = []
        self.injected: Counter[str] = Counter()
        self.keep_lists = False
        self.on_answer: Callable[[Call, int, bytes], None] | None = None
        self._lists: dict[str, bytes] = {}
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._watches: dict[int, web.BaseRequest] = {}
        self._writes = 0
        self._requests = 0
        self._gone: set[str] = set()
        self.url = ""

    @property
    def writes(self) -> list[Call]:
        """The writes so far, without those of Leases."""
        return [call for call in self.calls if call.write]

    @property
    def watching(self) -> int:
        """Open watches."""
        return len(self._watches)

    def reset_count(self) -> None:
        """Number writes from 1 again, and forget requests and rules."""
        self._writes = 0
        self.calls.clear()
        self.rules.clear()
        self.event_rules.clear()

    def freeze(self) -> None:
        """Watches stay open and say nothing more; new ones neither."""
        self._flowing.clear()
        self.injected["frozen watch"] += max(1, self.watching)

    def thaw(self) -> None:
        """Watches go on where they stood."""
        self._flowing.set()

    def cut_watches(self) -> None:
        """Break the connections of all watches."""
        for request in list(self._watches.values()):
            self.injected["cut watch"] += 1
            _abort(request)

    def expire(self, *resources: str) -> None:
        """The next watch on each of these says 410 at once: its resourceVersion is too old."""
        self._gone.update(resources)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """One request."""
        body = await request.read()
        agent = request.headers.get("User-Agent", "")
        call = read_call(request.method, request.path, request.query, agent)
        self._requests += 1
        self._writes += counts(call)
        number = self._writes if counts(call) else 0
        call = replace(call, number=self._requests, write=number)
        self.calls.append(call)
        action = self._action(call)
        if not isinstance(action, Pass):
            self.injected[_name(action)] += 1
        try:
            if call.verb == "watch" and isinstance(action, Pass | Delay):
                return await self._watch(request, call)
            return await self._act(request, call, action, body)
        except (aiohttp.ClientError, ConnectionError):
            _abort(request)
            return web.Response(status=502)

    def _action(self, call: Call) -> Action:
        for rule in self.rules:
            action = rule.take(call)
            if action is not None:
                return action
        return Pass()

    async def _act(
        self, request: web.BaseRequest, call: Call, action: Action, body: bytes
    ) -> web.StreamResponse:
        if isinstance(action, Older):
            kept = self._lists.get(request.path)
            if kept is not None:
                return web.Response(body=kept, content_type="application/json")
        if isinstance(action, Delay):
            await asyncio.sleep(action.seconds)
        if isinstance(action, Drop | Answer) and not action.committed:
            return await self._break(request, action)
        # The server's work goes on when the client leaves, as it does without a proxy.
        response = await asyncio.shield(self._forward(request, call, body))
        if isinstance(action, Drop | Answer):
            return await self._break(request, action)
        return response

    async def _break(self, request: web.BaseRequest, action: Drop | Answer) -> web.Response:
        if isinstance(action, Answer):
            return _status(action)
        if action.then is not None:
            await action.then()
        _abort(request)
        return web.Response(status=502)

    async def _forward(self, request: web.BaseRequest, call: Call, body: bytes) -> web.Response:
        async with self._open(request, body) as upstream:
            content = await upstream.read()
            if call.verb == "list" and self.keep_lists:
                self._lists.setdefault(request.path, content)
            if self.on_answer is not None:
                self.on_answer(call, upstream.status, content)
            kind = upstream.content_type or "application/json"
            return web.Response(status=upstream.status, body=content, content_type=kind)

    def _open(self, request: web.BaseRequest, body: bytes) -> Any:
        headers = {name: text for name, text in request.headers.items() if name.lower() not in _NOT_FORWARDED}
        # Without a body there is no content type either, and the client is not to make one up.
        return self._session.request(
            request.method,
            self._upstream + request.path_qs,
            data=body or None,
            headers=headers,
            skip_auto_headers=("Content-Type", "User-Agent"),
        )

    # Watches

    async def _watch(self, request: web.BaseRequest, call: Call) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        if call.resource in self._gone:
            self._gone.discard(call.resource)
            self.injected["410 Gone"] += 1
            return web.Response(body=_EXPIRED, content_type="application/json")
        async with self._open(request, b"") as upstream:
            if upstream.status != 200:
                return web.Response(status=upstream.status, body=await upstream.read())
            await response.prepare(request)
            self._watches[call.number] = request
            try:
                async for line in _lines(upstream.content, request):
                    await self._flow(request)
                    for _ in range(self._copies(call.resource, line)):
                        await response.write(line + b"\n")
            except ConnectionError:
                # The client left, or the connection was cut on purpose.
                return response
            finally:
                self._watches.pop(call.number, None)
        return response

    async def _flow(self, request: web.BaseRequest) -> None:
        while not self._flowing.is_set():
            if _left(request):
                raise ConnectionResetError("the client left")
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._flowing.wait()

    def _copies(self, resource: str, line: bytes) -> int:
        if not self.event_rules:
            return 1
        event = json.loads(line)
        for rule in self.event_rules:
            copies = rule.take(resource, event)
            if copies is not None:
                self.injected["dropped event" if copies == 0 else "doubled event"] += 1
                return copies
        return 1


async def _lines(content: aiohttp.StreamReader, request: web.BaseRequest) -> AsyncIterator[bytes]:
    """Whole lines until the server ends; raises ConnectionResetError when the client left."""
    rest = b""
    while not content.at_eof():
        if _left(request):
            raise ConnectionResetError("the client left")
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                rest += await content.readany()
        except TimeoutError:
            continue
        *lines, rest = rest.split(b"\n")
        for line in lines:
            yield line


def _left(request: web.BaseRequest) -> bool:
    return request.transport is None or request.transport.is_closing()


def _abort(request: web.BaseRequest) -> None:
    transport = request.transport
    if isinstance(transport, asyncio.Transport):
        transport.abort()


def _status(answer: Answer) -> web.Response:
    body = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": "brought in by the fault proxy",
        "reason": answer.reason,
        "code": answer.status,
    }
    headers = {"Retry-After": str(answer.retry_after)} if answer.retry_after is not None else {}
    return web.json_response(body, status=answer.status, headers=headers)


def _name(action: Action) -> str:
    if isinstance(action, Answer):
        return f"{action.status} {'after' if action.committed else 'before'} commit"
    if isinstance(action, Drop):
        return f"dropped {'after' if action.committed else 'before'} commit"
    return "older list" if isinstance(action, Older) else "delay"


@asynccontextmanager
async def open_proxy(
    upstream: str, *, ca_file: Path | None = None, token: str = ""
) -> AsyncIterator[FaultProxy]:
    """A proxy on a free loopback port; it ends with the block."""
    trust = ssl.create_default_context(cafile=str(ca_file)) if ca_file is not None else False
    headers = {"authorization": f"Bearer {token}"} if token else {}
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=UPSTREAM_SECONDS)
    connector = aiohttp.TCPConnector(limit=0, ssl=trust)
    async with aiohttp.ClientSession(connector=connector, headers=headers, timeout=timeout) as session:
        proxy = FaultProxy(session, upstream)
        runner = web.ServerRunner(web.Server(proxy.handle), shutdown_timeout=0.2)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            host, port = runner.addresses[0][:2]
            proxy.url = f"http://{host}:{port}"
            yield proxy
        finally:
            proxy.thaw()
            proxy.cut_watches()
            await runner.cleanup()


def write_kubeconfig(path: Path, url: str) -> None:
    """A file with which a client reaches a proxy."""
    cluster = {"name": "proxy", "cluster": {"server": url}}
    user = {"name": "proxy", "user": {"token": "unused"}}
    context = {"name": "proxy", "context": {"cluster": "proxy", "user": "proxy"}}
    config = {"clusters": [cluster], "users": [user], "contexts": [context], "current-context": "proxy"}
    path.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Config", **config}))
