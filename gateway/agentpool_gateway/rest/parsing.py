# SPDX-License-Identifier: Apache-2.0
"""Reading what callers send: bodies, headers and parameters, of REST and in part of gRPC."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

import msgspec

from agentpool_core.errors import InvalidRequest, MalformedRequest, PayloadTooLarge
from agentpool_core.lifecycle import State, Tier
from agentpool_core.names import MAX_NAME_CHARS
from agentpool_gateway.dispatch.listing import MAX_LIMIT, ListQuery
from agentpool_gateway.rest.schemas import AcquireBody, CreateBody, InvokeBody, MoveBody, ReleaseBody
from agentpool_proto.v1.host_pb2 import ImportTarget

ENVELOPE_BYTES = 16 * 1024
"""Room for the envelope around `input`: two ids at their longest, escaped, and spaces."""
MAX_KEY_CHARS = 255
AUTO = "AUTO"
"""In place of a tier: the pool decides."""

_Body = TypeVar("_Body", InvokeBody, CreateBody, MoveBody, AcquireBody, ReleaseBody)
_invoke = msgspec.json.Decoder(InvokeBody)
_create = msgspec.json.Decoder(CreateBody)
_move = msgspec.json.Decoder(MoveBody)
_acquire = msgspec.json.Decoder(AcquireBody)
_release = msgspec.json.Decoder(ReleaseBody)


def parse_invoke(body: bytes, input_limit: int) -> InvokeBody:
    """The envelope of an invoke; MalformedRequest, InvalidRequest or PayloadTooLarge."""
    parsed = _parse(_invoke, body)
    if len(parsed.input) > input_limit:
        raise PayloadTooLarge(f"The input has {len(parsed.input)} bytes; the pool takes {input_limit}.")
    return parsed


def parse_create(body: bytes) -> CreateBody:
    """The body of a create; MalformedRequest or InvalidRequest."""
    return _parse(_create, body)


def parse_acquire(body: bytes) -> AcquireBody:
    """The body of an acquire; MalformedRequest or InvalidRequest."""
    return _parse(_acquire, body)


def parse_release(body: bytes) -> ReleaseBody:
    """The body of a release; MalformedRequest or InvalidRequest."""
    return _parse(_release, body)


def parse_move(body: bytes) -> Tier | None:
    """The tier in the body of a move, None for AUTO; MalformedRequest or InvalidRequest."""
    return parse_moved_tier(_parse(_move, body).tier)


def parse_moved_tier(value: str) -> Tier | None:
    """The tier of a move by name, None for AUTO; InvalidRequest."""
    if value not in (*Tier, AUTO):
        raise InvalidRequest(f"tier is not one of {', '.join(Tier)}, {AUTO}.")
    return Tier(value) if value != AUTO else None


IMPORT_PARAMETERS = ("tenant_id", "project_id", "tier", "replace")


def parse_import(query: dict[str, str]) -> ImportTarget:
    """Where an archive goes, by the parameters of the query; InvalidRequest."""
    replace = query.get("replace", "false")
    if replace not in ("true", "false"):
        raise InvalidRequest("replace is not one of true, false.")
    return ImportTarget(
        tenant_id=parse_name("tenant_id", query.get("tenant_id", "")),
        project_id=parse_name("project_id", query.get("project_id", "")),
        tier=parse_tier(query.get("tier", "")) or "",
        replace=replace == "true",
    )


def parse_name(field: str, value: str) -> str:
    """The id of a tenant or project, as it is; InvalidRequest."""
    if not 0 < len(value) <= MAX_NAME_CHARS or any(char < " " or char == "\x7f" for char in value):
        raise InvalidRequest(
            f"{field} has to have 1 to {MAX_NAME_CHARS} characters, none of them control characters."
        )
    return value


def _parse(decoder: msgspec.json.Decoder[_Body], body: bytes) -> _Body:
    try:
        # The raw input is passed on unread, so its encoding is checked here or nowhere.
        if not body.isascii():
            body.decode()
        return decoder.decode(body)
    except msgspec.ValidationError as exc:
        raise InvalidRequest(str(exc)) from exc
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise MalformedRequest("The body is not valid JSON.") from exc


def parse_timeout(value: str | None) -> float | None:
    """Seconds of an X-Request-Timeout header; None without one."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds > 0):
        raise InvalidRequest(
            "X-Request-Timeout is not a number of seconds.", remedy="Give seconds above 0, such as 2.5."
        )
    return seconds


def parse_idempotency_key(value: str | None) -> str:
    """The Idempotency-Key, empty without one."""
    if value is None:
        return ""
    if not 0 < len(value) <= MAX_KEY_CHARS or not (value.isascii() and value.isprintable()):
        raise InvalidRequest(
            "Idempotency-Key is not usable.", remedy=f"Give 1 to {MAX_KEY_CHARS} printable ASCII characters."
        )
    return value


LIST_PARAMETERS = ("tenant_id", "project_id", "tier", "state", "cursor", "limit")


def parse_list_query(query: dict[str, str], visible: Callable[[str], bool] | None) -> ListQuery:
    """Filters and paging of a list of instances, for a caller who may see these tenants."""
    return ListQuery(
        tenant_id=query.get("tenant_id", ""),
        project_id=query.get("project_id", ""),
        tier=parse_tier(query.get("tier", "")),
        state=parse_state(query.get("state", "")),
        cursor=query.get("cursor", ""),
        limit=parse_limit(query.get("limit", "100")),
        visible=visible,
    )


def parse_tier(value: str) -> Tier | None:
    """A tier by name; None for an empty text."""
    try:
        return Tier(value) if value else None
    except ValueError as exc:
        raise InvalidRequest("tier is not one of " + ", ".join(Tier) + ".") from exc


def parse_state(value: str) -> State | None:
    """A state by name; None for an empty text."""
    try:
        return State(value) if value else None
    except ValueError as exc:
        raise InvalidRequest("state is not one of " + ", ".join(State) + ".") from exc


def parse_strong(value: str) -> bool:
    """Whether a consistency is `strong`; InvalidRequest when it is neither of the two."""
    if value not in ("strong", "available", ""):
        raise InvalidRequest("consistency is not one of available, strong.")
    return value == "strong"


def parse_limit(value: str) -> int:
    """How many items a page has."""
    if not (value.isascii() and value.isdecimal() and 1 <= int(value[:9]) <= MAX_LIMIT and len(value) <= 9):
        raise InvalidRequest(f"limit is not a number from 1 to {MAX_LIMIT}.")
    return int(value)
