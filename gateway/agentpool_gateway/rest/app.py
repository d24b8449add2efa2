# SPDX-License-Identifier: Apache-2.0
"""The ASGI application of the REST interface."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from urllib.parse import urlsplit

import msgspec
import structlog
from starlette.routing import Match, Route
from starlette.types import Receive, Scope, Send

from agentpool_core.errors import AgentPoolError, Overloaded, PermissionDenied
from agentpool_gateway.dispatch.overload import Overload
from agentpool_gateway.rest import page
from agentpool_gateway.rest.events import SlowReader
from agentpool_gateway.rest.exchange import JSON, ClientGone, Exchange
from agentpool_gateway.rest.handlers import UNAVAILABLE, Handlers
from agentpool_gateway.rest.openapi import document
from agentpool_gateway.rest.operations import Operation, placed
from agentpool_gateway.rest.problems import MethodNotAllowed, PathNotFound
from agentpool_gateway.rest.shedding import Refusal, sheds
from agentpool_gateway.settings import is_loopback

log = structlog.get_logger(__name__)

_TEXT = b"text/plain; charset=utf-8"
_HTML = b"text/html; charset=utf-8"
Endpoint = Callable[[Exchange], Awaitable[None]]


class RestApp:
    """Routes requests to handlers and turns what they raise into problem JSON.

    Args:
        ready: whether the gateway takes requests now.
        local_pages_only: refuse requests that web pages of other origins make a browser send; without
            authentication nothing else would keep them from the agents of whoever visits such a page.
        refused: told the code of each error that a request is answered with.
        overload: refuses requests when there is too much to do.
    """

    def __init__(
        self,
        handlers: Handlers,
        ready: Callable[[], bool],
        local_pages_only: bool,
        refused: Callable[[str], None],
        overload: Overload,
    ) -> None:
        self._ready = ready
        self._refused = refused
        self._overload = overload
        self._refusal = Refusal()
        self._local_pages_only = local_pages_only
        api = document()
        self._openapi = msgspec.json.encode(api)
        self._page = page.render(api)
        routes = [
            _route(prefix + one.path, one.method, partial(_operate, one, handlers))
            for prefix, _, one in placed()
        ]
        routes += [
            _route("/health", "GET", handlers.gateway_health),
            _route("/healthz", "GET", self._live),
            _route("/readyz", "GET", self._readiness),
            _route("/metrics", "GET", handlers.gateway_metrics),
            _route("/openapi.json", "GET", self._document),
            _route("/docs", "GET", self._docs),
        ]
        self._routes = routes

    @property
    def routes(self) -> list[Route]:
        """Every route there is."""
        return self._routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return
        if not sheds(scope):
            await self._serve(Exchange(scope, receive, send))
        elif self._overload.busy():
            self._refused(Overloaded.code)
            await self._refusal.send(scope, send)
        else:
            with self._overload.ticket() as ticket:
                await self._serve(Exchange(scope, receive, send, ticket))

    async def _serve(self, exchange: Exchange) -> None:
        try:
            if self._local_pages_only and not is_local(exchange.header(b"origin")):
                raise PermissionDenied(
                    "The request comes from a web page of another origin.",
                    remedy="Use auth.mode jwt where browsers call the gateway.",
                )
            endpoint = self._find(exchange.scope)
            await endpoint(exchange)
        except ClientGone:
            return
        except SlowReader:
            log.info("slow_reader_dropped", request_id=exchange.request_id)
        except AgentPoolError as exc:
            await self._fail(exchange, exc)
        except Exception:
            log.exception("request_failed", request_id=exchange.request_id)
            await self._fail(exchange, AgentPoolError("The gateway failed on this request."))

    def _find(self, scope: Scope) -> Endpoint:
        methods: set[str] = set()
        for route in self._routes:
            match, child = route.matches(scope)
            if match is Match.FULL:
                scope["path_params"] = child["path_params"]
                endpoint: Endpoint = route.endpoint
                return endpoint
            if match is Match.PARTIAL:
                methods |= route.methods or set()
        if methods:
            allow = ", ".join(sorted(methods))
            raise MethodNotAllowed(f"The path takes {allow}.", details={"allow": allow})
        raise PathNotFound("There is no such path.")

    async def _fail(self, exchange: Exchange, error: AgentPoolError) -> None:
        self._refused(error.code)
        if not exchange.started:
            await exchange.problem(error)

    async def _live(self, exchange: Exchange) -> None:
        await exchange.reply_bytes(b"ok\n", _TEXT)

    async def _readiness(self, exchange: Exchange) -> None:
        ready = self._ready()
        await exchange.reply_bytes(
            b"ready\n" if ready else b"not ready\n", _TEXT, 200 if ready else UNAVAILABLE
        )

    async def _document(self, exchange: Exchange) -> None:
        await exchange.reply_bytes(self._openapi, JSON)

    async def _docs(self, exchange: Exchange) -> None:
        await exchange.reply_bytes(self._page, _HTML)


def is_local(origin: str | None) -> bool:
    """Whether an Origin header is absent or names a page of this machine."""
    try:
        return origin is None or is_loopback(urlsplit(origin).hostname or "")
    except ValueError:
        return False


async def _operate(one: Operation, handlers: Handlers, exchange: Exchange) -> None:
    line = exchange.audit
    line.operation, line.verb, line.privileged = one.id, one.verb, one.audited
    with line:
        await one.handler(handlers, exchange)


def _route(path: str, method: str, endpoint: Endpoint) -> Route:
    # A tenant's id may hold a slash, and no path goes on after it.
    return Route(path.replace("{tenant_id}", "{tenant_id:path}"), endpoint, methods=[method])
