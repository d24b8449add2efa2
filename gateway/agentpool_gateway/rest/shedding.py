# SPDX-License-Identifier: Apache-2.0
"""The answer to a request that the gateway has no time for, made beforehand so that it costs next to nothing.

It is given before identity, path and body are looked at, and says nothing but that the gateway is busy.
"""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.types import Scope, Send

from agentpool_gateway.admission.audit import request_id
from agentpool_gateway.dispatch.overload import busy
from agentpool_gateway.rest.problems import headers_of, problem_of

_ID = "00000000-0000-0000-0000-000000000000"


def sheds(scope: Scope) -> bool:
    """Whether a request may be refused for load: what makes an agent work. What watches over the gateway and
    its pools, or takes load off them, is never refused."""
    path: str = scope["path"]
    return scope["method"] == "POST" and path.endswith(("/invoke", "/instances"))


class Refusal:
    """The refusal, but for the request's id."""

    def __init__(self) -> None:
        error = busy()
        body = msgspec.json.encode(problem_of(error, _ID))
        self._status = error.http_status
        self._headers = headers_of(error)
        self._before, self._after = body.split(_ID.encode())

    async def send(self, scope: Scope, send: Send) -> None:
        """Answer with it."""
        given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
        name = request_id(given.decode("latin-1")).encode()
        body = self._before + name + self._after
        headers = [*self._headers, (b"content-length", b"%d" % len(body)), (b"x-request-id", name)]
        start: dict[str, Any] = {"type": "http.response.start", "status": self._status, "headers": headers}
        await send(start)
        await send({"type": "http.response.body", "body": body})
