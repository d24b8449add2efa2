# SPDX-License-Identifier: Apache-2.0
"""Errors as RFC 9457 problem JSON."""

from __future__ import annotations

import math
import re
from typing import ClassVar

import msgspec

from agentpool_core.errors import AgentPoolError, NotFound, Unauthenticated

MEDIA_TYPE = b"application/problem+json"
TYPE_PREFIX = "https://agentpool.dev/problems/"


class MethodNotAllowed(AgentPoolError):
    """The path exists, the method does not."""

    code: ClassVar[str] = "MethodNotAllowed"
    http_status: ClassVar[int] = 405
    grpc_status: ClassVar[str] = "UNIMPLEMENTED"
    remedy: ClassVar[str] = "Use one of the methods in the Allow header."


class PathNotFound(NotFound):
    """No such path."""

    code: ClassVar[str] = "PathNotFound"
    remedy: ClassVar[str] = "See /docs or /openapi.json for the paths there are."


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """An error answer. `code` is stable, `detail` is for people, `instance` is the request's id."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    remedy: str
    retryable: bool
    retry_after_seconds: float | None = None
    details: dict[str, str] = {}


def problem_of(error: AgentPoolError, request_id: str) -> Problem:
    """The problem document of an error."""
    return Problem(
        type=TYPE_PREFIX + error.code,
        title=title_of(type(error)),
        status=error.http_status,
        detail=error.message,
        instance=request_id,
        code=error.code,
        remedy=error.hint,
        retryable=error.repeatable,
        retry_after_seconds=error.retry_after_seconds,
        details=error.details,
    )


def headers_of(error: AgentPoolError) -> list[tuple[bytes, bytes]]:
    """What an error answer carries besides the document."""
    headers = [(b"content-type", MEDIA_TYPE), (b"cache-control", b"no-store")]
    if error.retry_after_seconds is not None:
        # The header takes whole seconds; the document has the precise value.
        seconds = max(math.ceil(error.retry_after_seconds), 1)
        headers.append((b"retry-after", str(seconds).encode()))
    if isinstance(error, Unauthenticated):
        headers.append((b"www-authenticate", b'Bearer realm="agentpool"'))
    if isinstance(error, MethodNotAllowed) and "allow" in error.details:
        headers.append((b"allow", error.details["allow"].encode()))
    return headers


def title_of(error: type[AgentPoolError]) -> str:
    """The code in words: the same for every occurrence."""
    return re.sub(r"(?<!^)(?=[A-Z])", " ", error.code).capitalize()
