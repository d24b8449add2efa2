# SPDX-License-Identifier: Apache-2.0
"""A small stand-in for an API server, with troubles that a real one cannot be asked for."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web

from support.callers import TokenIssuer

Object = dict[str, Any]
CLUSTER_ISSUER = "https://kubernetes.test"
POOLS = "agentpools"
PODS = "pods"


class KubeApi:
    """Pools and pods with list and watch, access reviews, and the issuer's documents.

    Attributes:
        allows: decides on the attributes of an access review.
        away: answer everything with 503.
        missing: a kind that the server does not know.
        silent: watches bring nothing, not even their end.
        issuer: signs the tokens of its ServiceAccounts.
        calls: method and path of every call, in order.
    """

    def __init__(self) -> None:
        self.allows: Callable[[str, Mapping[str, str]], bool] = lambda user, attributes: True
        self.away = False
        self.missing = ""
        self.silent = False
        self.issuer = TokenIssuer("cluster")
        self.calls: list[tuple[str, str]] = []
        self.url = ""
        self._version = 1
        self._oldest = 0
        self._objects: dict[str, dict[str, Object]] = {POOLS: {}, PODS: {}}
        self._log: list[tuple[int, str, str, Object]] = []
        self._changed = asyncio.Condition()
        self._cut = 0

    def account(self, namespace: str, name: str, **claims: Any) -> str:
        """The token of a ServiceAccount."""
        return self.issuer.token(
            f"system:serviceaccount:{namespace}:{name}", **{"iss": CLUSTER_ISSUER, **claims}
        )

    def kubeconfig(self, path: Path) -> Path:
        """Write a kubeconfig for it."""
        config = {
            "current-context": "fake",
            "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "fake"}}],
            "clusters": [{"name": "fake", "cluster": {"server": self.url}}],
            "users": [{"name": "fake", "user": {"token": "t"}}],
        }
        path.write_text(yaml.safe_dump(config))
        return path

    async def put(self, plural: str, body: Object) -> None:
        """Make or change an object."""
        objects, name = self._objects[plural], body["metadata"]["name"]
        await self._tell(plural, "MODIFIED" if name in objects else "ADDED", body)
        objects[name] = body

    async def delete(self, plural: str, name: str) -> None:
        """Delete an object."""
        await self._tell(plural, "DELETED", self._objects[plural].pop(name))

    async def expire(self, forget: bool = True) -> None:
        """Cut all watches; with `forget` none may go on from a version of before."""
        async with self._changed:
            self._cut += 1
            if forget:
                self._version += 1
                self._oldest = self._version
                self._log.clear()
            self._changed.notify_all()

    @property
    def lists(self) -> int:
        """How often pods were listed."""
        return sum(path == "list pods" for _, path in self.calls)

    async def _tell(self, plural: str, kind: str, body: Object) -> None:
        async with self._changed:
            self._version += 1
            body = {**body, "metadata": {**body["metadata"], "resourceVersion": str(self._version)}}
            self._log.append((self._version, plural, kind, body))
            self._changed.notify_all()

    # HTTP.

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Any call."""
        plural = request.path.rsplit("/", 1)[-1]
        listing = plural in self._objects and "watch" not in request.query
        self.calls.append((request.method, f"list {plural}" if listing else request.path))
        if self.away:
            return _status(503, "ServiceUnavailable")
        if request.path.endswith("accessreviews"):
            return await self._review(request)
        if request.path == "/openid/v1/jwks":
            return web.json_response(self.issuer.jwks())
        if request.path == "/.well-known/openid-configuration":
            return web.json_response({"issuer": CLUSTER_ISSUER})
        if plural not in self._objects or plural == self.missing:
            return _status(404, "NotFound")
        if listing:
            items = list(self._objects[plural].values())
            return web.json_response({"items": items, "metadata": {"resourceVersion": str(self._version)}})
        return await self._watch(request, plural)

    async def _review(self, request: web.Request) -> web.Response:
        spec = (await request.json())["spec"]
        allowed = self.allows(spec["user"], spec["resourceAttributes"])
        return web.json_response({"status": {"allowed": allowed}}, status=201)

    async def _watch(self, request: web.Request, plural: str) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"content-type": "application/json"})
        await answer.prepare(request)
        version, cut = int(request.query["resourceVersion"]), self._cut
        if version < self._oldest:
            await _send(answer, "ERROR", {"kind": "Status", "code": 410, "reason": "Expired"})
            return answer
        while self._cut == cut:
            if not self.silent:
                for at, _, kind, body in [one for one in self._log if one[0] > version and one[1] == plural]:
                    await _send(answer, kind, body)
                    version = at
            async with self._changed:
                if not any(one[0] > version and one[1] == plural for one in self._log) or self.silent:
                    await self._changed.wait()
        return answer


async def _send(answer: web.StreamResponse, kind: str, body: Object) -> None:
    await answer.write(json.dumps({"type": kind, "object": body}).encode() + b"\n")


def _status(code: int, reason: str) -> web.Response:
    return web.json_response({"kind": "Status", "code": code, "reason": reason}, status=code)


@asynccontextmanager
async def kube_api() -> AsyncIterator[KubeApi]:
    """A server on loopback that ends with the block."""
    api = KubeApi()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", api.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        api.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield api
        await api.expire()
    finally:
        await runner.cleanup()
