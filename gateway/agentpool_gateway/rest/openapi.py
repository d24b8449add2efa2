# SPDX-License-Identifier: Apache-2.0
"""The OpenAPI 3.1 document, made from the table of operations and the message types."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import msgspec

from agentpool_core.errors import AgentPoolError
from agentpool_gateway import __version__
from agentpool_gateway.dispatch.stats import FIELDS, PoolStats
from agentpool_gateway.rest import schemas
from agentpool_gateway.rest.operations import COMMON, NAMED_POOL, Operation, Parameter, placed
from agentpool_gateway.rest.problems import Problem, title_of

_REFERENCE = "#/components/schemas/{name}"
_PROBLEM = {"$ref": _REFERENCE.format(name=Problem.__name__)}
_REQUEST_ID = {
    "X-Request-Id": {"description": "The caller's own, or one made here.", "schema": {"type": "string"}}
}
_ABOUT = (
    "Requests to agents, and the instances that serve them. Every error is problem JSON (RFC 9457) with a "
    "stable `code`, a `remedy`, and whether the same request may be sent again (`retryable`)."
)


def document() -> dict[str, Any]:
    """The API document."""
    components = _schemas()
    paths: dict[str, dict[str, Any]] = {}
    for prefix, suffix, one in placed():
        paths.setdefault(prefix + one.path, {})[one.method.lower()] = _operation(one, prefix, suffix)
    for path, identity, text, kind in (
        ("/health", "gateway_health", "The gateway and the pools it serves", "application/json"),
        ("/healthz", "live", "Whether the process lives", "text/plain"),
        ("/readyz", "ready", "Whether the gateway takes requests", "text/plain"),
        ("/metrics", "gateway_metrics", "Metrics of all pools, Prometheus text format", "text/plain"),
        ("/openapi.json", "openapi", "This document", "application/json"),
        ("/docs", "docs", "This document to read", "text/html"),
    ):
        paths[path] = {"get": _plain(identity, text, kind)}
    return {
        "openapi": "3.1.0",
        "info": {"title": "AgentPool gateway", "version": __version__, "description": _ABOUT},
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}],
        "tags": [{"name": "default pool"}, {"name": "any pool"}, {"name": "gateway"}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


def _schemas() -> dict[str, Any]:
    _, components = msgspec.json.schema_components(schemas.SCHEMAS, ref_template=_REFERENCE)
    for name, text in FIELDS.items():
        components[PoolStats.__name__]["properties"][name]["description"] = text
    return components


def _operation(one: Operation, prefix: str, suffix: str) -> dict[str, Any]:
    path = prefix + one.path
    names = re.findall(r"{(\w+)}", path)
    found: dict[str, Any] = {
        "operationId": one.id + suffix,
        "tags": ["any pool" if prefix == NAMED_POOL else "default pool"],
        "summary": one.summary,
        "description": f"{one.more}\n\nNeeds the verb `{one.verb}` on the pool.".strip(),
        "parameters": [
            *(_parameter(Parameter(name, "path", name.replace("_", " ")), True) for name in names),
            *(_parameter(parameter, False) for parameter in one.parameters),
        ],
        "responses": {
            str(one.status): {
                "description": "Done.",
                "headers": _REQUEST_ID,
                **({"content": {one.media_type: {"schema": _reference(one.answer)}}} if one.answer else {}),
            },
            **_problems((*COMMON, *one.problems)),
        },
    }
    if one.body is not None:
        found["requestBody"] = {
            "required": True,
            "content": {one.takes: {"schema": _reference(one.body)}},
        }
    return found


def _reference(answer: Any) -> dict[str, Any]:
    if answer is bytes:
        return {"type": "string", "format": "binary"}
    return {"type": "string"} if answer is str else {"$ref": _REFERENCE.format(name=answer.__name__)}


def _parameter(one: Parameter, required: bool) -> dict[str, Any]:
    return {
        "name": one.name,
        "in": one.place,
        "required": required,
        "description": one.text,
        "schema": {"type": one.kind},
    }


def _problems(problems: Iterable[type[AgentPoolError]]) -> dict[str, Any]:
    by_status: dict[int, list[type[AgentPoolError]]] = {}
    for one in problems:
        by_status.setdefault(one.http_status, []).append(one)
    answers = {}
    for status, kinds in sorted(by_status.items()):
        lines = [f"- {_explained(kind)}" for kind in kinds]
        answers[str(status)] = {
            "description": "\n".join(lines),
            "headers": _REQUEST_ID,
            "content": {"application/problem+json": {"schema": _PROBLEM}},
        }
    return answers


def _explained(kind: type[AgentPoolError]) -> str:
    again = ", may be sent again" if kind.retryable else ""
    return f"`{kind.code}`: {title_of(kind)}{again}. {kind.remedy}"


def _plain(identity: str, text: str, kind: str) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"} if kind != "application/json" else {"type": "object"}
    return {
        "operationId": identity,
        "tags": ["gateway"],
        "summary": text,
        "security": [],
        "responses": {"200": {"description": "Done.", "content": {kind: {"schema": schema}}}},
    }
