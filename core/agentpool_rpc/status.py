# SPDX-License-Identifier: Apache-2.0
"""The error tree as gRPC statuses, and back.

An error travels as its status code with `google.rpc.ErrorInfo` (reason = the error's code, domain
`agentpool.dev`) and, where waiting helps, `google.rpc.RetryInfo`, in the standard binary trailer.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, NoReturn, Protocol

import grpc
import grpc.aio
import structlog
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.code_pb2 import Code
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from agentpool_core.errors import DOMAIN, AgentPoolError, HostTooOld, from_code

TRAILER = "grpc-status-details-bin"
REMEDY = "remedy"
RETRYABLE = "retryable"

log = structlog.get_logger(__name__)


def to_status(error: AgentPoolError) -> Status:
    """The error as `google.rpc.Status`."""
    metadata = {**error.details, REMEDY: error.hint, RETRYABLE: str(error.repeatable).lower()}
    info = ErrorInfo(reason=error.code, domain=DOMAIN, metadata=metadata)
    status = Status(code=Code.Value(error.grpc_status), message=error.message)
    status.details.append(_any(info))
    if error.retry_after_seconds is not None:
        retry = RetryInfo()
        retry.retry_delay.FromMilliseconds(round(error.retry_after_seconds * 1000))
        status.details.append(_any(retry))
    return status


def _any(message: ErrorInfo | RetryInfo) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(message)
    return packed


async def abort(context: grpc.aio.ServicerContext[Any, Any], error: AgentPoolError) -> NoReturn:
    """End the call with the error."""
    status = to_status(error)
    await context.abort(
        grpc.StatusCode[error.grpc_status],
        error.message,
        trailing_metadata=((TRAILER, status.SerializeToString()),),
    )
    raise AssertionError("abort returns never")


class EndedCall(Protocol):
    """What both kinds of gRPC raise for a call that failed."""

    def code(self) -> grpc.StatusCode: ...
    def trailing_metadata(self) -> Any: ...


def from_rpc_error(error: EndedCall) -> AgentPoolError | None:
    """The error that the other side sent, HostTooOld when it does not know the method, or None when the call
    ended for a reason of transport."""
    trailers: Iterable[tuple[str, str | bytes]] = error.trailing_metadata() or ()
    for key, value in trailers:
        if key == TRAILER and isinstance(value, bytes):
            return from_status(Status.FromString(value))
    if error.code() is grpc.StatusCode.UNIMPLEMENTED:
        # gRPC itself says this of a method that the other side does not have; nothing was done.
        return HostTooOld("The host runs an earlier release, which does not know this operation.")
    return None


def from_status(status: Status) -> AgentPoolError | None:
    """The error in a `google.rpc.Status`, or None when it is not one of ours."""
    info: ErrorInfo | None = None
    retry_after: float | None = None
    for detail in status.details:
        if detail.Is(ErrorInfo.DESCRIPTOR):
            info = ErrorInfo()
            detail.Unpack(info)
        elif detail.Is(RetryInfo.DESCRIPTOR):
            retry = RetryInfo()
            detail.Unpack(retry)
            retry_after = retry.retry_delay.ToMilliseconds() / 1000
    if info is None or info.domain != DOMAIN:
        return None
    details = {key: value for key, value in info.metadata.items() if key not in (REMEDY, RETRYABLE)}
    return from_code(
        info.reason,
        status.message,
        remedy=info.metadata.get(REMEDY),
        retry_after_seconds=retry_after,
        details=details,
    )


class ErrorInterceptor(grpc.aio.ServerInterceptor):
    """Turns an AgentPoolError that a handler raises into a status, and anything else into a plain
    INTERNAL whose cause is in the log only.

    Args:
        refused: told the code of each error.
    """

    def __init__(self, refused: Callable[[str], None] = lambda _: None) -> None:
        self._refused = refused
        self.calls = 0
        """Calls that are worked on now, those apart that stream both ways."""
        self._guarded: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Wrap every kind of handler but those that stream both ways, once for all calls of a method."""
        handler = await continuation(handler_call_details)
        if handler is None or (handler.request_streaming and handler.response_streaming):
            return handler
        # Only methods that the server has get so far: their number is bounded.
        guarded = self._guarded.get(handler_call_details.method)
        if guarded is None:
            guarded = self._guarded[handler_call_details.method] = self._guard(handler)
        return guarded

    def _guard(self, handler: grpc.RpcMethodHandler[Any, Any]) -> grpc.RpcMethodHandler[Any, Any]:
        serializers = {
            "request_deserializer": handler.request_deserializer,
            "response_serializer": handler.response_serializer,
        }
        if handler.request_streaming:
            guarded = self._unary(handler.stream_unary)
            return grpc.stream_unary_rpc_method_handler(guarded, **serializers)
        if handler.response_streaming:
            guarded = self._stream(handler.unary_stream)
            return grpc.unary_stream_rpc_method_handler(guarded, **serializers)
        return grpc.unary_unary_rpc_method_handler(self._unary(handler.unary_unary), **serializers)

    def _unary(self, inner: Any) -> Any:
        async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            self.calls += 1
            try:
                return await inner(request, context)
            except Exception as exc:
                await self._ended(context, exc)
            finally:
                self.calls -= 1

        return call

    def _stream(self, inner: Any) -> Any:
        if not inspect.isasyncgenfunction(inner):
            # It writes its events itself, as the standard health service does.
            return self._unary(inner)

        async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
            self.calls += 1
            try:
                async for event in inner(request, context):
                    yield event
            except Exception as exc:
                await self._ended(context, exc)
            finally:
                self.calls -= 1

        return call

    async def _ended(self, context: grpc.aio.ServicerContext[Any, Any], error: Exception) -> NoReturn:
        if isinstance(error, grpc.aio.AbortError):
            raise error
        if not isinstance(error, AgentPoolError):
            log.exception("call_failed")
            error = AgentPoolError("The component failed on this call.")
        self._refused(error.code)
        await abort(context, error)
