# SPDX-License-Identifier: Apache-2.0
"""The refusal of gRPC calls that the gateway has no time for, before anything of them is read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import grpc
import grpc.aio

from agentpool_core.errors import Overloaded
from agentpool_gateway.dispatch.overload import Overload, busy
from agentpool_rpc.status import TRAILER, to_status

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
SHED = ("/Invoke", "/InvokeStream", "/CreateInstance")
"""What makes an agent work. Everything else is refused only where there are too many calls of all kinds, and
health never."""


class Shedding(grpc.aio.ServerInterceptor):
    """Refuses calls when there is too much to do.

    Args:
        service: full name of the service that it protects.
        refused: told the code of each refusal.
        full: whether there are so many calls of all kinds that further ones are refused whatever they are.
    """

    def __init__(
        self, overload: Overload, service: str, refused: Callable[[str], None], full: Callable[[], bool]
    ) -> None:
        self._overload = overload
        self._refused = refused
        self._full = full
        self._prefix = f"/{service}/"
        self._methods = frozenset(f"/{service}{method}" for method in SHED)
        error = busy()
        code, message = grpc.StatusCode[error.grpc_status], error.message
        trailer = ((TRAILER, to_status(error).SerializeToString()),)

        async def refuse(_request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
            await context.abort(code, message, trailing_metadata=trailer)

        # Without deserializer: the request is not parsed. A call with a stream of answers ends the same way.
        self._refusal: Handler = grpc.unary_unary_rpc_method_handler(refuse)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """The refusal, or whatever handles the call."""
        method = handler_call_details.method
        if (method in self._methods and self._overload.busy()) or (
            self._full() and method.startswith(self._prefix)
        ):
            self._refused(Overloaded.code)
            return self._refusal
        return await continuation(handler_call_details)
