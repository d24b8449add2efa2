# SPDX-License-Identifier: Apache-2.0
"""What the operations on feature flags do, and those of OFREP, OpenFeature's remote evaluation protocol."""

from __future__ import annotations

import hashlib
import time
from datetime import UTC, datetime
from typing import TypeVar

import msgspec

from agentpool_core.errors import AgentPoolError, FlagNotFound, InvalidRequest, MalformedRequest
from agentpool_core.flags import Flag
from agentpool_gateway.admission.gate import Entry
from agentpool_gateway.rest import parsing
from agentpool_gateway.rest.exchange import JSON, Exchange
from agentpool_gateway.rest.flag_schemas import (
    EvaluationBody,
    EvaluationFailure,
    Evaluations,
    FlagBody,
    FlagChangeBody,
    FlagsView,
    change_of,
    evaluation,
    flag_of,
    flag_view,
    replaced_by,
)
from agentpool_gateway.rest.handlers import Handlers
from agentpool_gateway.settings import PoolVerb

FLAG_BYTES = 512 * 1024
"""A body that lists as many tenants and projects as a flag may."""

_Body = TypeVar("_Body", FlagBody, FlagChangeBody, EvaluationBody)
_flag = msgspec.json.Decoder(FlagBody)
_change = msgspec.json.Decoder(FlagChangeBody)
_evaluation = msgspec.json.Decoder(EvaluationBody)


async def list_flags(handlers: Handlers, exchange: Exchange) -> None:
    """All flags."""
    entry = await _enter(handlers, exchange, PoolVerb.GET)
    known, now = entry.pool.table.flags, time.time()
    flags = known.current
    views = [flag_view(flags, flags.all[name], now) for name in sorted(flags.all)]
    await exchange.reply(FlagsView(known.told.version, views))


async def get_flag(handlers: Handlers, exchange: Exchange) -> None:
    """One flag."""
    entry = await _enter(handlers, exchange, PoolVerb.GET)
    await _reply(exchange, entry, entry.pool.flags.get(exchange.path_params["flag"]))


async def put_flag(handlers: Handlers, exchange: Exchange) -> None:
    """Set a flag."""
    entry = await _enter(handlers, exchange, PoolVerb.CONFIGURE)
    name = exchange.path_params["flag"]
    flag = flag_of(name, _read(_flag, await exchange.body(FLAG_BYTES)), datetime.now(UTC))
    await _reply(exchange, entry, await entry.pool.flags.change(name, replaced_by(flag)))


async def change_flag(handlers: Handlers, exchange: Exchange) -> None:
    """Change one thing of a flag."""
    entry = await _enter(handlers, exchange, PoolVerb.CONFIGURE)
    name = exchange.path_params["flag"]
    change = change_of(name, _read(_change, await exchange.body(parsing.ENVELOPE_BYTES)))
    await _reply(exchange, entry, await entry.pool.flags.change(name, change))


async def delete_flag(handlers: Handlers, exchange: Exchange) -> None:
    """Forget what was set."""
    entry = await _enter(handlers, exchange, PoolVerb.CONFIGURE)
    await entry.pool.flags.delete(exchange.path_params["flag"])
    await exchange.reply_bytes(b"", JSON, 204)


async def evaluate_flag(handlers: Handlers, exchange: Exchange) -> None:
    """A flag's value for one project."""
    key = exchange.path_params["flag"]
    asked = await _context(handlers, exchange, key)
    if asked is None:
        return
    entry, tenant_id, project_id = asked
    try:
        flag = entry.pool.flags.get(key)
    except FlagNotFound as exc:
        await _refuse(exchange, "FLAG_NOT_FOUND", exc, key, 404)
        return
    flags = entry.pool.table.flags.current
    await exchange.reply(evaluation(flags, flag, tenant_id, project_id, time.time()))


async def evaluate_flags(handlers: Handlers, exchange: Exchange) -> None:
    """The values of all flags for one project; 304 when they are those of `If-None-Match`."""
    asked = await _context(handlers, exchange, None)
    if asked is None:
        return
    entry, tenant_id, project_id = asked
    flags, now = entry.pool.table.flags.current, time.time()
    found = [evaluation(flags, flags.all[key], tenant_id, project_id, now) for key in sorted(flags.all)]
    body = msgspec.json.encode(Evaluations(found))
    tag = '"' + hashlib.blake2b(body, digest_size=12).hexdigest() + '"'
    headers = [(b"etag", tag.encode())]
    if exchange.header(b"if-none-match") == tag:
        await exchange.reply_bytes(b"", JSON, 304, headers)
        return
    await exchange.reply_bytes(body, JSON, 200, headers)


async def _enter(handlers: Handlers, exchange: Exchange, verb: PoolVerb) -> Entry:
    entry = await handlers.enter(exchange, verb)
    exchange.query(())
    exchange.audit.names(flag=exchange.path_params.get("flag", ""))
    # A flag names tenants, and is about all of them.
    await handlers.gate.may_act_for_all(entry)
    return entry


async def _reply(exchange: Exchange, entry: Entry, flag: Flag) -> None:
    exchange.audit.names(strategy=flag.strategy if flag.enabled else "disabled")
    exchange.audit.counted(percentage=round(flag.reached(time.time())))
    await exchange.reply(flag_view(entry.pool.table.flags.current, flag, time.time()))


async def _context(handlers: Handlers, exchange: Exchange, key: str | None) -> tuple[Entry, str, str] | None:
    """Who asks, and for which tenant and project; None when that was refused in the protocol's own form."""
    entry = await handlers.enter(exchange, PoolVerb.GET)
    exchange.query(())
    try:
        body = _read(_evaluation, await exchange.body(parsing.ENVELOPE_BYTES))
    except InvalidRequest as exc:
        code = "PARSE_ERROR" if isinstance(exc, MalformedRequest) else "INVALID_CONTEXT"
        await _refuse(exchange, code, exc, key)
        return None
    try:
        tenant_id, project_id = _project(body)
    except KeyError:
        missing = InvalidRequest(
            "The context names no project: give tenant_id and project_id, or targetingKey."
        )
        await _refuse(exchange, "TARGETING_KEY_MISSING", missing, key)
        return None
    except InvalidRequest as exc:
        await _refuse(exchange, "INVALID_CONTEXT", exc, key)
        return None
    await handlers.gate.may_act_for(entry, tenant_id)
    return entry, tenant_id, project_id


def _project(body: EvaluationBody) -> tuple[str, str]:
    """Tenant and project of a context; KeyError when they are missing, InvalidRequest when they are none."""
    context = body.context
    if "tenant_id" in context:
        tenant, project = context["tenant_id"], context.get("project_id") or context["targetingKey"]
    else:
        tenant, slash, project = str(context["targetingKey"]).partition("/")
        if not slash:
            raise InvalidRequest("targetingKey is not tenant/project, and there is no tenant_id.")
    if not isinstance(tenant, str) or not isinstance(project, str):
        raise InvalidRequest("tenant_id, project_id and targetingKey have to be text.")
    return parsing.parse_name("tenant_id", tenant), parsing.parse_name("project_id", project)


async def _refuse(
    exchange: Exchange, code: str, error: AgentPoolError, key: str | None, status: int = 400
) -> None:
    await exchange.reply(EvaluationFailure(code, error.message, key), status)


def _read(decoder: msgspec.json.Decoder[_Body], body: bytes) -> _Body:
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as exc:
        raise InvalidRequest(str(exc)) from exc
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise MalformedRequest("The body is not valid JSON.") from exc
